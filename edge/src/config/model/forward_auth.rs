//! Another service that decides about requests.

use std::time::Duration;

use http::HeaderName;

use super::Proxy;
use crate::config::section::{section, At};
use crate::config::values::RequestTarget;

section! {
    /// Forward authentication: another service is asked about each request. An answer of it with 2xx lets the request pass;
    /// any other below 500 is given to the client. When it fails, no request passes.
    pub struct ForwardAuth("forward authentication", short: enabled) {
        /// True if it is asked. A route takes its site's back by `forward_auth: false`.
        enabled: bool = true,
        /// The servers of the service, as in `proxy`.
        to: Option<Proxy> = None,
        /// The path that is asked for, with a query if there is a `?` in it. If unset, `/`.
        path: Option<RequestTarget> = None,
        /// The fields of the request that the service is told, beside the `X-Forwarded-` ones. If unset, all.
        request_headers: Vec<HeaderName> = Vec::new(),
        /// The fields of the service's answer that go on to the server, such as `remote-user`. Those that a client sends
        /// under these names, with `_` for `-` too, are taken away.
        upstream_headers: Vec<At<HeaderName>> = Vec::new(),
        /// The fields of a refusal that the client is told. If unset, all.
        response_headers: Vec<HeaderName> = Vec::new(),
        /// For the whole answer of the service.
        timeout: Duration = Duration::from_secs(5),
    }
}
