//! The end of a client in or before its handshake when the endpoint closes, or when it takes too long.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::connectors::l4::Connect;
use crate::listeners::{
    accepting, Endpoint, ListenerConfig, Listeners, PreTlsCallback, PreTlsProcess, ProxyProtocol,
};
use crate::protocols::l4;

/// Longer than any test takes.
const NEVER: Duration = Duration::from_secs(1000);

/// An endpoint where handshakes may take this long, and this long once it closes.
async fn endpoint(
    pair: Option<&Pair>,
    hook: Option<PreTlsCallback>,
    limits: [Duration; 2],
) -> Endpoint {
    draining(pair, hook, limits, None).await
}

/// One that keeps idle clients for so long.
async fn draining(
    pair: Option<&Pair>,
    hook: Option<PreTlsCallback>,
    limits: [Duration; 2],
    keep_idle: Option<Duration>,
) -> Endpoint {
    let mut config = ListenerConfig::tcp("127.0.0.1:0").tls_handshake_timeout(limits[0]);
    if let Some(pair) = pair {
        config = config.tls(TlsSettings::intermediate(&pair.cert, &pair.key).unwrap());
    }
    let mut listeners = Listeners::new();
    listeners.add_listener(config);
    if let Some(hook) = hook {
        listeners.set_pre_tls_callback(hook);
    }
    let settings = accepting::Settings {
        shutdown_timeout: limits[1],
        keep_idle,
        ..accepting::Settings::current()
    };
    let endpoints = settings.scope(listeners.listen(None, 1)).await;
    endpoints.unwrap().remove(0)
}

/// A client that has said nothing, and what serves it.
async fn silent(endpoint: &Endpoint) -> (TcpStream, impl Future<Output = Option<Stream>>) {
    let client = TcpStream::connect(endpoint.address()).await.unwrap();
    let accepted = endpoint.accept_one().unwrap();
    let entrance = endpoint.entrance.clone();
    (client, async move { entrance.pass(accepted).await })
}

