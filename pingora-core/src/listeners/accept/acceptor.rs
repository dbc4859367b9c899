//! The common part of an endpoint's acceptors: accepting in batches, and the end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socket2::Socket;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinError;

use super::drain::refuse_new;
use super::pool::{Open, To, WorkerPool};
use crate::listeners::l4::Listening;
use crate::protocols::l4::stream::Stream as L4Stream;

/// Connections that are accepted in a row before others of the thread have their turn.
pub(super) const BATCH: usize = 32;
/// The time for which to wait when the process can open no more files.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// The shortest time between two of these lines.
const TELL: Duration = Duration::from_secs(1);
/// The time for which a socket that takes no more connections must stay quiet until it is closed: about the
/// time that a handshake under way may still need.
const QUIET: Duration = Duration::from_millis(20);
/// The number of times it may fail to.
const QUIET_TRIES: usize = 25;

/// A connection that is registered with no reactor yet.
pub(crate) struct Accepted {
    socket: Socket,
    /// The client's address, none for a Unix socket.
    pub(in crate::listeners) peer: Option<SocketAddr>,
}

impl Accepted {
    /// Registers the connection with the reactor of the calling task.
    pub(in crate::listeners) fn into_stream(self) -> io::Result<L4Stream> {
        match self.peer {
            // TCP_NODELAY was inherited from the listening socket.
            Some(peer) => {
                let tcp = TcpStream::from_std(self.socket.into())?;
                Ok(L4Stream::with_peer(tcp, peer))
            }
            None => Ok(UnixStream::from_std(self.socket.into())?.into()),
        }
    }
}

/// A maker of the future that serves a connection.
pub(crate) trait Connect: Send + Sync + 'static {
    /// The future.
    type Served: Future<Output = ()> + Send + 'static;

    /// Makes it; it does all its work when it is polled.
    fn connect(&self, accepted: Accepted) -> Self::Served;
}

impl<F, C> Connect for F
where
    F: Fn(Accepted) -> C + Send + Sync + 'static,
    C: Future<Output = ()> + Send + 'static,
{
    type Served = C;

    fn connect(&self, accepted: Accepted) -> C {
        self(accepted)
    }
}

/// The part that the acceptors of an endpoint share.
pub(super) struct Acceptor<F> {
    pub(super) listening: Listening,
    pub(super) pool: Arc<WorkerPool>,
    pub(super) connect: F,
    limits: Limits,
    /// When it was last told that accepting fails.
    told: Mutex<Option<Instant>>,
}

/// The limits of an endpoint's connections.
#[derive(Clone)]
pub(in crate::listeners) struct Limits {
    /// Connections of the service.
    pub(in crate::listeners) service: Option<usize>,
    /// Those of the endpoint.
    pub(in crate::listeners) endpoint: Option<usize>,
    /// Their count, kept without a limit too: there may be one later.
    pub(in crate::listeners) open: Arc<Open>,
}

/// Connections that were accepted in a row.
pub(super) struct Batch {
    pub(super) accepted: usize,
    pub(super) ended: Ended,
}

/// Why a batch ended.
#[derive(PartialEq, Eq)]
pub(super) enum Ended {
    /// No more wait.
    Empty,
    /// It is as long as it may be.
    Full,
    /// The system refuses, and will for a while.
    Failed,
}

impl<F: Connect> Acceptor<F> {
    pub(super) fn new(
        listening: Listening,
        pool: Arc<WorkerPool>,
        limits: Limits,
        connect: F,
    ) -> Self {
        Acceptor {
            listening,
            pool,
            connect,
            limits,
            told: Mutex::new(None),
        }
    }

    /// Accepts what waits at a socket, so many connections at most, for an acceptor of this worker; counts that it
    /// was woken for it.
    pub(super) fn accept_some(&self, worker: usize, socket: &Socket, to: To, most: usize) -> Batch {
        let batch = self.accept_batch(worker, socket, to, most);
        self.pool.counts(worker).woken(batch.accepted);
        batch
    }

