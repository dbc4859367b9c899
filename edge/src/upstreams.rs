//! Servers that requests are spread over: in turns, each at most once for a request, and without those that failed
//! a short while ago.
//!
//! ```no_run
//! use async_trait::async_trait;
//! use edge::upstreams::{Tried, Upstreams};
//! use pingora_core::upstreams::peer::HttpPeer;
//! use pingora_core::{Error, Result};
//! use pingora_http::ResponseHeader;
//! use pingora_proxy::{ProxyHttp, Session};
//!
//! struct Spread {
//!     upstreams: Upstreams,
//! }
//!
//! #[async_trait]
//! impl ProxyHttp for Spread {
//!     type CTX = Tried;
//!     fn new_ctx(&self) -> Tried {
//!         Tried::default()
//!     }
//!     async fn upstream_peer(&self, _: &mut Session, tried: &mut Tried) -> Result<Box<HttpPeer>> {
//!         self.upstreams.pick(tried)
//!     }
//!     fn fail_to_connect(
//!         &self,
//!         _: &mut Session,
//!         _: &HttpPeer,
//!         tried: &mut Tried,
//!         e: Box<Error>,
//!     ) -> Box<Error> {
//!         self.upstreams.connect_failed(tried, e)
//!     }
//!     async fn upstream_response_filter(
//!         &self,
//!         _: &mut Session,
//!         _: &mut ResponseHeader,
//!         tried: &mut Tried,
//!     ) -> Result<()> {
//!         self.upstreams.answered(tried);
//!         Ok(())
//!     }
//!     fn error_while_proxy(
//!         &self,
//!         peer: &HttpPeer,
//!         session: &mut Session,
//!         e: Box<Error>,
//!         tried: &mut Tried,
//!         reused: bool,
//!     ) -> Box<Error> {
//!         self.upstreams.exchange_failed(tried, session, peer, e, reused)
//!     }
//! }
//! ```
//!
//! Health is passive, as in nginx: a server that fails [`max_fails`](Health::max_fails) times is left alone for
//! [`fail_timeout`](Health::fail_timeout), then one request tries it, and an answer brings it back. When all are out,
//! they are tried all the same.
//!
//! Workers take turns for themselves, and write nothing that they share unless a server fails or comes back.

mod health;
pub mod names;
pub mod retry;
mod set;
pub mod target;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::ErrorType::ConnectNoRoute;
use pingora_core::{Error, Result};
use pingora_proxy::Session;

use health::millis;
pub use health::{Health, State};
pub use set::Set;

/// Servers that do the same, and how they fare.
pub struct Upstreams {
    /// Under which each worker keeps its turn.
    id: usize,
    health: Health,
    started: Instant,
    /// Tells workers that the servers are others than those that they know.
    generation: AtomicU64,
    servers: Mutex<Arc<[Server]>>,
}

/// A server, and how it fares.
#[derive(Clone)]
struct Server {
    /// Made once: a request gets a copy of the box, which is quicker than a copy in a box.
    peer: Box<HttpPeer>,
    state: Arc<State>,
}

/// The servers that one request was given, and which of them failed it.
#[derive(Debug, Default)]
pub struct Tried {
    /// To which list of servers the rest belongs.
    generation: u64,
    last: usize,
    failed: Set,
}

/// What a worker knows of one [`Upstreams`].
struct Local {
    generation: u64,
    servers: Arc<[Server]>,
    turn: usize,
}

thread_local! {
    static LOCAL: RefCell<Vec<Option<Local>>> = const { RefCell::new(Vec::new()) };
}

