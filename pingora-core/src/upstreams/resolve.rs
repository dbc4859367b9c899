//! Names of upstreams, looked up without blocking a worker, and again from time to time.
//!
//! [`HttpPeer::new`](super::peer::HttpPeer::new) takes a name too, but blocks the thread for as long as the look-up
//! takes and panics when it fails. A proxy makes a [`Resolver`] for each name when it starts, and asks it for an
//! address in `upstream_peer`:
//!
//! ```
//! use pingora_core::upstreams::peer::HttpPeer;
//! use pingora_core::upstreams::resolve::Resolver;
//! use pingora_core::Result;
//!
//! struct Proxy {
//!     origin: Resolver,
//! }
//!
//! impl Proxy {
//!     fn new() -> Result<Self> {
//!         let origin = Resolver::new("localhost:9000")?;
//!         Ok(Proxy { origin })
//!     }
//!
//!     /// The peer for the `n`-th try of a request, from 0: each goes to the next address of the name.
//!     async fn upstream_peer(&self, n: usize) -> Result<Box<HttpPeer>> {
//!         let address = self.origin.pick(n).await?;
//!         Ok(Box::new(HttpPeer::new(address, false, String::new())))
//!     }
//! }
//! ```
//!
//! Only the first request waits for a look-up. An answer that is older than the [time to
//! live](ResolverOptions::ttl) is still used while a task asks again, and for as long as asking fails.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pingora_error::ErrorType::{ConnectError, SocketError};
use pingora_error::{Error, Result};
use spin::mutex::SpinMutex;
use spin::Yield;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::limits::LIMITS;
use crate::worker::{self, PerWorker};

/// The addresses of a name, or why there are none.
pub type LookupFuture<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Finds the addresses of names.
pub trait Lookup: Send + Sync {
    /// Looks up `name`, which is `host:port`. The future must not block its thread.
    fn lookup<'a>(&'a self, name: &'a str) -> LookupFuture<'a>;
}

/// Asks the system (`getaddrinfo`), on a thread where that may block.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup<'a>(&'a self, name: &'a str) -> LookupFuture<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host(name).await?.collect()) })
    }
}

/// A way in which a [`Resolver`] looks a name up.
#[non_exhaustive]
pub struct ResolverOptions {
    /// The time after which an answer is asked for again, 30 s by default. The system does not tell the time to
    /// live of the records behind it.
    pub ttl: Duration,
    /// The longest time that a look-up may take, 10 s by default.
    pub timeout: Duration,
    /// The resolver that is asked; the system's by default.
    pub lookup: Arc<dyn Lookup>,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        ResolverOptions {
            ttl: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            lookup: Arc::new(SystemLookup),
        }
    }
}

/// The addresses of one name. It keeps the last good answer, and costs a request no look-up, no lock that other
/// workers wait for, and no allocation.
pub struct Resolver {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    options: ResolverOptions,
    /// Counts the look-ups that changed something; zero while no address is known.
    version: AtomicU64,
    answer: Mutex<Answer>,
    /// Held by the look-up that others wait for, because nothing is known yet.
    first: tokio::sync::Mutex<()>,
    refreshing: AtomicBool,
    /// The copy of the answer that each worker has.
    workers: PerWorker<SpinMutex<Copied, Yield>>,
}

#[derive(Default)]
struct Answer {
    addresses: Vec<SocketAddr>,
    /// When to ask again; `None` for never.
    due: Option<Instant>,
    failures: u64,
    last_failure: String,
}

#[derive(Default)]
struct Copied {
    version: u64,
    addresses: Vec<SocketAddr>,
    due: Option<Instant>,
}

impl Resolver {
    /// A resolver of `name`, which is `host:port`: `localhost:80`, `127.0.0.1:80`, `[::1]:80`. Nothing is looked up
    /// yet, and an IP address never is.
    ///
    /// # Errors
    /// `SocketError` when `name` is not of this form.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        Self::with_options(name, ResolverOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`Resolver::new`].
    pub fn with_options(name: impl Into<String>, options: ResolverOptions) -> Result<Self> {
        let name = name.into();
        let literal = name.parse().ok();
        if literal.is_none() && !is_host_and_port(&name) {
            let why = format!("not a host with a port: {name:?}, as in localhost:80");
            return Error::e_explain(SocketError, why);
        }
        let answer = Answer {
            addresses: literal.into_iter().collect(),
            ..Answer::default()
        };
        let inner = Inner {
            name,
            options,
            version: AtomicU64::new(u64::from(literal.is_some())),
            answer: Mutex::new(answer),
            first: tokio::sync::Mutex::default(),
            refreshing: AtomicBool::new(false),
            workers: PerWorker::new(),
        };
        Ok(Resolver {
            inner: Arc::new(inner),
        })
    }

