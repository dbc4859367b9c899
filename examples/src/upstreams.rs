//! Servers that requests are spread over: in turns, each at most once for a request, and without those that failed
//! a short while ago.
//!
//! ```no_run
//! use async_trait::async_trait;
//! use examples::upstreams::{Tried, Upstreams};
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
pub mod target;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::Method;
use pingora_core::protocols::http::v2::client::was_not_processed;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::ErrorType::{
    ConnectNoRoute, H2Downgrade, HTTPStatus, InvalidH2, InvalidHTTPHeader, ReadTimedout,
    WriteTimedout,
};
use pingora_core::{Error, ErrorSource, Result, RetryType};
use pingora_proxy::Session;

pub use health::Health;
use health::{millis, State};

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
    /// The servers that failed: a bit for each of the first 64.
    failed: u64,
    failed_beyond: Vec<usize>,
}

impl Tried {
    fn has(&self, index: usize) -> bool {
        match index < 64 {
            true => self.failed >> index & 1 == 1,
            false => self.failed_beyond.contains(&index),
        }
    }

    fn insert(&mut self, index: usize) {
        match index < 64 {
            true => self.failed |= 1 << index,
            false => self.failed_beyond.push(index),
        }
    }
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
                    .filter(|i| !tried.has(*i))
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

    /// Notes that the server which was picked last could not be connected to: the returned error asks for another try
    /// if a server is left. Nothing was sent, so this is safe for every request. What the request itself is refused for,
    /// such as a WebSocket that the server's version of HTTP has no way for, is no failure of the server.
    pub fn connect_failed(&self, tried: &mut Tried, mut e: Box<Error>) -> Box<Error> {
        if matches!(e.etype, HTTPStatus(_)) {
            return e;
        }
        let others = self.failed(tried, self.now());
        e.set_retry(others);
        e
    }

    /// Notes that the server which was picked last failed on an established connection, which was `reused` if so: the
    /// returned error asks for another try if that is safe.
    ///
    /// It is for a request whose method is idempotent, or that was not processed, and of whose answer nothing has come.
    /// A server that was too slow is not followed by another one, which would have as much to do.
    pub fn exchange_failed(
        &self,
        tried: &mut Tried,
        session: &Session,
        peer: &HttpPeer,
        e: Box<Error>,
        reused: bool,
    ) -> Box<Error> {
        let mut e = e.more_context(format!("Peer: {peer}"));
        let untouched = e.esource() == &ErrorSource::Upstream && was_not_processed(&e);
        let repeatable = (untouched || session.req_header().method.is_idempotent())
            && !session.retry_buffer_truncated();
        // The end of an idle connection says nothing about the server.
        let stale = reused && matches!(e.retry, RetryType::ReusedOnly);
        // Nor does its asking for another version, in which it is asked next, nor what a WebSocket was answered, which
        // its client chose to ask for there.
        let other_version = matches!(e.etype, H2Downgrade | InvalidH2);
        let handshake =
            session.req_header().method == Method::CONNECT && e.etype == InvalidHTTPHeader;
        if e.esource() == &ErrorSource::Upstream
            && session.response_written().is_none()
            && !(stale || untouched || other_version || handshake)
        {
            let others = self.failed(tried, self.now());
            let late = matches!(e.etype, ReadTimedout | WriteTimedout);
            e.set_retry(repeatable && others && !late);
        } else if repeatable {
            e.retry.decide_reuse(reused);
        } else {
            e.set_retry(false);
        }
        e
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
                tried.insert(tried.last);
            }
            (0..local.servers.len()).any(|index| !tried.has(index))
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
