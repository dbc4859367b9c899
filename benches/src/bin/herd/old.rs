//! The old ways: every worker waits for the one listening socket in an epoll.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use socket2::SockRef;

use crate::{Counts, WAITING};

/// Which of them.
#[derive(Clone, Copy)]
pub(crate) enum Epolls {
    /// One for each worker.
    Each,
    /// One, made before the workers start.
    One,
}

/// Workers that accept, say a byte, and close or keep the connection.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: Arc<EventFd>,
    workers: Vec<(Arc<Own>, JoinHandle<nix::Result<()>>)>,
}

/// What a worker writes, on lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Own {
    woken: AtomicU64,
    idle: AtomicU64,
    accepted: AtomicU64,
}

const STOP: u64 = 1;

impl Server {
    pub(crate) fn start(epolls: Epolls, workers: usize, hold: bool) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("cannot start a server: {e}");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        SockRef::from(&listener).listen(4096).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let listener = Arc::new(listener);
        let stop = Arc::new(EventFd::new().map_err(|e| failed(e.into()))?);
        let epoll = || -> nix::Result<Epoll> {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            epoll.add(listener.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
            epoll.add(stop.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
            Ok(epoll)
        };
        let shared = Arc::new(epoll().map_err(|e| failed(e.into()))?);
        let mut running = Vec::new();
        for _ in 0..workers {
            let epoll = match epolls {
                Epolls::One => shared.clone(),
                Epolls::Each => Arc::new(epoll().map_err(|e| failed(e.into()))?),
            };
            let own = Arc::new(Own::default());
            let (counts, listener) = (own.clone(), listener.clone());
            let thread = std::thread::Builder::new()
                .name(format!("{WAITING}{}", running.len()))
                .spawn(move || serve(&epoll, &listener, &counts, hold))
                .map_err(failed)?;
            running.push((own, thread));
        }
        Ok(Server {
            address,
            stop,
            workers: running,
        })
    }

    pub(crate) fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let sum =
            |of: fn(&Own) -> &AtomicU64| self.workers.iter().map(|(own, _)| read(of(own))).sum();
        Counts {
            woken: sum(|own| &own.woken),
            idle: sum(|own| &own.idle),
            accepted: sum(|own| &own.accepted),
            served: self
                .workers
                .iter()
                .map(|(own, _)| read(&own.accepted))
                .collect(),
        }
    }

    pub(crate) fn stop(self) -> Result<(), String> {
        self.stop.write(1).map_err(|e| e.to_string())?;
        for (_, thread) in self.workers {
            match thread.join() {
                Ok(result) => result.map_err(|e| format!("a worker failed: {e}"))?,
                Err(_) => return Err("a worker panicked".into()),
            }
        }
        Ok(())
    }
}

fn serve(epoll: &Epoll, listener: &TcpListener, own: &Own, hold: bool) -> nix::Result<()> {
    let mut events = [EpollEvent::empty(); 8];
    let mut held = Vec::new();
    loop {
        let n = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(n) => n,
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(e),
        };
        if events[..n].iter().any(|event| event.data() == STOP) {
            return Ok(());
        }
        let mut accepted = 0;
        while let Ok((mut stream, _)) = listener.accept() {
            accepted += 1;
            // A client that is gone again was accepted nevertheless.
            let _ = stream.write_all(b"x");
            if hold {
                held.push(stream);
            }
        }
        own.woken.fetch_add(1, Ordering::Relaxed);
        own.idle
            .fetch_add(u64::from(accepted == 0), Ordering::Relaxed);
        own.accepted.fetch_add(accepted, Ordering::Relaxed);
    }
}