    /// The name, as it was given.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns the address `n` of the name, counted round: with two addresses, 2 is the first again. Waits only
    /// while no address is known.
    ///
    /// # Errors
    /// `ConnectError`, with an upstream as its source, when no address is known and the look-up fails or takes
    /// too long.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing; the next request looks the name up.
    pub async fn pick(&self, n: usize) -> Result<SocketAddr> {
        loop {
            let picked = self.known(|all| all.get(n % all.len().max(1)).copied());
            match picked.flatten() {
                Some(address) => return Ok(address),
                None => self.first_answer().await?,
            }
        }
    }

    /// Returns all addresses of the name, in the order of preference (RFC 6724), never none.
    ///
    /// # Errors
    /// As [`Resolver::pick`].
    ///
    /// # Cancel safety
    /// As [`Resolver::pick`].
    pub async fn addresses(&self) -> Result<Vec<SocketAddr>> {
        loop {
            match self.known(<[_]>::to_vec) {
                Some(all) => return Ok(all),
                None => self.first_answer().await?,
            }
        }
    }

    /// Looks the name up now, whatever is known; for a check when a program starts.
    ///
    /// # Errors
    /// `ConnectError` when the look-up fails or takes too long. What was known before stays.
    ///
    /// # Cancel safety
    /// Dropping the future loses the answer.
    pub async fn refresh(&self) -> Result<()> {
        match self.name().parse::<SocketAddr>() {
            Ok(_) => Ok(()),
            Err(_) => self.inner.look_up().await,
        }
    }

    /// Returns what `read` makes of the addresses, if there are any. An answer that is due is asked for by a task.
    fn known<T>(&self, read: impl FnOnce(&[SocketAddr]) -> T) -> Option<T> {
        let version = self.inner.version.load(Ordering::Acquire);
        if version == 0 {
            return None;
        }
        let own = self.inner.workers.get_or_init(worker::current(), || {
            SpinMutex::<_, Yield>::new(Copied::default())
        });
        let mut own = own.lock();
        if own.version != version {
            let answer = self.inner.answer.lock();
            own.addresses.clone_from(&answer.addresses);
            own.due = answer.due;
            own.version = version;
        }
        let (read, due) = (read(&own.addresses), own.due);
        drop(own);
        if due.is_some_and(|due| due <= Instant::now()) {
            self.refresh_soon();
        }
        Some(read)
    }

    async fn first_answer(&self) -> Result<()> {
        let inner = &*self.inner;
        let failures = inner.answer.lock().failures;
        let _first = inner.first.lock().await;
        if inner.version.load(Ordering::Acquire) > 0 {
            return Ok(());
        }
        // The failure that this request has waited for is its own.
        let waited_for = {
            let answer = inner.answer.lock();
            (answer.failures != failures).then(|| answer.last_failure.clone())
        };
        match waited_for {
            Some(why) => Err(inner.failure(&why)),
            None => inner.look_up().await,
        }
    }

    fn refresh_soon(&self) {
        let refreshing = &self.inner.refreshing;
        if refreshing.load(Ordering::Relaxed) || Handle::try_current().is_err() {
            return;
        }
        if !refreshing.swap(true, Ordering::AcqRel) {
            let refresh = Refresh(self.inner.clone());
            worker::spawn_housekeeping(async move {
                if let Err(e) = refresh.0.look_up().await {
                    log::warn!("the last known addresses are used on: {e}");
                }
            });
        }
    }
}

/// A look-up by a task; when this is dropped, the next one may begin.
struct Refresh(Arc<Inner>);

impl Drop for Refresh {
    fn drop(&mut self) {
        self.0.refreshing.store(false, Ordering::Release);
    }
}

impl Inner {
    async fn look_up(&self) -> Result<()> {
        let ResolverOptions { ttl, timeout, .. } = self.options;
        let asking = self.options.lookup.lookup(&self.name);
        let found = match tokio::time::timeout(timeout, asking).await {
            Ok(Ok(found)) if found.is_empty() => Err("the name has no address".to_owned()),
            Ok(found) => found.map_err(|e| e.to_string()),
            Err(_) => Err(format!("no answer within {timeout:?}")),
        };
        let mut answer = self.answer.lock();
        let now = Instant::now();
        let failed = match found {
            Ok(addresses) => {
                answer.addresses = addresses;
                answer.due = now.checked_add(ttl);
                None
            }
            Err(why) => {
                answer.due = Some(now + LIMITS.resolve_retry.min(ttl));
                answer.failures += 1;
                answer.last_failure.clone_from(&why);
                Some(why)
            }
        };
        if !answer.addresses.is_empty() {
            self.version.fetch_add(1, Ordering::Release);
        }
        drop(answer);
        match failed {
            None => Ok(()),
            Some(why) => Err(self.failure(&why)),
        }
    }

    fn failure(&self, why: &str) -> Box<Error> {
        Error::explain(ConnectError, format!("looking up {}: {why}", self.name)).into_up()
    }
}

fn is_host_and_port(name: &str) -> bool {
    let Some((host, port)) = name.rsplit_once(':') else {
        return false;
    };
    let is_port = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let in_host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    is_port && !host.is_empty() && host.len() <= 254 && host.bytes().all(in_host)
}

#[cfg(test)]
mod tests;
