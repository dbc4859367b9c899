//! Further tries of requests.

use std::time::Duration;

use http::Method;

use crate::config::section::{section, At};
use crate::config::values::{Count, Percent, RetryOn};

section! {
    /// Rules by which a request is tried again. Nothing is tried again of whose answer the client has seen something, or whose body
    /// is longer than the 64 KiB that are kept of it.
    pub struct Retries("retries", short: attempts) {
        /// The tries of a request, the first among them, up to 16. If unset, 3. One on a connection that its server had closed
        /// while it was idle does not count here; `server.max_retries` bounds all of them.
        attempts: Option<At<Count>> = None,
        /// The failures that a try is followed by another for: `connect`, `reset`, `timeout`, and statuses. If unset, `connect` and
        /// `reset`.
        on: Vec<RetryOn> = Vec::new(),
        /// The methods of requests that may be sent twice. If unset, those that are idempotent (RFC 9110 9.2.2). After a
        /// failed connection nothing was sent, and every request is tried again.
        methods: Vec<Method> = Vec::new(),
        /// The share of requests that tries after the first may add, in each worker.
        budget: Percent = Percent::whole(20),
        /// The time limit of a try: for its connection, and then for the head of its answer.
        try_timeout: Option<Duration> = None,
        /// The time limit of all tries together, with the body of the answer.
        timeout: Option<Duration> = None,
    }
}
