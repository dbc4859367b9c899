//! Logs, ids and traces of requests.

use crate::config::section::{choice, section, At};
use crate::config::values::{LogFormat, LogTarget, LogVariable, Percent};

section! {
    /// A line for each request that has ended.
    pub struct AccessLog("an access log", short: to) {
        /// The file, or `stdout`.
        to: At<LogTarget>,
        /// The form of a line: `common`, `combined`, `json`, or a text with variables such as `{client_ip} {status}`.
        format: LogFormat = LogFormat::Combined,
        /// The variables of a line of `json`, in their order. If unset, all but `path`, `query` and `time_local`.
        fields: Vec<At<LogVariable>> = Vec::new(),
        /// The share of requests that get a line. Those that fail, with 5xx or without an answer, always do.
        sample: Option<Percent> = None,
    }
}

section! {
    /// The id of each request, which servers are told.
    pub struct RequestId("a request id", short: header) {
        /// The header that has it.
        header: http::HeaderName = http::HeaderName::from_static("x-request-id"),
        /// The requests whose own id is kept.
        trust: Trust = Trust::Never,
    }
}

choice! {
    /// Whose word is believed.
    pub enum Trust("whom to trust") {
        /// Nobody's.
        Never = "never",
        /// That of `trusted_proxies`.
        Proxies = "proxies",
    }
}

section! {
    /// W3C Trace Context.
    pub struct Tracing("tracing", short: propagate) {
        /// True if `traceparent` and `tracestate` are passed on, and begun where they are missing or not valid.
        propagate: bool = true,
        /// The share of traces begun here that are marked to be sampled. If unset, all.
        sample: Option<Percent> = None,
    }
}
