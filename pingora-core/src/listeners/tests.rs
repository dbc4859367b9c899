use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_error::Error;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::apps::ServerApp;
use crate::protocols::l4::stream::Stream as L4Stream;
use crate::protocols::{Stream, TcpKeepalive};
use crate::services::listening::Service;
use crate::services::Service as _;
use crate::shutdown::watch::ShutdownWatch;
use crate::worker::{self, Workers};

/// A directory of the test's own, removed at its end.
pub(super) struct Dir(PathBuf);

impl Dir {
    pub(super) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("listen-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn runtime() -> Runtime {
    runtime_of(1)
}

pub(super) fn runtime_of(threads: usize) -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(threads)
        .enable_all()
        .build()
        .unwrap()
}

/// Answers each byte with itself, says hello first, and counts connections by thread.
#[derive(Default)]
pub(super) struct Echo {
    pub(super) threads: Mutex<BTreeMap<usize, usize>>,
    cleaned: Mutex<usize>,
}

#[async_trait]
impl ServerApp for Echo {
    async fn process_new(
        self: &Arc<Self>,
        mut session: Stream,
        _shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let mut byte = [0];
        if session.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        if byte[0] == b'!' {
            panic!("asked to");
        }
        if byte[0] == b'1' {
            *self.threads.lock().entry(worker::current()).or_default() += 1;
        }
        session.write_all(&byte).await.ok()?;
        session.flush().await.ok()?;
        Some(session)
    }

    async fn cleanup(&self) {
        *self.cleaned.lock() += 1;
    }
}

/// A service that runs on workers of its own.
pub(super) struct Running {
    pub(super) workers: Vec<Runtime>,
    shutdown: watch::Sender<bool>,
    pub(super) fds: ListenFds,
    service: JoinHandle<()>,
    pub(super) counts: AcceptCounts,
}

impl Running {
    fn start(service: Service<Arc<Echo>>, workers: usize, tasks: usize) -> Self {
        let workers = (0..workers).map(|_| runtime()).collect();
        let settings = accepting::Settings::default();
        Running::with(service, workers, tasks, ListenFds::default(), settings)
    }

    pub(super) fn with(
        mut service: Service<Arc<Echo>>,
        workers: Vec<Runtime>,
        tasks: usize,
        fds: ListenFds,
        settings: accepting::Settings,
    ) -> Self {
        let (shutdown, watch) = watch::channel(false);
        let counts = service.accept_counts();
        let (sender, mut ready) = watch::channel(false);
        let notifier = crate::services::ServiceReadyNotifier::new(sender);
        let scope = Workers::new(workers.iter().map(|w| w.handle().clone()).collect());
        let table = Some(fds.clone());
        let service = settings.scope(async move {
            service
                .start_with_notifier(table, watch, tasks, notifier)
                .await
        });
        let service = workers[0].spawn(scope.scope(service));
        workers[0]
            .block_on(ready.wait_for(|ready| *ready))
            .map(drop)
            .unwrap();
        Running {
            workers,
            shutdown,
            fds,
            service,
            counts,
        }
    }

    /// The address of the only TCP socket.
    pub(super) fn address(&self) -> SocketAddr {
        let (_, fds) = self.fds.lock().serialize();
        crate::protocols::l4::socket::SocketAddr::from_raw_fd(fds[0], false)
            .and_then(|address| address.as_inet().copied())
            .unwrap()
    }

    /// Stops the service and waits until its listeners have closed.
    pub(super) fn stop(self) -> Vec<Runtime> {
        self.shutdown.send_replace(true);
        self.workers[0].block_on(self.service).unwrap();
        self.workers
    }
}

#[async_trait]
impl ServerApp for Arc<Echo> {
    async fn process_new(
        self: &Arc<Self>,
        session: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        Echo::process_new(self, session, shutdown).await
    }

    async fn cleanup(&self) {
        Echo::cleanup(self).await
    }
}

