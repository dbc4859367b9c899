//! `mutex`: workers take turns at waiting for connections.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use nix::sys::resource::{getrlimit, Resource};
use tokio::task::JoinSet;

use super::acceptor::{Acceptor, Connect, Ended, BATCH, PAUSE};
use super::across::{self, FileLock};
use super::pool::To;
use super::strategy::Settings;
use super::tasks::{register, Registered};
use super::until::Until;
use super::word::AcceptMutex;

/// A task on each worker.
///
/// # Errors
/// When the lock between processes cannot be made.
pub(super) fn start<F: Connect>(
    acceptor: &Arc<Acceptor<F>>,
    settings: Settings,
    until: &Until,
) -> Result<JoinSet<()>, String> {
    let workers = acceptor.pool.len();
    let mutex = AcceptMutex::new(lock(acceptor)?);
    let limit = settings
        .worker_connections
        .unwrap_or_else(|| open_files() / workers / 2)
        .max(1);
    let mut turns = JoinSet::new();
    for worker in 0..workers {
        let turn = Turns {
            acceptor: acceptor.clone(),
            worker,
            mutex: mutex.clone(),
            delay: settings.mutex_delay,
            limit,
        };
        let until = until.clone();
        let handle = acceptor.pool.handle(worker);
        turns.spawn_on(async move { turn.take(until).await }, handle);
    }
    Ok(turns)
}

fn lock<F>(acceptor: &Acceptor<F>) -> Result<FileLock, String> {
    let listening = &acceptor.listening;
    let bind = &listening.bind;
    if !listening.can_be_handed_on() {
        return Ok(FileLock::none());
    }
    let travelling = listening
        .traveller(across::traveller)
        .and_then(FileLock::on);
    travelling.or_else(|e| {
        log::debug!("{bind}: no lock that travels with the sockets: {e}");
        FileLock::by_name(bind).map_err(|e| format!("no accept mutex for {bind}: {e}"))
    })
}

/// Returns how many files the process may have open.
fn open_files() -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(soft).unwrap_or(usize::MAX)
}

/// The state of a worker that takes its turns.
struct Turns<F> {
    acceptor: Arc<Acceptor<F>>,
    worker: usize,
    mutex: Arc<AcceptMutex<FileLock>>,
    delay: Duration,
    /// The connections that a worker may have.
    limit: usize,
}

impl<F: Connect> Turns<F> {
    async fn take(&self, mut until: Until) {
        // An error says that the service is gone.
        let mut stop = pin!(until.wait_for(Option::is_some));
        // Kept from one turn to the next, if nobody else had one: else this worker would be woken too.
        let mut fds: Vec<Registered> = Vec::new();
        loop {
            let room = self.acceptor.pool.has_room(self.worker, self.limit);
            let turn = room.then(|| AcceptMutex::try_turn(&self.mutex)).flatten();
            let pause = match turn {
                None => {
                    self.acceptor.pool.counts(self.worker).woken(0);
                    self.delay
                }
                Some(turn) => {
                    let accepted = tokio::select! {
                        biased;
                        _ = &mut stop => return,
                        accepted = self.accept(&mut fds) => accepted,
                    };
                    drop(turn);
                    if accepted {
                        tokio::task::yield_now().await;
                        continue;
                    }
                    PAUSE
                }
            };
            fds.clear();
            tokio::select! {
                biased;
                _ = &mut stop => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Registers the sockets with the reactor of this worker. By descriptors of their own: where all workers are
    /// threads of one runtime, another's registration may not be gone yet.
    fn registered(&self, fds: &mut Vec<Registered>) -> std::io::Result<()> {
        if !fds.is_empty() {
            return Ok(());
        }
        let sockets = self.acceptor.listening.sockets();
        *fds = sockets
            .map(|socket| register(Arc::new(socket.try_clone()?)))
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Waits for connections, and accepts a batch of each socket that has some; false when the system refuses.
    async fn accept(&self, fds: &mut Vec<Registered>) -> bool {
        if let Err(e) = self.registered(fds) {
            self.acceptor.tell(&e);
            return false;
        }
        poll_fn(|cx| {
            let mut result = Poll::Pending;
            for fd in &*fds {
                // Asked again after what was ready turned out empty, so that this task is woken.
                while let Poll::Ready(ready) = fd.poll_read_ready(cx) {
                    let Ok(mut ready) = ready else {
                        return Poll::Ready(false);
                    };
                    let to = To::Slot(self.worker);
                    let free = self.acceptor.pool.free(self.worker, self.limit);
                    // None may be free where another endpoint of the service had its turn meanwhile.
                    let most = free.clamp(1, BATCH);
                    let batch = self
                        .acceptor
                        .accept_some(self.worker, fd.get_ref(), to, most);
                    match batch.ended {
                        Ended::Failed => return Poll::Ready(false),
                        Ended::Empty => ready.clear_ready(),
                        Ended::Full => {}
                    }
                    if batch.accepted > 0 {
                        result = Poll::Ready(true);
                        break;
                    }
                }
            }
            result
        })
        .await
    }
}
