use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use async_trait::async_trait;
use pingora_error::{
    ErrorSource,
    ErrorType::{self, BindError, ConnectProxyFailure, ConnectRefused, SocketError},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use super::*;
use crate::connectors::l4::{Connect, ConnectErrorExt};
use crate::protocols::l4::ext::TcpKeepalive;
use crate::protocols::GetSocketDigest;
use crate::upstreams::peer::{BasicPeer, HttpPeer, Tracer, Tracing};

async fn listener() -> (TcpListener, HttpPeer) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, HttpPeer::new(addr, false, String::new()))
}

/// A path of its own for a test, where nothing is.
fn path(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("pc-l4-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

#[derive(Debug, Clone, Default)]
struct Counts(Arc<[AtomicUsize; 2]>);

impl Counts {
    fn get(&self) -> [usize; 2] {
        [0, 1].map(|i| self.0[i].load(Ordering::Relaxed))
    }
}

impl Tracing for Counts {
    fn on_connected(&self) {
        self.0[0].fetch_add(1, Ordering::Relaxed);
    }
    fn on_disconnected(&self) {
        self.0[1].fetch_add(1, Ordering::Relaxed);
    }
    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(self.clone())
    }
}

#[tokio::test]
async fn options_are_set() {
    let (_listener, mut peer) = listener().await;
    let tweaked = Arc::new(AtomicUsize::new(0));
    let tweak = tweaked.clone();
    let counts = Counts::default();
    let options = &mut peer.options;
    options.tcp_recv_buf = Some(30_000);
    options.dscp = Some(46);
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(5),
        count: 3,
        #[cfg(target_os = "linux")]
        user_timeout: Duration::from_secs(85),
    });
    options.upstream_tcp_sock_tweak_hook = Some(Arc::new(move |socket: &TcpSocket| {
        tweak.fetch_add(1, Ordering::Relaxed);
        socket
            .set_send_buffer_size(20_000)
            .map_err(|e| Error::because(SocketError, "tweak", e))
    }));
    options.tracer = Some(Tracer(Box::new(counts.clone())));
    options.connection_timeout = Some(Duration::from_secs(10));

    let stream = connect(&peer, None).await.unwrap();
    let digest = stream.get_socket_digest().unwrap();
    assert!([30_000, 60_000].contains(&digest.get_recv_buf().unwrap()));
    assert!([20_000, 40_000].contains(&digest.get_snd_buf().unwrap()));
    assert_eq!(tweaked.load(Ordering::Relaxed), 1);
    // SAFETY: the stream keeps its descriptor open for as long as it is borrowed here.
    #[allow(unsafe_code)]
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    let socket = socket2::SockRef::from(&fd);
    assert!(socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap().as_secs(), 60);
    assert_eq!(socket.tos_v4().unwrap(), 46 << 2);

    assert_eq!(counts.get(), [1, 0]);
    drop(stream);
    assert_eq!(counts.get(), [1, 1]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn fast_open() {
    let (listener, mut peer) = listener().await;
    peer.options.tcp_fast_open = true;
    let mut stream = connect(&peer, None).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    stream.flush().await.unwrap();
    let (mut accepted, _) = listener.accept().await.unwrap();
    assert_eq!(accepted.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn a_hook_that_fails() {
    let (_listener, mut peer) = listener().await;
    peer.options.upstream_tcp_sock_tweak_hook = Some(Arc::new(|_| {
        Error::e_explain(ErrorType::new("Tweak"), "no")
    }));
    let e = connect(&peer, None).await.unwrap_err();
    assert_eq!(e.etype(), &ErrorType::new("Tweak"));
    peer.options.upstream_tcp_sock_tweak_hook = None;
    peer.options.dscp = Some(200);
    let e = connect(&peer, None).await.unwrap_err();
    assert_eq!(e.etype(), &SocketError);
}

#[tokio::test]
async fn errors_name_the_peer() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: InetAddr = "127.0.0.1:0".parse().unwrap();
    // Bound and not listening: nobody else can listen there.
    socket.bind(&any.into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let refused = HttpPeer::new(addr, false, "name.example".into());
    let no_path = HttpPeer::new_uds("/nonexistent/x", false, String::new()).unwrap();
    let unnamed = BasicPeer {
        _address: std::os::unix::net::SocketAddr::from_pathname("")
            .unwrap()
            .into(),
        ..BasicPeer::new("127.0.0.1:1")
    };
    let e = connect(&refused, None).await.unwrap_err();
    assert_eq!(e.etype(), &ConnectRefused);
    assert_eq!(e.esource(), &ErrorSource::Upstream);
    assert!(e.to_string().contains(&refused.to_string()), "{e}");
    assert!(e.connect_local_addr().unwrap().ip().is_loopback());
    let e = connect(&no_path, None).await.unwrap_err();
    assert_eq!(e.etype(), &ConnectError);
    assert!(e.to_string().contains("/nonexistent/x"), "{e}");
    assert_eq!(e.connect_local_addr(), None);
    let e = connect(&unnamed, None).await.unwrap_err();
    assert_eq!(e.etype(), &ConnectError);
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer() {
    // The queue has room for one, and nobody accepts.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: InetAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let _first = std::net::TcpStream::connect(addr).unwrap();

    let mut peer = HttpPeer::new(addr, false, String::new());
    peer.options.connection_timeout = Some(Duration::from_secs(3));
    let e = connect(&peer, None).await.unwrap_err();
    assert_eq!(e.etype(), &ConnectTimedout);
    let text = e.to_string();
    assert!(
        text.contains("3s") && text.contains(&peer.to_string()),
        "{text}"
    );
    assert!(e.connect_local_addr().unwrap().port() > 0);
}

#[derive(Debug)]
struct Custom(Option<tokio::sync::mpsc::Sender<SocketAddr>>);

#[async_trait]
impl Connect for Custom {
    async fn connect(&self, addr: &SocketAddr) -> Result<Stream> {
        let Some(told) = &self.0 else {
            return std::future::pending().await;
        };
        told.send(addr.clone()).await.unwrap();
        Ok(tokio::net::UnixStream::pair().unwrap().0.into())
    }
}

#[tokio::test(start_paused = true)]
async fn custom_connections() {
    let (sender, mut told) = tokio::sync::mpsc::channel(1);
    // Before the proxy, and without a look at the address.
    let headers = Default::default();
    let ip = "192.0.2.1".parse().unwrap();
    let mut peer = HttpPeer::new_proxy("/nonexistent", ip, 80, false, "", headers);
    peer.options.custom_l4 = Some(Arc::new(Custom(Some(sender))));
    let stream = connect(&peer, None).await.unwrap();
    assert_eq!(stream.known_peer(), None);
    assert_eq!(&told.recv().await.unwrap(), peer.address());

    peer.options.custom_l4 = Some(Arc::new(Custom(None)));
    peer.options.connection_timeout = Some(Duration::from_secs(5));
    let e = connect(&peer, None).await.unwrap_err();
    assert_eq!(e.etype(), &ConnectTimedout);
}

#[tokio::test]
async fn through_a_proxy() {
    let path = path("proxy");
    let listener = UnixListener::bind(&path).unwrap();
    let headers = std::collections::BTreeMap::from([("X-A".to_string(), b"1".to_vec())]);
    let ip = "192.0.2.1".parse().unwrap();
    let hop = path.to_str().unwrap();
    let mut peer = HttpPeer::new_proxy(hop, ip, 443, false, "", headers);
    let extra = &mut peer.options.extra_proxy_headers;
    extra.insert("X-B".to_string(), b"2".to_vec());
    peer.options.proxy_digest_user_data_hook =
        Some(Arc::new(|_, response| Some(Box::new(response.status))));

    let proxy = async |answer: &[u8]| {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer).await.unwrap();
        String::from_utf8(asked).unwrap()
    };
    let answer = b"HTTP/1.1 200 OK\r\n\r\nearly";
    let (stream, asked) = tokio::join!(connect(&peer, None), proxy(answer));
    assert!(
        asked.starts_with("CONNECT 192.0.2.1:443 HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains("x-a: 1\r\n") && asked.contains("x-b: 2\r\n"),
        "{asked}"
    );
    let mut stream = stream.unwrap();
    let digest = stream.get_proxy_digest().unwrap();
    let user = digest.user_data.as_ref().unwrap();
    assert_eq!(user.downcast_ref(), Some(&http::StatusCode::OK));
    let mut early = [0; 5];
    stream.read_exact(&mut early).await.unwrap();
    assert_eq!(&early, b"early");

    let (refused, _) = tokio::join!(connect(&peer, None), proxy(b"HTTP/1.1 503 Busy\r\n\r\n"));
    let e = refused.unwrap_err();
    assert_eq!(e.etype(), &ConnectProxyFailure);
    assert!(e.to_string().contains("503"), "{e}");
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn binding() {
    let (listener, peer) = listener().await;
    let v4: Vec<InetAddr> = ["127.0.0.7:0", "127.0.0.8:0"]
        .map(|a| a.parse().unwrap())
        .into();
    let v6: Vec<InetAddr> = vec!["[::1]:0".parse().unwrap()];
    assert!(bind_to(&peer, &[], &v6).is_none());
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < v4.len() {
        seen.insert(bind_to(&peer, &v4, &v6).unwrap().addr.unwrap());
    }
    assert!(seen.iter().eq(&v4));

    let mut own = peer.clone();
    own.options.bind_to = Some(BindTo::at("127.0.0.9:0".parse().unwrap()));
    let to = bind_to(&own, &v4, &v6);
    let (stream, accepted) = tokio::join!(connect(&own, to), listener.accept());
    let _stream = stream.unwrap();
    assert_eq!(accepted.unwrap().1.ip().to_string(), "127.0.0.9");

    let unix = HttpPeer::new_uds("/x", false, String::new()).unwrap();
    assert!(bind_to(&unix, &v4, &v6).is_none());
    let far = HttpPeer::new("[::1]:1", false, String::new());
    assert_eq!(bind_to(&far, &v4, &v6).unwrap().addr, Some(v6[0]));

    let bad = BindTo::at("192.0.2.1:0".parse().unwrap());
    let e = connect(&peer, Some(bad)).await.unwrap_err();
    assert_eq!(e.etype(), &BindError);
    assert!(e.to_string().contains(&peer.to_string()), "{e}");
}

#[tokio::test]
async fn the_unspecified_address_leads_home() {
    let (listener, peer) = listener().await;
    let port = peer.address().as_inet().unwrap().port();
    let peer = HttpPeer::new(("0.0.0.0", port), false, String::new());
    let (stream, accepted) = tokio::join!(connect(&peer, None), listener.accept());
    let (stream, _accepted) = (stream.unwrap(), accepted.unwrap());
    assert_eq!(stream.known_peer(), None);
    let digest = stream.get_socket_digest().unwrap();
    assert!(digest
        .peer_addr()
        .unwrap()
        .as_inet()
        .unwrap()
        .ip()
        .is_loopback());
}
