//! `exclusive`: a thread for each worker, asleep in an epoll of its own.
//!
//! Never through the runtime's own reactor: an epoll that watches an epoll with `EPOLLEXCLUSIVE` is woken for
//! every connection again, and so are all the others.
//!
//! The kernel wakes one thread for a connection, and that thread owes it: if it ended without looking at the
//! queue, the threads of another process that has the same socket would sleep on, and the connection would wait
//! for the next one to come. So a thread looks once more before it ends, and each looks once in a while without
//! being woken, for a process that died in between.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::oneshot;

use super::acceptor::{Acceptor, Connect, Ended, PAUSE};
use super::pool::To;

/// Milliseconds after which a thread looks without being woken.
const LOOK: u16 = 1000;

/// Starts the threads.
///
/// # Errors
/// When the system refuses a thread or an epoll.
pub(super) fn start<F: Connect>(acceptor: &Arc<Acceptor<F>>) -> Result<Threads, String> {
    try_start(acceptor).map_err(|e| acceptor.cannot_listen(&e))
}

fn try_start<F: Connect>(acceptor: &Arc<Acceptor<F>>) -> io::Result<Threads> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let mut threads = Threads {
        stop: Arc::new(EventFd::from_flags(flags)?),
        running: Vec::new(),
    };
    for worker in 0..acceptor.pool.len() {
        let (alive, ended) = oneshot::channel();
        let waiting = Waiting {
            epoll: watch(acceptor, &threads.stop)?,
            acceptor: acceptor.clone(),
            worker,
            stop: threads.stop.clone(),
            _alive: alive,
        };
        std::thread::Builder::new()
            .name(format!("accept {worker}"))
            .spawn(move || waiting.accept_until())?;
        threads.running.push(ended);
    }
    Ok(threads)
}

/// An epoll of all sockets, and of what tells the threads to stop.
fn watch<F>(acceptor: &Acceptor<F>, stop: &EventFd) -> io::Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
    let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
    for (n, socket) in acceptor.listening.sockets().enumerate() {
        epoll.add(socket, EpollEvent::new(events, n as u64))?;
    }
    Ok(epoll)
}

const STOP: u64 = u64::MAX;

/// Threads that end when this is dropped.
pub(super) struct Threads {
    stop: Arc<EventFd>,
    running: Vec<oneshot::Receiver<()>>,
}

impl Threads {
    pub(super) async fn end(mut self) {
        let running = std::mem::take(&mut self.running);
        drop(self);
        for ended in running {
            // Nothing is ever sent: the sender is dropped with the thread.
            let _ = ended.await;
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Err(e) = self.stop.write(1) {
            log::error!("cannot end the threads that accept: {e}");
        }
    }
}

/// The state of a thread.
struct Waiting<F> {
    epoll: Epoll,
    acceptor: Arc<Acceptor<F>>,
    worker: usize,
    stop: Arc<EventFd>,
    _alive: oneshot::Sender<()>,
}

impl<F: Connect> Waiting<F> {
    fn accept_until(self) {
        let mut events = [EpollEvent::empty(); 16];
        loop {
            let woken = match self.epoll.wait(&mut events, EpollTimeout::from(LOOK)) {
                Ok(n) => &events[..n],
                Err(Errno::EINTR) => continue,
                Err(e) => {
                    self.acceptor.tell(&e.into());
                    if self.pause() {
                        return;
                    }
                    continue;
                }
            };
            let stop = woken.iter().any(|event| event.data() == STOP);
            let look_at_all = stop || woken.is_empty();
            let mut failed = false;
            for (n, socket) in self.acceptor.listening.sockets().enumerate() {
                if look_at_all || woken.iter().any(|event| event.data() == n as u64) {
                    let to = To::Slot(self.worker);
                    // One for each time that it was woken: for the next one another thread was.
                    let accept = || self.acceptor.accept_some(self.worker, socket, to, 1);
                    let mut batch = accept();
                    while stop && batch.ended == Ended::Full {
                        batch = accept();
                    }
                    failed |= batch.ended == Ended::Failed;
                }
            }
            if stop || (failed && self.pause()) {
                return;
            }
        }
    }

    /// Waits while files may be closed; true when it is time to stop.
    fn pause(&self) -> bool {
        let mut stop = [PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        let pause = PollTimeout::try_from(PAUSE).unwrap_or(PollTimeout::MAX);
        poll(&mut stop, pause).is_ok_and(|n| n > 0)
    }
}