pub(super) fn tcp_service(app: &Arc<Echo>) -> Service<Arc<Echo>> {
    let listeners = Listeners::tcp(&own_address());
    Service::with_listeners("echo".into(), listeners, app.clone())
}

/// Any port of an IP address that no other test has: the kernel gives a port again that nobody listens at any more, and a
/// test may look whether somebody does.
pub(super) fn own_address() -> String {
    static GIVEN: AtomicUsize = AtomicUsize::new(0);
    // A test is a thread.
    thread_local!(static OWN: usize = GIVEN.fetch_add(1, Ordering::Relaxed));
    let number = OWN.with(|own| *own);
    format!("127.66.{}.{}:0", number / 250, number % 250 + 1)
}

pub(super) fn exchange(mut client: impl Read + Write, bytes: &[u8]) {
    for byte in bytes {
        client.write_all(&[*byte]).unwrap();
        let mut back = [0];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, [*byte]);
    }
}

pub(super) fn is_closed(mut client: impl Read) -> bool {
    matches!(client.read(&mut [0]), Ok(0) | Err(_))
}

async fn listen_error(address: ServerAddress, fds: Option<&ListenFds>) -> String {
    match l4::listen(&address, l4::Manner::default(), fds).await {
        Ok(_) => panic!("{address:?} can be listened on"),
        Err(e) => e,
    }
}

fn tcp(address: &str) -> ServerAddress {
    ServerAddress::Tcp(address.into(), None)
}

#[test]
fn connections_are_spread_evenly() {
    for tasks in [1, 4] {
        let app = Arc::new(Echo::default());
        let running = Running::start(tcp_service(&app), 3, tasks);
        let address = running.address();
        let mut clients: Vec<TcpStream> = Vec::new();
        for n in 1..=30 {
            let client = TcpStream::connect(address).unwrap();
            exchange(&client, b"1");
            clients.push(client);
            let counts: Vec<usize> = app.threads.lock().values().copied().collect();
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(
                n < 3 || (counts.len() == 3 && most - least <= 1),
                "{counts:?}"
            );
        }
        // As many again go where room is made.
        let threads = app.threads.lock().clone();
        assert_eq!(threads.values().sum::<usize>(), 30);
        running.stop();
        assert_eq!(*app.cleaned.lock(), 1);
        assert!(TcpStream::connect(address).is_err());
    }
}

#[test]
fn a_panic_costs_its_own_connection() {
    let app = Arc::new(Echo::default());
    let running = Running::start(tcp_service(&app), 2, 1);
    let other = TcpStream::connect(running.address()).unwrap();
    exchange(&other, b"a");
    let mut client = TcpStream::connect(running.address()).unwrap();
    client.write_all(b"!").unwrap();
    assert!(is_closed(&client));
    exchange(&other, b"b");
    exchange(TcpStream::connect(running.address()).unwrap(), b"c");
    running.stop();
}

#[test]
fn a_stopped_service_serves_what_it_had_accepted() {
    let app = Arc::new(Echo::default());
    let running = Running::start(tcp_service(&app), 2, 1);
    let client = TcpStream::connect(running.address()).unwrap();
    exchange(&client, b"a");
    let fds = running.fds.clone();
    let workers = running.stop();
    assert!(fds.lock().is_empty());
    exchange(&client, b"bcd");
    drop(workers);
}

