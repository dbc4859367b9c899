//! Origins: servers that are not ours, whose answers are a function of the request, and that die, hang and come back.

mod answer;
mod body;
mod early;
mod rpc;
mod socket;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use rpc::Call;

/// The host of each request. An origin that sees another has got what is not for it.
pub const HOST: &str = "soak.example";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Up,
    /// Connections are accepted, and nothing is answered.
    Hung,
    /// There is no listener and no connection.
    Down,
}

pub struct Origin {
    pub number: usize,
    /// Its address without TLS.
    pub clear: SocketAddr,
    /// Its address with TLS.
    pub tls: SocketAddr,
    state: watch::Sender<State>,
    shared: Arc<Shared>,
}

impl Origin {
    pub fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

/// The knowledge that all origins share.
#[derive(Default)]
pub struct Shared {
    /// Raised before what is cached is purged: bodies of before and after differ.
    epoch: AtomicU64,
    /// Requests that came, checks of health aside.
    asked: AtomicU64,
    /// Requests that must not come twice, and when each came.
    once: Mutex<HashMap<String, Instant>>,
    wrong: Mutex<Vec<String>>,
}

impl Shared {
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    pub fn next_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Returns what no origin should have seen.
    pub fn take_wrong(&self) -> Vec<String> {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut wrong)
    }

    fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.push(what);
    }

    /// Notes a request that must not be sent twice.
    fn once(&self, id: &str, what: &str) {
        let mut once = self.once.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if once.len() > 20_000 {
            once.retain(|_, seen| now.duration_since(*seen) < Duration::from_secs(60));
        }
        if once.insert(id.to_owned(), now).is_some() {
            drop(once);
            self.wrong(format!("{what} {id} came twice"));
        }
    }
}

pub struct Origins {
    pub each: Vec<Arc<Origin>>,
    pub shared: Arc<Shared>,
}

impl Origins {
    /// Starts so many, each at two addresses.
    pub async fn start(count: usize, acceptor: &TlsAcceptor) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut each = Vec::new();
        for number in 0..count {
            // At an address that no connection is made from, so that the port is free when the origin comes back.
            let host = Ipv4Addr::new(127, 0, 0, 2 + number as u8);
            let clear = TcpListener::bind((IpAddr::V4(host), 0)).await?;
            let tls = TcpListener::bind((IpAddr::V4(host), 0)).await?;
            let origin = Arc::new(Origin {
                number,
                clear: clear.local_addr()?,
                tls: tls.local_addr()?,
                state: watch::channel(State::Up).0,
                shared: shared.clone(),
            });
            tokio::spawn(run(origin.clone(), clear, None));
            tokio::spawn(run(origin.clone(), tls, Some(acceptor.clone())));
            each.push(origin);
        }
        Ok(Self { each, shared })
    }
}

/// Serves at one of the addresses.
async fn run(origin: Arc<Origin>, first: TcpListener, tls: Option<TlsAcceptor>) {
    let address = if tls.is_some() {
        origin.tls
    } else {
        origin.clear
    };
    let mut state = origin.state.subscribe();
    let mut listener = Some(first);
    loop {
        if state.wait_for(|state| *state != State::Down).await.is_err() {
            return;
        }
        let listener = match listener.take() {
            Some(listener) => listener,
            None => bind(address).await,
        };
        // All connections end with this.
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        connections.spawn(serve(origin.clone(), stream, tls.clone()));
                    }
                    while connections.try_join_next().is_some() {}
                }
                _ = state.wait_for(|state| *state == State::Down) => break,
            }
        }
    }
}

async fn bind(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn serve(origin: Arc<Origin>, stream: TcpStream, tls: Option<TlsAcceptor>) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => exchange(origin, stream).await,
        // Without a handshake there is nobody to serve.
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                exchange(origin, stream).await;
            }
        }
    }
}

async fn exchange<S>(origin: Arc<Origin>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer::answer(origin.clone(), request));
    let server = auto::Builder::new(TokioExecutor::new());
    // An error is the end of the connection, which the proxy may cause.
    let _ = server
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
}