impl Upstreams {
    /// Spreads requests over these peers.
    pub fn new(peers: Vec<HttpPeer>, health: Health) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let upstreams = Upstreams {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            health,
            started: Instant::now(),
            generation: AtomicU64::new(0),
            servers: Mutex::new(Arc::new([])),
        };
        upstreams.replace(peers);
        upstreams
    }

    /// Spreads requests over these peers from now on. Those that were there before keep their state of health.
    pub fn replace(&self, peers: Vec<HttpPeer>) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |peer: &HttpPeer| {
            let mut known = servers.iter();
            known
                .find(|server| server.peer._address == peer._address && server.peer.sni == peer.sni)
        };
        let server = |peer: HttpPeer| Server {
            state: known(&peer).map_or_else(Arc::default, |server| server.state.clone()),
            peer: Box::new(peer),
        };
        let new = peers.into_iter().map(server).collect();
        *servers = new;
        // While the list is locked: who sees the number finds the list of it, or a newer one.
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The number of servers.
    pub fn len(&self) -> usize {
        self.servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Whether there is no server.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the next server for a request: one that has not failed it, and has not failed others lately if there
    /// is such a one.
    ///
    /// # Errors
    /// `ConnectNoRoute`, of the upstream's side, when there is none, or none that has not failed this request.
    #[inline]
    pub fn pick(&self, tried: &mut Tried) -> Result<Box<HttpPeer>> {
        self.pick_at(tried, || self.now())
    }

    fn pick_at(&self, tried: &mut Tried, now: impl Fn() -> u64) -> Result<Box<HttpPeer>> {
        self.with_local(|local| {
            if tried.generation != local.generation {
                *tried = Tried {
                    generation: local.generation,
                    ..Tried::default()
                };
            }
            let (servers, turn) = (&local.servers, local.turn);
            let untried = || {
                (turn..servers.len())
                    .chain(0..turn)
                    .filter(|i| !tried.failed.has(*i))
            };
            let index = untried()
                .find(|i| servers[*i].state.may_try(&self.health, &now))
                .or_else(|| untried().next());
            let Some(index) = index else {
                let why = match servers.is_empty() {
                    true => "no upstream is known",
                    false => "every upstream has failed this request",
                };
                return Err(Error::explain(ConnectNoRoute, why).into_up());
            };
            local.turn = if index + 1 < servers.len() {
                index + 1
            } else {
                0
            };
            tried.last = index;
            Ok(local.servers[index].peer.clone())
        })
    }

    /// Notes that the server which was picked last could not be connected to, as [`retry::connect_failed`] does.
    pub fn connect_failed(&self, tried: &mut Tried, e: Box<Error>) -> Box<Error> {
        retry::connect_failed(e, || self.failed(tried, self.now()))
    }

    /// Notes that the server which was picked last failed on an established connection, which was `reused` if so, as
    /// [`retry::exchange_failed`] does.
    pub fn exchange_failed(
        &self,
        tried: &mut Tried,
        session: &Session,
        peer: &HttpPeer,
        e: Box<Error>,
        reused: bool,
    ) -> Box<Error> {
        let failed = || self.failed(tried, self.now());
        retry::exchange_failed(session, peer, e, reused, failed)
    }

    /// Notes that the server which was picked last has answered: it is well.
    #[inline]
    pub fn answered(&self, tried: &Tried) {
        self.with_local(|local| {
            let server = local.servers.get(tried.last);
            if let Some(server) = server.filter(|_| tried.generation == local.generation) {
                server.state.answered();
            }
        });
    }

    /// Notes a failure, and says whether a server is left that has not failed this request.
    fn failed(&self, tried: &mut Tried, now: u64) -> bool {
        let mut out = None;
        let others = self.with_local(|local| {
            if tried.generation != local.generation {
                // Of another list none was tried.
                return true;
            }
            if let Some(server) = local.servers.get(tried.last) {
                if server.state.failed(&self.health, now) {
                    out = Some(server.peer._address.clone());
                }
                tried.failed.insert(tried.last);
            }
            (0..local.servers.len()).any(|index| !tried.failed.has(index))
        });
        if let Some(address) = out {
            let pause = self.health.fail_timeout;
            log::warn!("upstream {address} has failed: it is left alone for {pause:?}");
        }
        others
    }

    fn with_local<T>(&self, f: impl FnOnce(&mut Local) -> T) -> T {
        LOCAL.with_borrow_mut(|all| {
            let current = self.generation.load(Ordering::Acquire);
            match all.get_mut(self.id) {
                Some(Some(local)) if local.generation == current => f(local),
                _ => f(self.refreshed(all)),
            }
        })
    }

    #[cold]
    fn refreshed<'a>(&self, all: &'a mut Vec<Option<Local>>) -> &'a mut Local {
        if all.len() <= self.id {
            all.resize_with(self.id + 1, || None);
        }
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        all[self.id].insert(Local {
            generation: self.generation.load(Ordering::Acquire),
            servers: servers.clone(),
            turn: 0,
        })
    }

    /// Milliseconds since the start.
    fn now(&self) -> u64 {
        millis(self.started.elapsed())
    }
}