/// Connections that were complete before the listener closed are served, and no more come.
#[test]
fn what_waits_in_the_queue_is_served() {
    let dir = Dir::new("queue");
    let path = dir.path("sock");
    let rt = runtime();
    rt.block_on(async {
        let mut listeners = {
            let mut listeners = Listeners::tcp(&own_address());
            listeners.add_uds(&path, None);
            listeners
        };
        let mut endpoints = listeners.listen(None, 1).await.unwrap();
        let address = endpoints[0].listening.socket.local_addr().unwrap();
        let address = address.as_socket().unwrap();
        let mut tcp_clients: Vec<TcpStream> = (0..200)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let mut unix_clients: Vec<UnixStream> = (0..20)
            .map(|_| UnixStream::connect(&path).unwrap())
            .collect();
        let (_sender, stopped) = watch::channel(true);
        let (_end, until) = watch::channel(Some(accept::End::Close));
        let app = Arc::new(Echo::default());
        for endpoint in endpoints.drain(..) {
            let (app, watch) = (app.clone(), stopped.clone());
            let entrance = endpoint.entrance.clone();
            let connect = move |accepted| {
                let (entrance, app, watch) = (entrance.clone(), app.clone(), watch.clone());
                async move {
                    let stream = entrance.pass(accepted).await.unwrap();
                    Service::handle_event(stream, app, watch).await
                }
            };
            let pool = WorkerPool::new(Workers::current());
            let with = (pool, accepting::Settings::default());
            let accepting = accept::start(endpoint, 0, 1, with, until.clone(), connect);
            assert!(accepting.unwrap().ended().await.is_none());
        }
        let refused = std::io::ErrorKind::ConnectionRefused;
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), refused);
        assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), refused);
        for client in &mut tcp_clients {
            exchange(client, b"ab");
        }
        for client in &mut unix_clients {
            exchange(client, b"ab");
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_draining_socket_takes_no_new_connection() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let before = TcpStream::connect(address).unwrap();
    accept::drop_syns(&SockRef::from(&socket)).unwrap();
    let error = TcpStream::connect_timeout(&address, Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    // Data of the connection that was there still comes.
    (&before).write_all(b"x").unwrap();
    let (mut accepted, _) = socket.accept().unwrap();
    let mut byte = [0];
    accepted.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"x");
}

#[tokio::test]
async fn what_is_in_the_way_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = listen_error(tcp(&address), None).await;
    assert_eq!(
        text,
        format!("cannot listen on {address}: Address already in use (os error 98)")
    );
    let text = listen_error(tcp("127.0.0.1"), None).await;
    assert!(text.starts_with("cannot listen on 127.0.0.1: "), "{text}");
    let text = listen_error(tcp("127.0.0.1:99999"), None).await;
    assert!(
        text.starts_with("cannot listen on 127.0.0.1:99999: "),
        "{text}"
    );
    let text = listen_error(ServerAddress::Uds("/nonexistent/sock".into(), None), None).await;
    assert!(
        text.starts_with("cannot listen on /nonexistent/sock: No such file"),
        "{text}"
    );
    let options = TcpSocketOptions {
        dscp: Some(64),
        ..Default::default()
    };
    let bad = ServerAddress::Tcp("127.0.0.1:0".into(), Some(options));
    let text = listen_error(bad, None).await;
    assert!(text.contains("DSCP 64"), "{text}");
}

