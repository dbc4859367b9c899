//! Outcomes that phases are told of, or return.

use pingora_error::Error;

#[cfg(doc)]
use super::ProxyHttp;

/// The outcome of a request that [`ProxyHttp::fail_to_proxy`] answered.
#[derive(Debug)]
pub struct FailToProxy {
    /// The status that was written, 0 if none was.
    pub error_code: u16,
    /// True if the client may send another request on this connection. Heeded only for errors from
    /// before the request went upstream.
    pub can_reuse_downstream: bool,
}

/// The subject of a warning that [`ProxyHttp::suppress_proxy_warn_log`] can leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyWarnLogContext {
    /// A try failed, and another one follows.
    UpstreamRetry,
    /// The client is lost, and its response is read on to fill the cache.
    DownstreamCache,
}

/// The outcome of a purge, for [`ProxyHttp::purge_response_filter`].
#[derive(Debug)]
pub enum PurgeStatus {
    /// The cache is not on for this request.
    NoCache,
    /// There was an entry, and it was purged.
    Found,
    /// There was no entry.
    NotFound,
    /// The storage failed.
    Error(Box<Error>),
}
