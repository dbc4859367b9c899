//! Accepting connections and handing them to workers.
//!
//! An endpoint has one of the strategies of [`AcceptStrategy`]. All of them accept in batches, by
//! [`Acceptor::accept_some`](acceptor::Acceptor::accept_some), and differ in who waits for connections, and who gets them:
//!
//! ```text
//!             waits                                     serves
//! shared      a task for each socket                    the worker with the fewest connections
//! exclusive   a thread for each worker, its own epoll   that worker
//! reuseport   a task on each worker, its own socket     that worker
//! mutex       a task on the worker whose turn it is     that worker
//! ```
//!
//! The descriptor crosses threads raw; the worker registers it with its own reactor.

mod acceptor;
mod across;
mod drain;
#[cfg(target_os = "linux")]
mod exclusive;
#[cfg(not(target_os = "linux"))]
#[path = "exclusive_other.rs"]
mod exclusive;
mod mutex;
mod pool;
mod strategy;
mod tasks;
#[cfg(test)]
mod tests;
mod until;
mod word;

use std::sync::Arc;

use tokio::task::JoinSet;

use super::endpoint::Endpoint;
use super::l4::Listening;
use acceptor::Acceptor;

#[cfg(test)]
pub(super) use acceptor::accept;
pub(super) use acceptor::Limits;
pub(crate) use acceptor::{Accepted, Connect};
#[cfg(test)]
pub(super) use drain::drop_syns;
pub(crate) use drain::{steer, Steer};
pub(super) use pool::Open;
pub(crate) use pool::WorkerPool;
pub use pool::{AcceptCounts, WorkerCounts};
pub use strategy::AcceptStrategy;
pub(crate) use strategy::Settings;
pub(super) use until::{End, Until};

/// Acceptors at work.
pub(super) struct Accepting<F> {
    acceptor: Arc<Acceptor<F>>,
    acceptors: Acceptors,
    until: Until,
}

enum Acceptors {
    Tasks(JoinSet<()>),
    Threads(exclusive::Threads),
}

/// Begins to accept connections at an endpoint, until `until` says to end.
///
/// `index` says which endpoint of its service it is, so that not all are accepted at by the same
/// worker, and `tasks` how many tasks accept at one socket where workers share it.
///
/// # Errors
/// When the socket cannot be registered with a reactor, or an acceptor cannot be started.
pub(super) fn start<F: Connect>(
    endpoint: Endpoint,
    index: usize,
    tasks: usize,
    (pool, settings): (Arc<WorkerPool>, Settings),
    until: Until,
    connect: F,
) -> Result<Accepting<F>, String> {
    let Endpoint {
        listening,
        strategy,
        limits,
        ..
    } = endpoint;
    let acceptor = Arc::new(Acceptor::new(listening, pool, limits, connect));
    let acceptors = match strategy {
        AcceptStrategy::Shared => Acceptors::Tasks(tasks::shared(&acceptor, index, tasks, &until)?),
        AcceptStrategy::Exclusive => Acceptors::Threads(exclusive::start(&acceptor)?),
        AcceptStrategy::Reuseport => Acceptors::Tasks(tasks::reuseport(&acceptor, &until)?),
        AcceptStrategy::Mutex => Acceptors::Tasks(mutex::start(&acceptor, settings, &until)?),
    };
    Ok(Accepting {
        acceptor,
        acceptors,
        until,
    })
}

impl<F: Connect> Accepting<F> {
    /// Waits until the acceptors have ended, and closes the sockets unless others are to accept there.
    ///
    /// A connection whose handshake was complete is served, not reset: what waits at a socket that closes, and that no new
    /// process has, is still accepted.
    pub(super) async fn ended(mut self) -> Option<Listening> {
        let acceptor = self.acceptor;
        match self.acceptors {
            Acceptors::Tasks(mut tasks) => {
                while let Some(ended) = tasks.join_next().await {
                    acceptor.check(ended);
                }
            }
            Acceptors::Threads(threads) => {
                // An error says that the service is gone.
                let _ = self.until.wait_for(Option::is_some).await;
                threads.end().await;
            }
        }
        let end = *self.until.borrow();
        if end == Some(End::HandBack) {
            // Nobody else has it any more: acceptors drop theirs before they have ended.
            return Arc::into_inner(acceptor).map(|acceptor| acceptor.listening);
        }
        acceptor.accept_rest().await;
        log::info!("no longer listening on {}", acceptor.listening.bind);
        None
    }
}
