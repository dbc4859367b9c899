//! The meaning of a stream's failure for the sender of the request.

use h2::Reason;
use pingora_error::ErrorType::{ConnectionClosed, H2Downgrade, H2Error, InvalidH2};
use pingora_error::{BError, Error, ErrorType, RetryType};

/// The error of a stream whose connection did not answer a PING in time.
pub const PING_TIMEDOUT: ErrorType = ErrorType::new("PingTimedout");

/// When a stream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Nothing of the response had come, nor of any other one on the connection.
    Unproven,
    /// Nothing of the response had come, over a connection that has carried others.
    Unanswered,
    /// A head had come, and maybe more.
    Answered,
}

/// The error for a failure `e` of a stream.
pub(super) fn failed(e: h2::Error, when: When, context: &'static str) -> BError {
    let (etype, retry) = judge(&e, when);
    let mut error = Error::because(etype, context, e);
    error.retry = retry;
    error
}

/// The same for an error that has the failure as its cause.
pub(super) fn refined(mut error: BError, when: When) -> BError {
    let judged = error
        .root_cause()
        .downcast_ref::<h2::Error>()
        .map(|e| judge(e, when));
    if let Some((etype, retry)) = judged {
        error.etype = etype;
        error.retry = retry;
    }
    error
}

fn judge(e: &h2::Error, when: When) -> (ErrorType, RetryType) {
    let unanswered = when != When::Answered;
    let always = RetryType::Decided(unanswered);
    if e.is_io() {
        // An idle connection that the peer closed shows it only when it is used.
        let retry = if unanswered {
            RetryType::ReusedOnly
        } else {
            RetryType::Decided(false)
        };
        return (ConnectionClosed, retry);
    }
    if is_unprocessed(e) {
        return (H2Error, always);
    }
    match e.reason() {
        Some(Reason::HTTP_1_1_REQUIRED) => (H2Downgrade, always),
        // What came is not HTTP/2, and never was: a peer that takes HTTP/1.1 may do better with it.
        Some(Reason::PROTOCOL_ERROR | Reason::FRAME_SIZE_ERROR)
            if e.is_go_away() && e.is_library() && when == When::Unproven =>
        {
            (InvalidH2, always)
        }
        _ => (H2Error, RetryType::Decided(false)),
    }
}

/// RFC 9113 section 8.7: the two ways in which a server says that it did not process a request. The streams
/// that get the error of a GOAWAY are those above its last identifier.
fn is_unprocessed(e: &h2::Error) -> bool {
    let refused = e.reason() == Some(Reason::REFUSED_STREAM) && !e.is_library();
    refused || (e.is_go_away() && e.is_remote())
}

/// Returns whether the origin is known not to have processed the request that failed so: it can be sent again
/// whatever its method is.
pub fn was_not_processed(e: &Error) -> bool {
    e.root_cause()
        .downcast_ref::<h2::Error>()
        .is_some_and(is_unprocessed)
}
