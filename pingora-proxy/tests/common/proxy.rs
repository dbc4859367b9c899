//! The proxy under test, run by a real server on a thread of this process.

use super::custom::Frames;
use super::{eventually, Origin, Wire};
use async_trait::async_trait;
use pingora_core::apps::HttpServerOptions;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::listeners::{AcceptCounts, ListenerConfig, ProxyProtocol};
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;
use pingora_proxy::{ProxyHttp, ProxyServiceBuilder, Session};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;

/// A running proxy. Dropping it ends it at once.
pub struct Proxy {
    dir: TempDir,
    tcp: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    stop: watch::Sender<Option<Stop>>,
    thread: Option<JoinHandle<()>>,
    counts: Arc<OnceLock<AcceptCounts>>,
}

/// How a proxy is to run.
pub struct Setup {
    /// The server's settings.
    pub conf: ServerConf,
    /// What the HTTP server is allowed.
    pub options: HttpServerOptions,
    /// Whether it listens at a port too, and not only at a Unix socket.
    pub tcp: bool,
    /// What it serves at another port with, if it does TLS.
    pub tls: Option<TlsSettings>,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// Who speaks the PROXY protocol to it, if anybody does.
    pub balancers: Option<ProxyProtocol>,
    /// Whether sessions of frames take the proxy's tasks, and do not only have the required methods.
    pub custom_tasks: bool,
    /// What connects to origins that speak frames.
    pub frames: Frames,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            conf: ServerConf {
                work_stealing: false,
                grace_period_seconds: Some(1),
                // Reached only by what does not end: a test may take its time.
                graceful_shutdown_timeout_seconds: Some(60),
                ..ServerConf::default()
            },
            options: HttpServerOptions::default(),
            tcp: false,
            tls: None,
            handshake_timeout: Duration::from_secs(60),
            balancers: None,
            custom_tasks: false,
            frames: Frames::default(),
        }
    }
}

#[derive(Clone, Copy)]
enum Stop {
    Fast,
    Graceful,
}

impl Proxy {
    /// Forwards everything to `origin`.
    pub fn to(origin: &Origin) -> Self {
        Proxy::start(forward_to(origin.path()))
    }

    /// Runs `app` on one worker.
    pub fn start<P>(app: P) -> Self
    where
        P: ProxyHttp + Send + Sync + 'static,
        P::CTX: Send + Sync + 'static,
    {
        Proxy::start_with(Setup::default(), app)
    }

    /// Runs `app` as `setup` says.
    pub fn start_with<P>(setup: Setup, app: P) -> Self
    where
        P: ProxyHttp + Send + Sync + 'static,
        P::CTX: Send + Sync + 'static,
    {
        let dir = TempDir::new().unwrap();
        let socket = dir.path().join("proxy");
        let tcp = setup.tcp.then(free_address);
        let tls = setup.tls.is_some().then(free_address);
        let (stop, signal) = watch::channel(None);
        let counts = Arc::new(OnceLock::new());
        let thread = std::thread::spawn({
            let socket = socket.clone();
            let counts = counts.clone();
            move || serve(setup, app, &socket, (tcp, tls), signal, &counts)
        });
        let proxy = Proxy {
            dir,
            tcp,
            tls,
            stop,
            thread: Some(thread),
            counts,
        };
        eventually("the proxy listens", || {
            assert!(
                !proxy.thread.as_ref().is_some_and(JoinHandle::is_finished),
                "it ended"
            );
            UnixStream::connect(&socket).is_ok()
                && tcp.is_none_or(|addr| TcpStream::connect(addr).is_ok())
                && tls.is_none_or(|addr| TcpStream::connect(addr).is_ok())
        });
        proxy
    }

