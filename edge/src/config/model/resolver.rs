//! The servers that are asked for names.

use std::time::Duration;

use crate::config::section::section;
use crate::config::values::{Count, NameServer};

section! {
    /// The look-up of the names of servers. `/etc/hosts` is asked first.
    pub struct Resolver("a resolver", short: servers) {
        /// The servers that are asked. If unset, those of `/etc/resolv.conf`, with its `search` and options.
        servers: Vec<NameServer> = Vec::new(),
        /// The time limit of one question. If unset, that of the system for its servers, and else 2 s.
        timeout: Option<Duration> = None,
        /// The number of times that a question is asked before it has failed. If unset, that of the system for its servers,
        /// and else 2.
        attempts: Option<Count> = None,
        /// The shortest time for which an answer is kept, whatever it says.
        min_ttl: Duration = Duration::from_secs(1),
        /// The longest time for which an answer is kept, whatever it says.
        max_ttl: Duration = Duration::from_secs(300),
    }
}
