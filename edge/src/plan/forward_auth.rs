//! Another service that decides about requests.

use std::time::Duration;

use http::{header, HeaderMap, HeaderName};

use super::field_name::is_like;

/// The service, and what it is told and tells.
#[derive(Debug)]
pub struct ForwardAuth {
    /// The index of its servers in [`Plan::clusters`](super::Plan::clusters).
    pub cluster: usize,
    /// The value of Host.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// The fields of the request that it is told; all when there are none.
    pub request: Vec<HeaderName>,
    /// The fields of its answer that go on to the server.
    pub upstream: Vec<HeaderName>,
    /// The fields of a refusal that the client is told; all when there are none.
    pub response: Vec<HeaderName>,
    /// The time limit.
    pub timeout: Duration,
}

/// Fields that are of one connection or one body, or conditions of the request itself: an answer to them would say nothing
/// of who asks.
const OF_MESSAGE: [HeaderName; 14] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

impl ForwardAuth {
    /// Tells whether the service is told a field of the request.
    pub fn tells(&self, name: &HeaderName) -> bool {
        let told = self.request.is_empty() || self.request.contains(name);
        let text = name.as_str();
        told && !OF_MESSAGE.contains(name) && !text.starts_with("if-") && !self.sets(name)
    }

    /// Tells whether the file names a field that the service is told.
    pub fn names(&self, name: &HeaderName) -> bool {
        self.request.contains(name)
    }

    /// Tells whether a field is one that the service alone may set: for programs that take `_` and `-` for the same, too.
    pub fn sets(&self, name: &HeaderName) -> bool {
        self.upstream.iter().any(|set| is_like(name, set.as_str()))
    }

    /// Returns the fields of a refusal that the client is told.
    pub fn refusal<'h>(
        &self,
        headers: &'h HeaderMap,
    ) -> impl Iterator<Item = (&'h HeaderName, &'h http::HeaderValue)> + use<'h, '_> {
        let left_out = |name: &HeaderName| match *name {
            header::CONTENT_TYPE | header::CONTENT_ENCODING => false,
            header::DATE | header::SERVER => true,
            _ => OF_MESSAGE.contains(name),
        };
        let told = |name: &HeaderName| self.response.is_empty() || self.response.contains(name);
        headers
            .iter()
            .filter(move |(name, _)| told(name) && !left_out(name))
    }
}
