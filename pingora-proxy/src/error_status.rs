//! The status that answers an error: the one place that decides it.

use http::StatusCode;
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorSource, ErrorType};

/// The status to answer `e` with, or `None` when there is no one to answer.
///
/// A status that the application chose (`HTTPStatus`) is taken as it is, as long as it can end an
/// exchange: 0 asks for silence, and what is no final status becomes 500. Otherwise the source says
/// whose fault it is:
///
/// | source | error | status |
/// |---|---|---|
/// | upstream | it did not connect, take the request or answer in time | 504 |
/// | upstream | any other | 502 |
/// | downstream | it did not send its request in time | 408 |
/// | downstream | it is gone, or takes no bytes | none |
/// | downstream | any other, such as a malformed request | 400 |
/// | internal, unset | any | 500 |
pub fn error_status(e: &Error) -> Option<u16> {
    use ErrorType::*;
    match (e.esource(), e.etype()) {
        (_, HTTPStatus(0)) => None,
        (_, HTTPStatus(code)) if (200..=999).contains(code) => Some(*code),
        // 1xx announces a final response (RFC 9110 section 15.2) and cannot stand for one.
        (_, HTTPStatus(_)) => Some(500),
        (
            ErrorSource::Upstream,
            ConnectTimedout | TLSHandshakeTimedout | ReadTimedout | WriteTimedout,
        ) => Some(504),
        (ErrorSource::Upstream, _) => Some(502),
        (ErrorSource::Downstream, ReadTimedout) => Some(408),
        (ErrorSource::Downstream, WriteTimedout | WriteError | ReadError | ConnectionClosed) => {
            None
        }
        (ErrorSource::Downstream, _) => Some(400),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(500),
    }
}

/// Returns true if a response header may still be written: none was, or none but informational ones. A 101
/// is final: what follows it is another protocol.
pub(crate) fn awaits_response(session: &ServerSession) -> bool {
    session.response_written().is_none_or(|written| {
        written.status.is_informational() && written.status != StatusCode::SWITCHING_PROTOCOLS
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorSource::*;
    use ErrorType::*;

    #[test]
    fn every_source_and_kind_has_its_status() {
        let table = [
            (Upstream, ConnectTimedout, Some(504)),
            (Upstream, TLSHandshakeTimedout, Some(504)),
            (Upstream, ReadTimedout, Some(504)),
            (Upstream, WriteTimedout, Some(504)),
            (Upstream, ConnectRefused, Some(502)),
            (Upstream, ConnectNoRoute, Some(502)),
            (Upstream, TLSHandshakeFailure, Some(502)),
            (Upstream, InvalidHTTPHeader, Some(502)),
            (Upstream, ConnectionClosed, Some(502)),
            (Upstream, H2Error, Some(502)),
            (Upstream, Custom("mine"), Some(502)),
            (Downstream, ReadTimedout, Some(408)),
            (Downstream, WriteTimedout, None),
            (Downstream, WriteError, None),
            (Downstream, ReadError, None),
            (Downstream, ConnectionClosed, None),
            (Downstream, InvalidHTTPHeader, Some(400)),
            (Downstream, H2Error, Some(400)),
            (Downstream, UnknownError, Some(400)),
            (Internal, InternalError, Some(500)),
            (Internal, ReadTimedout, Some(500)),
            (Unset, ConnectTimedout, Some(500)),
            (Unset, UnknownError, Some(500)),
            (Unset, CustomCode("mine", 418), Some(500)),
            (Upstream, HTTPStatus(404), Some(404)),
            (Downstream, HTTPStatus(431), Some(431)),
            (Internal, HTTPStatus(503), Some(503)),
            (Unset, HTTPStatus(200), Some(200)),
            (Unset, HTTPStatus(999), Some(999)),
            (Upstream, HTTPStatus(0), None),
            (Unset, HTTPStatus(100), Some(500)),
            (Unset, HTTPStatus(101), Some(500)),
            (Unset, HTTPStatus(1000), Some(500)),
        ];
        for (source, kind, status) in table {
            let e = Error::create(kind, source, None, None);
            assert_eq!(error_status(&e), status, "{e}");
        }
    }

    #[test]
    fn added_context_changes_nothing() {
        let e = Error::new_up(ReadTimedout).more_context("while reading the header");
        assert_eq!(error_status(&e), Some(504));
    }
}
