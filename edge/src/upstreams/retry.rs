//! The end of a try that failed: whose fault it was, and whether another server may have the request.

use http::Method;
use pingora_core::protocols::http::v2::client::was_not_processed;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::ErrorType::{
    H2Downgrade, HTTPStatus, InvalidH2, InvalidHTTPHeader, ReadTimedout, WriteTimedout,
};
use pingora_core::{Error, ErrorSource, RetryType};
use pingora_proxy::Session;

/// Judges a connection that could not be made. `failed` notes the failure of the server, and returns whether a server is
/// left that has not failed this request: then the returned error asks for another try. Nothing was sent, so this is
/// safe for every request. What the request itself is refused for, such as a WebSocket that the server's version of
/// HTTP has no way for, is no failure of the server.
pub fn connect_failed(mut e: Box<Error>, failed: impl FnOnce() -> bool) -> Box<Error> {
    if !matches!(e.etype, HTTPStatus(_)) {
        e.set_retry(failed());
    }
    e
}

/// Judges a failure on an established connection, which was `reused` if so. `failed` is as for [`connect_failed`], and
/// the returned error asks for another try if that is safe.
///
/// It is for a request whose method is idempotent, or that was not processed, and of whose answer nothing has come.
/// A server that was too slow is not followed by another one, which would have as much to do.
pub fn exchange_failed(
    session: &Session,
    peer: &HttpPeer,
    e: Box<Error>,
    reused: bool,
    failed: impl FnOnce() -> bool,
) -> Box<Error> {
    let mut e = e.more_context(format!("Peer: {peer}"));
    let untouched = e.esource() == &ErrorSource::Upstream && was_not_processed(&e);
    let repeatable = (untouched || session.req_header().method.is_idempotent())
        && !session.retry_buffer_truncated();
    // The end of an idle connection says nothing about the server.
    let stale = reused && matches!(e.retry, RetryType::ReusedOnly);
    // Nor does its asking for another version, in which it is asked next, nor what a WebSocket was answered, which
    // its client chose to ask for there.
    let other_version = matches!(e.etype, H2Downgrade | InvalidH2);
    let handshake = session.req_header().method == Method::CONNECT && e.etype == InvalidHTTPHeader;
    if e.esource() == &ErrorSource::Upstream
        && session.response_written().is_none()
        && !(stale || untouched || other_version || handshake)
    {
        let others = failed();
        let late = matches!(e.etype, ReadTimedout | WriteTimedout);
        e.set_retry(repeatable && others && !late);
    } else if repeatable {
        e.retry.decide_reuse(reused);
    } else {
        e.set_retry(false);
    }
    e
}