    fn accept_batch(&self, worker: usize, socket: &Socket, to: To, most: usize) -> Batch {
        let mut accepted = 0;
        let mut tried = 0;
        let ended = loop {
            // Others of the thread have their turn, whatever comes of the tries.
            if accepted >= most || tried >= most.max(BATCH) {
                break Ended::Full;
            }
            tried += 1;
            match accept(socket) {
                Ok(connection) => {
                    accepted += 1;
                    self.pool.counts(worker).accepted();
                    if let Some(full) = self.full() {
                        self.pool.counts(worker).refused();
                        self.tell_full(full);
                        continue;
                    }
                    let served = self.connect.connect(connection);
                    self.pool.hand_over(to, worker, &self.limits.open, served);
                }
                Err(e) if concerns_one(&e) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break Ended::Empty,
                Err(e) => {
                    self.pool.counts(worker).failed();
                    self.tell(&e);
                    break Ended::Failed;
                }
            }
        };
        Batch { accepted, ended }
    }

    /// Accepts what waits at the sockets that nobody else is to have, and lets nothing new come to wait where no other process
    /// can miss it.
    pub(super) async fn accept_rest(&self) {
        let unix = self.listening.unix;
        let mut left: Vec<&Socket> = self.listening.own().map(|socket| &**socket).collect();
        for socket in left.iter().filter(|one| !self.listening.is_shared(one)) {
            if let Err(e) = refuse_new(socket, unix) {
                log::debug!("{}: {e}", self.listening.bind);
            }
        }
        for round in 0..QUIET_TRIES {
            left.retain(|socket| {
                let mut none = true;
                let ended = loop {
                    let batch = self.accept_batch(0, socket, To::LeastLoaded, BATCH);
                    none &= batch.accepted == 0;
                    if batch.ended != Ended::Full {
                        break batch.ended;
                    }
                };
                // Nobody is in the middle of a handshake with a Unix socket. Elsewhere files may be closed
                // by the next round.
                let done = none && round > 0 && ended == Ended::Empty;
                !(unix && ended == Ended::Empty || done)
            });
            if left.is_empty() {
                return;
            }
            tokio::time::sleep(QUIET).await;
        }
    }

    /// Returns the limit that is reached, if one is.
    fn full(&self) -> Option<usize> {
        let Limits {
            service,
            endpoint,
            open,
        } = &self.limits;
        let of_endpoint = endpoint.filter(|most| open.sum() >= *most);
        of_endpoint.or_else(|| service.filter(|most| self.pool.all_live() >= *most))
    }

    fn tell_full(&self, most: usize) {
        if self.may_tell() {
            let bind = &self.listening.bind;
            log::warn!(
                "{bind}: connections are closed: there are {most}, the most that there may be"
            );
        }
    }

    pub(super) fn tell(&self, e: &io::Error) {
        if self.may_tell() {
            log::error!("{}: cannot accept connections: {e}", self.listening.bind);
        }
    }

    /// Returns whether nothing was told for a while.
    fn may_tell(&self) -> bool {
        let now = Instant::now();
        let mut told = self.told.lock();
        let may = told.is_none_or(|last| now.duration_since(last) >= TELL);
        if may {
            *told = Some(now);
        }
        may
    }

    pub(super) fn cannot_listen(&self, e: &io::Error) -> String {
        format!("cannot listen on {}: {e}", self.listening.bind)
    }

    /// Tells when an acceptor ended by a panic.
    pub(super) fn check(&self, ended: Result<(), JoinError>) {
        if let Err(e) = ended {
            log::error!("{}: accepting has failed: {e}", self.listening.bind);
        }
    }
}

/// Returns whether an error concerns one connection and not the socket: the next one may be accepted.
fn concerns_one(e: &io::Error) -> bool {
    // accept(2): errors of the network that are already pending on the new connection come up here.
    matches!(
        e.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPERM
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::ETIMEDOUT
        )
    )
}

#[cfg(not(target_vendor = "apple"))]
pub(in crate::listeners) fn accept(socket: &Socket) -> io::Result<Accepted> {
    let (socket, peer) = socket.accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)?;
    let peer = peer.as_socket();
    Ok(Accepted { socket, peer })
}

#[cfg(target_vendor = "apple")]
pub(in crate::listeners) fn accept(socket: &Socket) -> io::Result<Accepted> {
    let (socket, peer) = socket.accept()?;
    socket.set_nonblocking(true)?;
    let peer = peer.as_socket();
    Ok(Accepted { socket, peer })
}