#[tokio::test]
async fn unix_sockets() {
    let dir = Dir::new("uds");
    let path = dir.path("sock");
    let mode = |path: &str| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let listen = |perm| {
        let address = ServerAddress::Uds(path.clone(), perm);
        async move { l4::listen(&address, l4::Manner::default(), None).await }
    };
    let first = listen(None).await.unwrap();
    assert_eq!(mode(&path), 0o666);
    // One that is in use is not taken away.
    let text = listen(None).await.err().unwrap();
    assert!(text.contains("in use"), "{text}");
    drop(first);
    // One that was left is.
    let again = listen(Some(Permissions::from_mode(0o600))).await.unwrap();
    assert_eq!(mode(&path), 0o600);
    UnixStream::connect(&path).unwrap();
    drop(again);
    // Nothing else is.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    let text = listen(None).await.err().unwrap();
    assert!(
        text.ends_with("there is something else than a socket"),
        "{text}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn inherited_sockets_are_used() {
    let dir = Dir::new("inherit");
    let path = dir.path("sock");
    let old = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let address = old.local_addr().unwrap();
    let fds = ListenFds::default();
    let binds = vec![address.to_string(), path.clone()];
    // As if an old process had sent them.
    let sent = vec![old.into_raw_fd(), unix.into_raw_fd()];
    fds.lock().deserialize(binds, sent);
    let options = TcpSocketOptions {
        tcp_recv_buf: Some(70_000),
        ..Default::default()
    };
    let tcp = ServerAddress::Tcp(address.to_string(), Some(options));
    let one = l4::listen(&tcp, l4::Manner::default(), Some(&fds))
        .await
        .unwrap();
    assert_eq!(one.socket.recv_buffer_size().unwrap(), 140_000);
    let uds = ServerAddress::Uds(path.clone(), None);
    let two = l4::listen(&uds, l4::Manner::default(), Some(&fds))
        .await
        .unwrap();
    TcpStream::connect(address).unwrap();
    UnixStream::connect(&path).unwrap();
    // Once each.
    let text = listen_error(tcp, Some(&fds)).await;
    assert!(text.contains("in use"), "{text}");
    drop((one, two));
    assert!(fds.lock().is_empty());
}

/// A socket that somebody else has too is not closed by a listener that uses it.
#[tokio::test]
async fn sockets_that_are_lent_stay_open() {
    let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = own.local_addr().unwrap();
    let fds = ListenFds::default();
    fds.lock().add(address.to_string(), own.as_raw_fd());
    assert_eq!(fds.lock().get(&address.to_string()), Some(&own.as_raw_fd()));
    let listening = l4::listen(
        &tcp(&address.to_string()),
        l4::Manner::default(),
        Some(&fds),
    )
    .await
    .unwrap();
    assert_ne!(listening.socket.as_raw_fd(), own.as_raw_fd());
    TcpStream::connect(address).unwrap();
    drop(listening);
    assert!(fds.lock().is_empty());
    TcpStream::connect(address).unwrap();
    // The duplicate made it non-blocking, for both.
    own.set_nonblocking(false).unwrap();
    own.accept().unwrap();
    own.accept().unwrap();
    // Nor by who clears the table.
    fds.lock().add(address.to_string(), own.as_raw_fd());
    let closed = fds.lock().close_unclaimed(&Default::default());
    assert_eq!(closed, [address.to_string()]);
    assert!(fds.lock().is_empty());
    TcpStream::connect(address).unwrap();
    own.accept().unwrap();
    // A number that is none is an error.
    for number in [-1, i32::MAX] {
        fds.lock().add(address.to_string(), number);
        let text = listen_error(tcp(&address.to_string()), Some(&fds)).await;
        assert!(text.contains("ad file "), "{text}");
    }
}

#[tokio::test]
async fn what_was_inherited_must_fit() {
    let fds = ListenFds::default();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let binds = vec!["127.0.0.1:1".into(), "/run/sock".into()];
    let sent = vec![udp.into_raw_fd(), listener.into_raw_fd()];
    fds.lock().deserialize(binds, sent);
    let text = listen_error(tcp("127.0.0.1:1"), Some(&fds)).await;
    assert!(text.contains("something else"), "{text}");
    let text = listen_error(ServerAddress::Uds("/run/sock".into(), None), Some(&fds)).await;
    assert!(text.contains("something else"), "{text}");
    assert!(fds.lock().is_empty());
}

#[tokio::test]
async fn new_sockets_can_be_handed_on() {
    let fds = ListenFds::default();
    let listening = l4::listen(&tcp("127.0.0.1:0"), l4::Manner::default(), Some(&fds))
        .await
        .unwrap();
    let fd = listening.socket.as_raw_fd();
    assert_eq!(fds.lock().get("127.0.0.1:0"), Some(&fd));
    drop(listening);
    assert!(fds.lock().is_empty());
}

/// Options of the listening socket, and those that its connections come with.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn socket_options_are_set() {
    let options = TcpSocketOptions {
        tcp_fastopen: Some(7),
        tcp_keepalive: Some(TcpKeepalive {
            idle: Duration::from_secs(61),
            interval: Duration::from_secs(11),
            count: 5,
            user_timeout: Duration::from_secs(20),
        }),
        dscp: Some(10),
        so_reuseport: Some(true),
        tcp_snd_buf: Some(50_000),
        tcp_recv_buf: Some(60_000),
        ipv6_only: None,
    };
    let address = ServerAddress::Tcp("127.0.0.1:0".into(), Some(options.clone()));
    let listening = l4::listen(&address, l4::Manner::default(), None)
        .await
        .unwrap();
    let socket = &*listening.socket;
    assert!(socket.reuse_port().unwrap());
    assert!(socket.reuse_address().unwrap());
    let queue = nix::sys::socket::getsockopt(socket, FastOpen).unwrap();
    assert_eq!(queue, 7);
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // A second one may listen there.
    let again = ServerAddress::Tcp(address.to_string(), Some(options));
    drop(
        l4::listen(&again, l4::Manner::default(), None)
            .await
            .unwrap(),
    );

    let _client = TcpStream::connect(address).unwrap();
    socket.set_nonblocking(false).unwrap();
    let (accepted, _) = socket.accept().unwrap();
    assert!(accepted.tcp_nodelay().unwrap());
    assert!(accepted.keepalive().unwrap());
    assert_eq!(accepted.tcp_keepalive_time().unwrap().as_secs(), 61);
    assert_eq!(accepted.tcp_keepalive_interval().unwrap().as_secs(), 11);
    assert_eq!(accepted.tcp_keepalive_retries().unwrap(), 5);
    let timeout = accepted.tcp_user_timeout().unwrap();
    assert_eq!(timeout, Some(Duration::from_secs(20)));
    assert_eq!(accepted.tos_v4().unwrap(), 40);
    assert_eq!(accepted.send_buffer_size().unwrap(), 100_000);
    assert_eq!(accepted.recv_buffer_size().unwrap(), 120_000);
}