    /// The path of its Unix socket.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("proxy")
    }

    /// Its TCP address.
    #[track_caller]
    pub fn tcp(&self) -> SocketAddr {
        self.tcp.expect("set up with `tcp`")
    }

    /// Its TLS address.
    #[track_caller]
    pub fn tls(&self) -> SocketAddr {
        self.tls.expect("set up with `tls`")
    }

    /// A new connection to it.
    #[track_caller]
    pub fn connect(&self) -> Wire {
        Wire::new(UnixStream::connect(self.path()).expect("the proxy accepts"))
    }

    /// A new connection to it over TCP.
    #[track_caller]
    pub fn connect_tcp(&self) -> Wire {
        Wire::over_tcp(TcpStream::connect(self.tcp()).expect("the proxy accepts"))
    }

    /// The number of connections of clients that it has.
    pub fn open(&self) -> u64 {
        let counts = self.counts.get().map(AcceptCounts::per_worker);
        let workers = counts.unwrap_or_default();
        workers.iter().map(|worker| worker.open).sum()
    }

    /// Tells it to finish and end, as SIGTERM does. Does not wait for it.
    pub fn begin_shutdown(&self) {
        self.stop.send_replace(Some(Stop::Graceful));
    }

    /// Waits until it ended by itself.
    #[track_caller]
    pub fn wait(mut self) {
        self.join();
    }

    #[track_caller]
    fn join(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        eventually("the proxy ends", || thread.is_finished());
        thread.join().expect("the proxy ends without a panic");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop.send_if_modified(|stop| match stop {
                Some(_) => false,
                None => {
                    *stop = Some(Stop::Fast);
                    true
                }
            });
            self.join();
        }
    }
}

fn serve<P>(
    setup: Setup,
    app: P,
    socket: &Path,
    (tcp, tls): (Option<SocketAddr>, Option<SocketAddr>),
    signal: watch::Receiver<Option<Stop>>,
    counts: &OnceLock<AcceptCounts>,
) where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync + 'static,
{
    let mut server = Server::new_with_opt_and_conf(None, setup.conf);
    server.bootstrap();
    let mut service = ProxyServiceBuilder::new(&server.configuration, app)
        .name("proxy")
        .server_options(setup.options)
        .custom(setup.frames, super::custom::serve(setup.custom_tasks))
        .build();
    let mut endpoint = ListenerConfig::uds(socket.to_string_lossy());
    if let Some(balancers) = setup.balancers {
        endpoint = endpoint.proxy_protocol(balancers);
    }
    service.add_listener(endpoint);
    if let Some(addr) = tcp {
        service.add_tcp(&addr.to_string());
    }
    if let (Some(addr), Some(settings)) = (tls, setup.tls) {
        let endpoint = ListenerConfig::tcp(addr.to_string())
            .tls(settings)
            .tls_handshake_timeout(setup.handshake_timeout);
        service.add_listener(endpoint);
    }
    let _ = counts.set(service.accept_counts());
    server.add_service(service);
    server.run(RunArgs {
        shutdown_signal: Box::new(Signal(signal)),
    });
}

struct Signal(watch::Receiver<Option<Stop>>);

#[async_trait]
impl ShutdownSignalWatch for Signal {
    async fn recv(&self) -> ShutdownSignal {
        let mut stop = self.0.clone();
        let stop = stop.wait_for(Option::is_some).await.map(|stop| *stop);
        match stop {
            Ok(Some(Stop::Graceful)) => ShutdownSignal::GracefulTerminate,
            // The test is gone, so nobody needs the proxy.
            Ok(_) | Err(_) => ShutdownSignal::FastShutdown,
        }
    }
}

/// Returns an address that is free at the moment. Nobody else has its IP address: the kernel gives a port again that
/// nobody listens at yet.
pub fn free_address() -> SocketAddr {
    static GIVEN: AtomicUsize = AtomicUsize::new(0);
    let number = GIVEN.fetch_add(1, Ordering::Relaxed);
    let [high, low] = [number / 250, number % 250].map(|part| u8::try_from(part + 1).unwrap());
    TcpListener::bind((Ipv4Addr::new(127, 79, high, low), 0))
        .and_then(|socket| socket.local_addr())
        .expect("a free port")
}

/// A proxy that changes nothing.
pub struct Forward {
    /// Where everything goes.
    pub peer: HttpPeer,
}

/// Forwards to the Unix socket at `path`.
pub fn forward_to(path: PathBuf) -> Forward {
    Forward {
        peer: HttpPeer::new_uds(&path.to_string_lossy(), false, String::new()).unwrap(),
    }
}

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }
}
