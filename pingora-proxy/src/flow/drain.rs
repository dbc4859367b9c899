//! The end of a proxy's connections, as it is configured.

use std::time::Duration;

use pingora_core::server::configuration::ShutdownPolicy;

/// The way in which connections end at a shutdown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    pub(crate) policy: ShutdownPolicy,
    /// For a head that is on its way.
    pub(crate) read_timeout: Duration,
    /// For how long idle connections are kept; `None` for the default.
    pub(crate) keep_idle: Option<Duration>,
}