#[cfg(target_os = "linux")]
#[derive(Clone, Copy)]
struct FastOpen;

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
impl nix::sys::socket::GetSockOpt for FastOpen {
    type Val = i32;
    fn get<F: std::os::fd::AsFd>(&self, fd: &F) -> nix::Result<i32> {
        let (mut value, mut len) = (0i32, 4);
        let fd = fd.as_fd().as_raw_fd();
        // SAFETY: the option is an int, for which there is room.
        let result = unsafe {
            let value: *mut i32 = &mut value;
            libc::getsockopt(
                fd,
                libc::IPPROTO_TCP,
                libc::TCP_FASTOPEN,
                value.cast(),
                &mut len,
            )
        };
        nix::errno::Errno::result(result).map(|_| value)
    }
}

#[tokio::test]
async fn ipv6_sockets() {
    for only in [true, false] {
        let options = TcpSocketOptions {
            ipv6_only: Some(only),
            dscp: Some(10),
            ..Default::default()
        };
        let address = ServerAddress::Tcp("[::]:0".into(), Some(options));
        let listening = match l4::listen(&address, l4::Manner::default(), None).await {
            // A system without IPv6 has nothing to test.
            Err(e) if e.contains("not supported") => return,
            other => other.unwrap(),
        };
        assert_eq!(listening.socket.only_v6().unwrap(), only);
        let port = listening
            .socket
            .local_addr()
            .unwrap()
            .as_socket()
            .unwrap()
            .port();
        let v4 = TcpStream::connect(("127.0.0.1", port));
        assert_eq!(v4.is_err(), only);
        if v4.is_ok() {
            listening.socket.set_nonblocking(false).unwrap();
            let (accepted, _) = listening.socket.accept().unwrap();
            assert_eq!(accepted.tos_v4().unwrap(), 40);
        }
    }
}