#[tokio::test]
async fn a_silent_client_ends_with_the_endpoint() {
    let authority = Authority::new();
    let pair = authority.ordinary();
    let endpoint = endpoint(Some(&pair), None, [NEVER, NEVER]).await;
    let (mut client, served) = silent(&endpoint).await;
    let mut served = pin!(served);
    assert!(futures::poll!(&mut served).is_pending());
    endpoint.entrance.close();
    assert!(served.await.is_none());
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    // And so does one that is accepted later.
    let (mut client, served) = silent(&endpoint).await;
    assert!(served.await.is_none());
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

/// Its first message is on its way when the endpoint closes, as far as anybody knows.
#[tokio::test]
async fn a_silent_client_is_kept_for_as_long_as_idle_ones() {
    let authority = Authority::new();
    let pair = authority.ordinary();
    let endpoint = draining(Some(&pair), None, [NEVER, NEVER], Some(NEVER)).await;
    let (client, served) = silent(&endpoint).await;
    let mut served = pin!(served);
    assert!(futures::poll!(&mut served).is_pending());
    endpoint.entrance.close();
    assert!(futures::poll!(&mut served).is_pending(), "it was sent away");
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = HttpPeer::new(relay.local_addr().unwrap(), true, "name.example".into());
    let through = async {
        let (mut near, mut far) = (relay.accept().await.unwrap().0, client);
        tokio::io::copy_bidirectional(&mut near, &mut far).await
    };
    let connector = trusting(&authority);
    tokio::select! {
        (served, connected) = async { tokio::join!(served, connector.new_stream(&peer)) } => {
            assert!(served.is_some() && connected.is_ok());
        }
        _ = through => panic!("the connection ended"),
    }
}

/// The endpoint closes when so many bytes of the client's first message have arrived.
#[tokio::test]
async fn a_client_that_began_is_served() {
    const ALL: usize = usize::MAX;
    let authority = Authority::new();
    let pair = authority.ordinary();
    for (early, waiting) in [
        (1, false),
        (1, true),
        (200, true),
        (ALL, false),
        (ALL, true),
    ] {
        let endpoint = endpoint(Some(&pair), None, [NEVER, NEVER]).await;
        let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = relay.local_addr().unwrap();
        let between = async {
            let (mut near, _) = relay.accept().await.unwrap();
            let mut hello = vec![0; 16 * 1024];
            let n = near.read(&mut hello).await.unwrap();
            hello.truncate(n);
            let (mut far, served) = silent(&endpoint).await;
            let mut served = pin!(served);
            if waiting {
                assert!(futures::poll!(&mut served).is_pending());
            }
            let (first, rest) = hello.split_at(early.min(n));
            far.write_all(first).await.unwrap();
            endpoint.entrance.close();
            let through = async {
                far.write_all(rest).await.unwrap();
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            };
            tokio::select! {
                served = &mut served => served.expect("it is served"),
                _ = through => panic!("the connection ended"),
            }
        };
        let peer = HttpPeer::new(address, true, "name.example".into());
        let connector = trusting(&authority);
        let connected = connector.new_stream(&peer);
        let mut connected = pin!(connected);
        tokio::select! {
            // A client may think itself connected before the server does.
            _served = between => {}
            failed = async {
                let failed = connected.as_mut().await.err();
                match failed {
                    Some(e) => e,
                    None => std::future::pending().await,
                }
            } => panic!("{early} {waiting}: {failed}"),
        }
    }
}

#[tokio::test]
async fn a_client_that_began_has_a_limit() {
    let authority = Authority::new();
    let pair = authority.ordinary();
    let soon = Duration::from_millis(10);
    for (limits, close) in [
        ([NEVER, soon], true),
        ([soon, NEVER], false),
        ([soon, NEVER], true),
    ] {
        let endpoint = endpoint(Some(&pair), None, limits).await;
        let (mut client, served) = silent(&endpoint).await;
        client.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        if close {
            endpoint.entrance.close();
        }
        assert!(served.await.is_none());
    }
}

/// Connects as a load balancer that speaks the PROXY protocol.
#[derive(Debug)]
struct Balancer(SocketAddr);

#[async_trait]
impl Connect for Balancer {
    async fn connect(&self, _: &l4::socket::SocketAddr) -> Result<L4Stream> {
        let mut tcp = TcpStream::connect(self.0).await.unwrap();
        let header = b"PROXY TCP4 192.0.2.1 203.0.113.5 56324 443\r\n";
        tcp.write_all(header).await.unwrap();
        Ok(tcp.into())
    }
}

#[tokio::test]
async fn the_proxy_protocol_comes_before_the_handshake() {
    let authority = Authority::new();
    let pair = authority.ordinary();
    let settings = TlsSettings::intermediate(&pair.cert, &pair.key).unwrap();
    let balancers = ProxyProtocol::from_sources(["127.0.0.1"]).unwrap();
    let config = ListenerConfig::tcp("127.0.0.1:0").tls(settings);
    let mut listeners = Listeners::new();
    listeners.add_listener(config.proxy_protocol(balancers));
    let endpoint = listeners.listen(None, 1).await.unwrap().remove(0);
    let address = endpoint.address();
    let mut peer = HttpPeer::new(address, true, "name.example".into());
    peer.options.custom_l4 = Some(Arc::new(Balancer(address)));
    let connector = trusting(&authority);
    let serving = async {
        loop {
            match endpoint.accept_one() {
                Some(accepted) => return endpoint.entrance.pass(accepted).await,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let (client, served) = tokio::join!(connector.new_stream(&peer), serving);
    let (mut client, mut served) = (client.unwrap(), served.unwrap());
    let digest = served.get_socket_digest().unwrap();
    assert_eq!(digest.peer_addr().unwrap().to_string(), "192.0.2.1:56324");
    assert!(served.get_ssl_digest().is_some());
    client.write_all(b"a").await.unwrap();
    client.flush().await.unwrap();
    let mut got = [0];
    served.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"a");
}

#[tokio::test]
async fn a_client_of_plain_http_is_told() {
    let authority = Authority::new();
    let pair = authority.ordinary();
    let long = format!("POST / HTTP/1.1\r\nHost: a\r\n\r\n{:20000}", "x");
    let requests = ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PUT /", &long];
    for request in requests {
        let endpoint = endpoint(Some(&pair), None, [NEVER, NEVER]).await;
        let (mut client, served) = silent(&endpoint).await;
        let asking = async {
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            drop(client);
            answer
        };
        let (served, answer) = tokio::join!(served, asking);
        assert!(served.is_none());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(head.contains("Connection: close"), "{head}");
        let length = format!("Content-Length: {}\r\n", body.len());
        assert!(head.contains(&length), "{head}");
        assert_eq!(body, "plain HTTP was sent to a TLS port\r\n");
    }
    // Others are not: what they send is for the library to refuse.
    for other in [
        &b"SS\x00\x00\x00"[..],
        b"get / HTTP/1.1\r\n\r\n",
        b"\x80\x2e\x01\x00\x02",
    ] {
        let endpoint = endpoint(Some(&pair), None, [NEVER, NEVER]).await;
        let (mut client, served) = silent(&endpoint).await;
        let asking = async {
            client.write_all(other).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer).await;
            answer
        };
        let (served, answer) = tokio::join!(served, asking);
        assert!(served.is_none());
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
}

/// Waits for ever, where a hook might wait for a header that does not come.
struct Stuck;

#[async_trait]
impl PreTlsProcess for Stuck {
    async fn process(&self, _: &mut L4Stream) -> Result<()> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn what_comes_before_the_handshake_has_a_limit() {
    let authority = Authority::new();
    let pair = authority.ordinary();
    let soon = Duration::from_millis(10);
    for pair in [None, Some(&pair)] {
        for (limits, close) in [([NEVER, soon], true), ([soon, NEVER], false)] {
            let endpoint = endpoint(pair, Some(Arc::new(Stuck)), limits).await;
            let (mut client, served) = silent(&endpoint).await;
            if close {
                endpoint.entrance.close();
            }
            assert!(served.await.is_none());
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        }
    }
}
