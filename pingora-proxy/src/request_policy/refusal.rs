//! The error of a request that is refused.

use pingora_error::{Error, ErrorType};

/// The client's fault: answered with 400.
pub(super) fn refusal(why: &'static str) -> Box<Error> {
    Error::explain(ErrorType::InvalidHTTPHeader, why).into_down()
}