/// Turns away what comes from one address.
#[derive(Debug)]
pub(super) struct NotFrom(pub(super) std::net::IpAddr);

#[cfg(not(feature = "connection_filter"))]
impl ConnectionFilter for NotFrom {
    fn should_accept(&self, addr: &SocketAddr) -> bool {
        addr.ip() != self.0
    }
}

#[cfg(feature = "connection_filter")]
#[async_trait]
impl ConnectionFilter for NotFrom {
    async fn should_accept(&self, addr: Option<&SocketAddr>) -> bool {
        tokio::task::yield_now().await;
        addr.is_none_or(|addr| addr.ip() != self.0)
    }
}

pub(super) fn connect_from(ip: &str, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let from = SocketAddr::new(ip.parse().unwrap(), 0);
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

#[test]
fn filtered_connections_are_closed_unread() {
    let app = Arc::new(Echo::default());
    let dir = Dir::new("filter");
    let path = dir.path("sock");
    let mut service = tcp_service(&app);
    service.add_uds(&path, None);
    service.set_connection_filter(Arc::new(NotFrom("127.0.0.9".parse().unwrap())));
    let running = Running::start(service, 2, 1);
    let mut refused = connect_from("127.0.0.9", running.fds.lock().tcp_address());
    let _ = refused.write_all(b"1");
    assert!(is_closed(&refused));
    exchange(
        connect_from("127.0.0.8", running.fds.lock().tcp_address()),
        b"a",
    );
    exchange(UnixStream::connect(&path).unwrap(), b"a");
    assert!(app.threads.lock().is_empty());
    running.stop();
}

trait TcpAddress {
    fn tcp_address(&self) -> SocketAddr;
}

impl TcpAddress for crate::server::Fds {
    fn tcp_address(&self) -> SocketAddr {
        let fd = *self.get(&own_address()).unwrap();
        let address = crate::protocols::l4::socket::SocketAddr::from_raw_fd(fd, false).unwrap();
        *address.as_inet().unwrap()
    }
}

/// Takes a byte off each connection, and refuses those that begin with an x.
pub(super) struct Greeting;

#[async_trait]
impl PreTlsProcess for Greeting {
    async fn process(&self, stream: &mut L4Stream) -> Result<()> {
        let mut byte = [0];
        if stream.read_exact(&mut byte).await.is_err() || byte[0] == b'x' {
            return Error::err(pingora_error::ErrorType::ReadError);
        }
        Ok(())
    }
}

#[test]
fn connections_are_worked_on_before_they_are_served() {
    let app = Arc::new(Echo::default());
    let mut service = tcp_service(&app);
    service.endpoints().set_pre_tls_callback(Arc::new(Greeting));
    let running = Running::start(service, 1, 1);
    let mut client = TcpStream::connect(running.address()).unwrap();
    client.write_all(b"g").unwrap();
    exchange(&client, b"ab");
    let mut client = TcpStream::connect(running.address()).unwrap();
    client.write_all(b"x").unwrap();
    assert!(is_closed(&client));
    running.stop();
}

#[test]
fn endpoints_are_listed_as_added() {
    let mut listeners = Listeners::tcp("127.0.0.1:80");
    listeners.add_uds("/run/a", None);
    listeners
        .add_listener(ListenerConfig::tcp("[::1]:80").l4_buffer(L4BufferSettings::unbuffered()));
    listeners.add_listener(ListenerConfig::uds("/run/b"));
    let addresses = ["127.0.0.1:80", "/run/a", "[::1]:80", "/run/b"];
    assert_eq!(listeners.addresses(), addresses);
    let service = Service::with_listeners("s".into(), listeners, Arc::new(Echo::default()));
    assert_eq!(service.listen_addresses().unwrap(), addresses);
}
