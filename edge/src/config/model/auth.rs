//! Users and their passwords, and pages of other sites that may ask.

use std::time::Duration;

use http::{HeaderName, Method};

use crate::config::section::{section, At, ByName};
use crate::config::values::{PasswordHash, ReadFile, UserName, WebOrigin};

section! {
    /// HTTP basic authentication (RFC 7617): a request has to bring the name and the password of a user, else it is
    /// answered with 401.
    pub struct BasicAuth("basic authentication", short: enabled) {
        /// True if it is asked for. A route takes its site's back by `basic_auth: false`.
        enabled: bool = true,
        /// The users, each with the hash of a password by bcrypt or argon2.
        users: ByName<UserName, PasswordHash> = ByName::default(),
        /// A file of further users, as `htpasswd -B` writes it: a line `NAME:HASH` each.
        users_file: Option<ReadFile> = None,
        /// The name that browsers show when they ask for the password. If unset, `Restricted`.
        realm: Option<At<String>> = None,
    }
}

section! {
    /// Cross-origin resource sharing: which pages of other origins may read answers in a browser. Preflight requests are
    /// answered here, and the fields of servers for this are replaced.
    pub struct Cors("cross-origin access", short: origins) {
        /// The origins, such as `https://app.example.org`, `https://*.example.org`, or `*` for every one.
        origins: Vec<WebOrigin>,
        /// The methods that pages may use. If unset, GET, HEAD and POST.
        methods: Vec<Method> = Vec::new(),
        /// The fields that pages may set, beside the few that are always allowed.
        headers: Vec<HeaderName> = Vec::new(),
        /// The fields of answers that pages may read, beside the few that are always allowed.
        expose: Vec<HeaderName> = Vec::new(),
        /// True if pages may send cookies and passwords. It takes origins by name.
        credentials: bool = false,
        /// The time for which browsers remember the answer to a preflight request.
        max_age: Option<Duration> = None,
    }
}
