//! Clients that may ask.

use std::time::Duration;

use crate::config::section::{section, At};
use crate::config::values::{Network, Status, Template};

section! {
    /// Clients by their addresses. The entry with the most bits that holds the address decides, and `deny` where both lists
    /// have that entry. An address in neither list is refused if there is an `allow`, and passes otherwise.
    pub struct Access("access by address") {
        /// The addresses or networks that may ask.
        allow: Vec<At<Network>> = Vec::new(),
        /// The addresses or networks that are refused with 403.
        deny: Vec<At<Network>> = Vec::new(),
    }
}

section! {
    /// A time in which requests are answered with 503.
    pub struct Maintenance("maintenance", short: enabled) {
        /// True if it is on.
        enabled: bool = true,
        /// The addresses or networks that are served all the same.
        allow: Vec<Network> = Vec::new(),
        /// The time after which clients are asked to try again, in Retry-After.
        retry_after: Duration = Duration::from_secs(300),
        /// The body of the answer. If unset, the status in words.
        body: Option<At<Template>> = None,
        /// The type of the body.
        content_type: String = "text/plain; charset=utf-8".to_owned(),
    }
}

section! {
    /// A redirect from HTTP to the same address with HTTPS.
    pub struct HttpsRedirect("a redirect to HTTPS", short: enabled) {
        /// True if requests over HTTP are redirected.
        enabled: bool = true,
        /// The status: 301, 302, 303, 307 or 308.
        status: Option<At<Status>> = None,
        /// The port of HTTPS, if it is not 443.
        port: Option<At<u32>> = None,
    }
}

section! {
    /// HTTP Strict Transport Security (RFC 6797): browsers use HTTPS alone from then on. It is told over HTTPS only.
    pub struct Hsts("HSTS", short: max_age) {
        /// The time for which browsers keep to HTTPS.
        max_age: Duration = Duration::from_secs(31_536_000),
        /// True if it is for all names below the host too.
        include_subdomains: bool = false,
        /// True if browsers may have the host in a list of their own. It takes a `max_age` of a year and
        /// `include_subdomains`.
        preload: bool = false,
    }
}
