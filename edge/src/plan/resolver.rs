//! The servers that are asked for names.

use std::net::SocketAddr;
use std::time::Duration;

/// The way in which names of servers are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// The servers that are asked; empty for those of the system.
    pub servers: Vec<SocketAddr>,
    /// The time limit of one question, if it is told.
    pub timeout: Option<Duration>,
    /// The number of times that a question is asked before it has failed, if that is told.
    pub attempts: Option<u32>,
    /// The shortest time for which an answer is kept.
    pub min_ttl: Duration,
    /// The longest time for which an answer is kept.
    pub max_ttl: Duration,
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: None,
            attempts: None,
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
        }
    }
}
