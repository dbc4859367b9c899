//! The accept strategies, and the choice of one for an endpoint.

use std::fmt::{self, Display};
use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::LIMITS;

/// The way in which the connections of an endpoint come to the workers.
///
/// Workers are the threads of a service. With `work_stealing` these are the threads of one runtime, and a
/// strategy only says how many acceptors there are and what wakes them: a connection belongs to none of the
/// threads, whoever accepted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceptStrategy {
    /// One acceptor hands each connection to the worker that has the fewest.
    #[default]
    Shared,
    /// A thread for each worker sleeps in an epoll of its own, of which the kernel wakes one for a connection
    /// (`EPOLLEXCLUSIVE`), and hands what it accepts to its worker. Linux only.
    Exclusive,
    /// A socket for each worker (`SO_REUSEPORT`), among which the kernel chooses by a hash of the addresses. Unix
    /// sockets have no such thing and get [`AcceptStrategy::Shared`].
    Reuseport,
    /// Workers take turns: only the one that holds a lock waits for connections, the others try again after
    /// `accept_mutex_delay_ms`, and one with less than an eighth of its `worker_connections` free sits out.
    Mutex,
}

impl AcceptStrategy {
    /// Every strategy.
    pub const ALL: [AcceptStrategy; 4] = [
        AcceptStrategy::Shared,
        AcceptStrategy::Exclusive,
        AcceptStrategy::Reuseport,
        AcceptStrategy::Mutex,
    ];

    /// Its name in settings and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            AcceptStrategy::Shared => "shared",
            AcceptStrategy::Exclusive => "exclusive",
            AcceptStrategy::Reuseport => "reuseport",
            AcceptStrategy::Mutex => "mutex",
        }
    }
}

impl Display for AcceptStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for AcceptStrategy {
    type Err = String;

    /// # Errors
    /// One line that names the text and the strategies that there are.
    fn from_str(text: &str) -> Result<Self, String> {
        let all = Self::ALL;
        all.into_iter()
            .find(|strategy| strategy.name() == text)
            .ok_or_else(|| {
                let names = all.map(Self::name).join(", ");
                format!("{text:?} is no accept strategy; there are {names}")
            })
    }
}

/// The server's settings for accepting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// For endpoints that choose none.
    pub(crate) strategy: AcceptStrategy,
    /// The time for which a worker waits until it tries for the accept mutex again.
    pub(crate) mutex_delay: Duration,
    /// The connections of one worker at most where it accepts by turns.
    pub(crate) worker_connections: Option<usize>,
    /// The time that a handshake that has begun may take at a shutdown.
    pub(crate) shutdown_timeout: Duration,
    /// The time for which those that have said nothing are kept at a shutdown, as idle connections are.
    pub(crate) keep_idle: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            strategy: AcceptStrategy::default(),
            mutex_delay: Duration::from_millis(500),
            worker_connections: None,
            shutdown_timeout: LIMITS.client_shutdown_read,
            keep_idle: None,
        }
    }
}

tokio::task_local! {
    static SETTINGS: Settings;
}

impl Settings {
    /// Runs a service's root future so that [`Settings::current`] finds these settings in it.
    pub(crate) async fn scope<F: Future>(self, service: F) -> F::Output {
        SETTINGS.scope(self, service).await
    }

    /// The settings of the server that runs the calling service, or the defaults when none does.
    pub(crate) fn current() -> Self {
        SETTINGS.try_with(|settings| *settings).unwrap_or_default()
    }
}
