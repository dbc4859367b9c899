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
mod word;

use std::sync::Arc;

use super::endpoint::Endpoint;
use crate::shutdown::watch::ShutdownWatch;
use acceptor::Acceptor;

#[cfg(test)]
pub(super) use acceptor::accept;
pub(crate) use acceptor::{Accepted, Connect};
#[cfg(test)]
pub(super) use drain::drop_syns;
pub(crate) use drain::{steer, Steer};
pub(crate) use pool::WorkerPool;
pub use pool::{AcceptCounts, WorkerCounts};
pub use strategy::AcceptStrategy;
pub(crate) use strategy::Settings;

/// Accepts connections at an endpoint until `shutdown` turns true, and then closes it.
///
/// `index` says which endpoint of its service it is, so that not all are accepted at by the same
/// worker, and `tasks` how many tasks accept at one socket where workers share it. A connection whose
/// handshake was complete is served, not reset: what waits at a socket that no new process has is still
/// accepted.
///
/// # Errors
/// When the socket cannot be registered with a reactor, or an acceptor cannot be started.
pub(crate) async fn run(
    endpoint: Endpoint,
    index: usize,
    tasks: usize,
    pool: Arc<WorkerPool>,
    shutdown: ShutdownWatch,
    connect: impl Connect,
) -> Result<(), String> {
    let Endpoint {
        listening,
        strategy,
        ..
    } = endpoint;
    let acceptor = Arc::new(Acceptor::new(listening, pool, connect));
    match strategy {
        AcceptStrategy::Shared => tasks::shared(&acceptor, index, tasks, &shutdown).await?,
        AcceptStrategy::Exclusive => exclusive::run(&acceptor, shutdown).await?,
        AcceptStrategy::Reuseport => tasks::reuseport(&acceptor, &shutdown).await?,
        AcceptStrategy::Mutex => mutex::run(&acceptor, Settings::current(), &shutdown).await?,
    }
    acceptor.accept_rest().await;
    log::info!("no longer listening on {}", acceptor.listening.bind);
    Ok(())
}
