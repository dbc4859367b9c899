use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::protocols::l4::socket::SocketAddr as AnyAddr;
use crate::protocols::l4::stream::Stream as L4Stream;
use crate::server::configuration::ServerConf;
use crate::upstreams::peer::HttpPeer;

async fn listener() -> (TcpListener, HttpPeer) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, HttpPeer::new(addr, false, String::new()))
}

/// Never connects; tells the name of its thread, and when it is given up.
#[derive(Debug)]
struct Never(mpsc::UnboundedSender<String>);

struct Tell(mpsc::UnboundedSender<String>);

impl Drop for Tell {
    fn drop(&mut self) {
        let _ = self.0.send("given up".into());
    }
}

#[async_trait]
impl L4Connect for Never {
    async fn connect(&self, _: &AnyAddr) -> Result<L4Stream> {
        let _tell = Tell(self.0.clone());
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        self.0.send(name).unwrap();
        std::future::pending().await
    }
}

#[tokio::test]
async fn connections_are_used_again() {
    let (_listener, peer) = listener().await;
    let connector = TransportConnector::new(None);
    let key = peer.reuse_hash();
    let (stream, reused) = connector.get_stream(&peer).await.unwrap();
    assert!(!reused);
    let id = stream.id();
    assert!(connector.reused_stream(&peer).await.is_none());
    connector.release_stream(stream, key, None);
    let (stream, reused) = connector.get_stream(&peer).await.unwrap();
    assert!(reused);
    assert_eq!(stream.id(), id);
    let (second, reused) = connector.get_stream(&peer).await.unwrap();
    assert!(!reused);
    assert_ne!(second.id(), id);
    assert_eq!(connector.unexpected_data_connection_count(), 0);
}

#[tokio::test]
async fn not_by_another_peer_with_the_same_key() {
    let (_listener, peer) = listener().await;
    let (_other_listener, other) = listener().await;
    let connector = TransportConnector::new(Some(ConnectorOptions::new(8)));
    let stream = connector.new_stream(&peer).await.unwrap();
    connector.release_stream(stream, other.reuse_hash(), None);
    assert!(connector.reused_stream(&other).await.is_none());
}

#[tokio::test]
async fn unexpected_data_is_counted() {
    let (listener, peer) = listener().await;
    let connector = TransportConnector::new(None);
    let counter = connector.unexpected_data_connection_counter();
    let stream = connector.new_stream(&peer).await.unwrap();
    let (mut theirs, _) = listener.accept().await.unwrap();
    connector.release_stream(stream, peer.reuse_hash(), None);
    theirs.write_all(b"x").await.unwrap();
    // Until the reactor has heard of it, the connection passes for quiet.
    while let Some(stream) = connector.reused_stream(&peer).await {
        connector.release_stream(stream, peer.reuse_hash(), None);
        tokio::task::yield_now().await;
    }
    assert_eq!(connector.unexpected_data_connection_count(), 1);
    assert_eq!(counter.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn the_total_time_is_bounded() {
    let (sender, mut told) = mpsc::unbounded_channel();
    let mut peer = HttpPeer::new("192.0.2.1:80", false, String::new());
    peer.options.custom_l4 = Some(Arc::new(Never(sender)));
    peer.options.connection_timeout = Some(Duration::from_secs(60));
    peer.options.total_connection_timeout = Some(Duration::from_secs(7));
    let connector = TransportConnector::new(None);
    let e = connector.new_stream(&peer).await.unwrap_err();
    assert_eq!(e.etype(), &ConnectTimedout);
    let text = e.to_string();
    assert!(
        text.contains("7s") && text.contains("192.0.2.1:80"),
        "{text}"
    );
    told.recv().await.unwrap();
    assert_eq!(told.recv().await.unwrap(), "given up");
}

#[tokio::test]
async fn connecting_on_other_threads() {
    let (listener, peer) = listener().await;
    let mut options = ConnectorOptions::new(8);
    options.offload_threadpool = Some((2, 1));
    let connector = TransportConnector::new(Some(options));
    let mut stream = connector.new_stream(&peer).await.unwrap();
    let (mut theirs, _) = listener.accept().await.unwrap();
    theirs.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');

    let (sender, mut told) = mpsc::unbounded_channel();
    let mut never = peer.clone();
    never.options.custom_l4 = Some(Arc::new(Never(sender)));
    tokio::select! {
        result = connector.new_stream(&never) => panic!("{result:?}"),
        name = told.recv() => assert!(name.unwrap().starts_with("connect-")),
    }
    assert_eq!(told.recv().await.unwrap(), "given up");

    let mut broken = peer.clone();
    broken.options.upstream_tcp_sock_tweak_hook = Some(Arc::new(|_| panic!("the user's fault")));
    assert!(connector.new_stream(&broken).await.is_err());
    // Here, where waiting for threads would panic.
    drop(connector);
}

#[test]
fn options_from_the_configuration() {
    let conf = ServerConf {
        threads: 4,
        upstream_keepalive_pool_size: 100,
        client_bind_to_ipv4: vec!["127.0.0.1".into(), "127.0.0.2".into()],
        client_bind_to_ipv6: vec!["::1".into()],
        ca_file: Some("/ca".into()),
        upstream_debug_ssl_keylog: true,
        upstream_connect_offload_threadpools: Some(2),
        upstream_connect_offload_thread_per_pool: Some(3),
        ..ServerConf::default()
    };
    let options = ConnectorOptions::from_server_conf(&conf);
    assert_eq!(options.keepalive_pool_size, 400);
    assert_eq!(options.offload_threadpool, Some((2, 3)));
    let addrs =
        |list: &[&str]| -> Vec<SocketAddr> { list.iter().map(|a| a.parse().unwrap()).collect() };
    assert_eq!(options.bind_to_v4, addrs(&["127.0.0.1:0", "127.0.0.2:0"]));
    assert_eq!(options.bind_to_v6, addrs(&["[::1]:0"]));
    assert_eq!(options.ca_file.as_deref(), Some("/ca"));
    assert!(options.debug_ssl_keylog && options.cert_key_file.is_none());
    assert!(options.keepalive_pool_callback.is_none());

    let conf = ServerConf {
        threads: 0,
        upstream_keepalive_pool_size: usize::MAX,
        ..ServerConf::default()
    };
    let options = ConnectorOptions::from_server_conf(&conf);
    assert_eq!(options.keepalive_pool_size, usize::MAX);
    assert_eq!(options.offload_threadpool, None);
}

#[test]
#[should_panic(expected = "client_bind_to_ipv4")]
fn an_address_to_bind_to_that_is_none() {
    let conf = ServerConf {
        client_bind_to_ipv4: vec!["localhost".into()],
        ..ServerConf::default()
    };
    ConnectorOptions::from_server_conf(&conf);
}
