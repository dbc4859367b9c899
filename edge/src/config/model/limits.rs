//! Limits of what a client may ask.

use crate::config::section::{section, At};
use crate::config::values::{LimitKey, Rate, Size, Status};

section! {
    /// A rate that requests may not exceed. Each value of the key has a bucket of its own, which holds `burst` requests and
    /// is filled by the rate; a request that finds it empty is refused.
    pub struct RateLimit("a rate limit", short: rate) {
        /// The facts that requests are counted by: `client_ip` (an IPv6 client is its /64), `path`, `header.NAME`, `cookie.NAME`,
        /// another variable, or a text with variables. Those without the header or cookie count as one.
        key: LimitKey = LimitKey::client_ip(),
        /// The requests in a time, such as `100/s`.
        rate: Rate,
        /// The requests that may come at once. If unset, as many as the rate names.
        burst: Option<At<u32>> = None,
        /// The status of a refused request.
        status: Status = Status(http::StatusCode::TOO_MANY_REQUESTS),
        /// True if answers tell the limit and what is left of it, in RateLimit-Policy and RateLimit. Retry-After stands in
        /// each refusal.
        headers: bool = false,
    }
}

section! {
    /// A number of requests at a time.
    pub struct ConcurrentRequests("a limit of requests at a time", short: max) {
        /// The facts that requests are counted by, as in `rate_limit`. If unset, all count together.
        key: Option<LimitKey> = None,
        /// The number of requests at a time.
        max: At<u32>,
        /// The status of a refused request.
        status: Status = Status(http::StatusCode::SERVICE_UNAVAILABLE),
    }
}

section! {
    /// A request body is read whole before a server is chosen, so that a slow client occupies no server, and each try has
    /// all of it.
    pub struct BufferRequest("the buffering of request bodies", short: max) {
        /// The size up to which it is; 413 above it. It is held in memory.
        max: At<Size>,
    }
}
