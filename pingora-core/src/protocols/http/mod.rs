//! HTTP: what its versions share.

use bytes::Bytes;
use http::HeaderMap;
use pingora_error::BError;
use pingora_http::ResponseHeader;

pub mod authority;
pub mod body_buffer;
pub mod bridge;
pub mod client;
pub mod compression;
pub mod conditional_filter;
mod connection_settings;
pub mod custom;
pub mod date;
mod drain;
pub mod error_resp;
pub mod server;
pub mod subrequest;
mod tasks;
pub(crate) mod trailers;
pub mod v1;
pub mod v2;

pub use connection_settings::ConnectionSettings;
pub use server::{RefusedRequest, ReusableHttpStream, Session as ServerSession};

/// The value of the `Server` field of responses that the proxy itself makes.
pub const SERVER_NAME: &[u8; 7] = b"Pingora";

/// One step of a response, the same for every HTTP version.
///
/// A response is any number of informational headers, one final header, body chunks and perhaps
/// trailers. The step for which [`is_end`](Self::is_end) holds is the last one.
#[derive(Debug)]
pub enum HttpTask {
    /// A response header, and whether the response ends with it.
    Header(Box<ResponseHeader>, bool),
    /// A chunk of the body, and whether it is the last one.
    Body(Option<Bytes>, bool),
    /// A chunk of the raw stream after the connection was upgraded, and whether it is the last.
    UpgradedBody(Option<Bytes>, bool),
    /// The trailers; they end the response.
    Trailer(Option<Box<HeaderMap>>),
    /// The response ends without further data.
    Done,
    /// The response was cut short by an error.
    Failed(BError),
}

impl HttpTask {
    /// Returns whether no further step follows this one.
    pub fn is_end(&self) -> bool {
        match self {
            HttpTask::Header(_, end) | HttpTask::Body(_, end) | HttpTask::UpgradedBody(_, end) => {
                *end
            }
            HttpTask::Trailer(_) | HttpTask::Done | HttpTask::Failed(_) => true,
        }
    }

    /// The name of the variant, for logs.
    pub fn type_str(&self) -> &'static str {
        match self {
            HttpTask::Done => "Done",
            HttpTask::Failed(_) => "Failed",
            HttpTask::Header(..) => "Header",
            HttpTask::Body(..) => "Body",
            HttpTask::UpgradedBody(..) => "UpgradedBody",
            HttpTask::Trailer(_) => "Trailer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora_error::{Error, ErrorType};

    #[test]
    fn which_tasks_end_a_response() {
        let header =
            |end| HttpTask::Header(Box::new(ResponseHeader::build(200, None).unwrap()), end);
        let cases = [
            (header(false), false, "Header"),
            (header(true), true, "Header"),
            (HttpTask::Body(None, false), false, "Body"),
            (HttpTask::Body(Some(Bytes::new()), true), true, "Body"),
            (HttpTask::UpgradedBody(None, false), false, "UpgradedBody"),
            (HttpTask::UpgradedBody(None, true), true, "UpgradedBody"),
            (HttpTask::Trailer(None), true, "Trailer"),
            (HttpTask::Done, true, "Done"),
            (
                HttpTask::Failed(Error::new(ErrorType::ReadError)),
                true,
                "Failed",
            ),
        ];
        for (task, end, name) in cases {
            assert_eq!(task.is_end(), end, "{task:?}");
            assert_eq!(task.type_str(), name);
        }
    }
}
