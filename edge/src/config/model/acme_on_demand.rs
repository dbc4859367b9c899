//! The keys of `acme: {on_demand: ...}`.

use std::time::Duration;

use crate::config::section::{section, At};
use crate::config::values::{Count, HostPattern, WebUrl};

section! {
    /// Certificates that are ordered when a client first asks for the name: for the wildcard hosts of sites with `tls: auto`,
    /// and for such sites without `hosts`. A name has to be allowed by `ask`, by `allow`, or by both where both are set.
    pub struct OnDemand("the rules of certificates on demand") {
        /// The URL that is asked whether a name may have a certificate, by GET with `domain=NAME` in the query: an answer of
        /// 2xx allows it, any other refuses it.
        ask: Option<WebUrl> = None,
        /// The names that may have a certificate: exact ones, or `*.NAME` for all names below one.
        allow: Vec<At<HostPattern>> = Vec::new(),
        /// The longest time that a handshake waits for the certificate of its name. The timeout `handshake` of its listener
        /// limits it too.
        wait: Duration = Duration::from_secs(30),
        /// The largest number of certificates that are kept on demand. When it is reached, no new name has one.
        max_names: Count = Count(1000),
    }
}
