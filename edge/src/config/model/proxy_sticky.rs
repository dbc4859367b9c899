//! A cookie that keeps a client at its server.

use std::time::Duration;

use crate::config::section::{choice, section, At};
use crate::config::values::Secret;

section! {
    /// A cookie that keeps a client at the server that it was first given, for as long as that takes requests. Its value is
    /// a keyed hash, which tells no address.
    pub struct Sticky("a sticky cookie", short: cookie) {
        /// The name of the cookie.
        cookie: At<String>,
        /// The time for which clients keep it. If unset, until they are closed.
        ttl: Option<Duration> = None,
        /// True if clients send it over TLS alone. If unset, as they speak TLS themselves.
        secure: Option<bool> = None,
        /// The requests from other sites that clients send it with (`SameSite`).
        same_site: Option<At<SameSite>> = None,
        /// The key of the hash, the same in all processes that share clients. If unset, a random one at each start.
        secret: Option<Secret> = None,
    }
}

choice! {
    /// The requests from other sites that clients send a cookie with.
    pub enum SameSite("a rule for requests from other sites") {
        /// Those that follow a link (the default).
        Lax = "lax",
        /// None.
        Strict = "strict",
        /// All, over TLS.
        None = "none",
    }
}
