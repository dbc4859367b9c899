//! Acceptors that are tasks of a runtime: `shared`, and `reuseport`.

use std::pin::pin;
use std::sync::Arc;

use socket2::Socket;
use tokio::io::unix::AsyncFd;
use tokio::io::Interest;
use tokio::task::JoinSet;

use super::acceptor::{Acceptor, Connect, Ended, BATCH, PAUSE};
use super::pool::To;
use super::until::Until;

/// A socket that is registered with a reactor.
pub(super) type Registered = AsyncFd<Arc<Socket>>;

/// Registers a socket with the reactor of the calling task or of the runtime that is entered.
// What stands in for the deprecated function is in the newest tokio only; it differs for types
// whose descriptor may change.
#[allow(deprecated)]
pub(super) fn register(socket: Arc<Socket>) -> std::io::Result<Registered> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// So many tasks for each socket, which give each connection to the least busy worker.
///
/// # Errors
/// When a socket cannot be registered with a reactor.
pub(super) fn shared<F: Connect>(
    acceptor: &Arc<Acceptor<F>>,
    index: usize,
    tasks: usize,
    until: &Until,
) -> Result<JoinSet<()>, String> {
    let mut loops = Loops::new(acceptor, until);
    let workers = acceptor.pool.len();
    for (n, socket) in acceptor.listening.sockets().enumerate() {
        let mut registered: Vec<Option<Arc<Registered>>> = vec![None; workers];
        for task in 0..tasks.max(1) {
            let worker = (index + n + task) % workers;
            // A reactor takes a descriptor once.
            let reactor = acceptor.pool.reactor(worker);
            let fd = match &registered[reactor] {
                Some(fd) => fd.clone(),
                None => {
                    let fd = loops.register(worker, socket)?;
                    registered[reactor].insert(fd).clone()
                }
            };
            loops.spawn(worker, fd, To::LeastLoaded);
        }
    }
    Ok(loops.running)
}

/// A task for each socket, on the worker that it belongs to, which serves all that comes there.
///
/// # Errors
/// When a socket cannot be registered with a reactor.
pub(super) fn reuseport<F: Connect>(
    acceptor: &Arc<Acceptor<F>>,
    until: &Until,
) -> Result<JoinSet<()>, String> {
    let mut loops = Loops::new(acceptor, until);
    let workers = acceptor.pool.len();
    let sockets = acceptor.listening.sockets().count();
    for (n, socket) in acceptor.listening.sockets().enumerate() {
        let worker = n % workers;
        let fd = loops.register(worker, socket)?;
        // Inherited sockets to which none could be added: every worker must have its share of them.
        let to = if sockets < workers {
            To::LeastLoaded
        } else {
            To::Slot(worker)
        };
        loops.spawn(worker, fd, to);
    }
    Ok(loops.running)
}

struct Loops<'a, F> {
    acceptor: &'a Arc<Acceptor<F>>,
    until: &'a Until,
    running: JoinSet<()>,
}

impl<'a, F: Connect> Loops<'a, F> {
    fn new(acceptor: &'a Arc<Acceptor<F>>, until: &'a Until) -> Self {
        Loops {
            acceptor,
            until,
            running: JoinSet::new(),
        }
    }

    fn register(&self, worker: usize, socket: &Arc<Socket>) -> Result<Arc<Registered>, String> {
        let _there = self.acceptor.pool.handle(worker).enter();
        register(socket.clone())
            .map(Arc::new)
            .map_err(|e| self.acceptor.cannot_listen(&e))
    }

    fn spawn(&mut self, worker: usize, fd: Arc<Registered>, to: To) {
        let (acceptor, until) = (self.acceptor.clone(), self.until.clone());
        let accepting = async move { accept_until(&acceptor, worker, &fd, to, until).await };
        let handle = self.acceptor.pool.handle(worker);
        self.running.spawn_on(accepting, handle);
    }
}

async fn accept_until<F: Connect>(
    acceptor: &Acceptor<F>,
    worker: usize,
    fd: &Registered,
    to: To,
    mut until: Until,
) {
    // An error says that the service is gone.
    let mut stop = pin!(until.wait_for(Option::is_some));
    loop {
        let ready = tokio::select! {
            biased;
            _ = &mut stop => return,
            ready = fd.readable() => ready,
        };
        let mut ready = match ready {
            Ok(ready) => ready,
            // The runtime ends.
            Err(_) => return,
        };
        let batch = acceptor.accept_some(worker, fd.get_ref(), to, BATCH);
        if batch.ended == Ended::Empty {
            ready.clear_ready();
        }
        drop(ready);
        if batch.ended == Ended::Failed {
            tokio::select! {
                biased;
                _ = &mut stop => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        } else {
            tokio::task::yield_now().await;
        }
    }
}
