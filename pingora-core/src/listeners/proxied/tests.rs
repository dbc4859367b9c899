use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdUnixStream;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::tests::Dir;
use super::*;
use crate::listeners::{Endpoint, ListenerConfig, Listeners};
use crate::protocols::Stream;

async fn endpoint(config: ListenerConfig, balancers: ProxyProtocol) -> Endpoint {
    let mut listeners = Listeners::new();
    listeners.add_listener(config.proxy_protocol(balancers));
    listeners.listen(None, 1).await.unwrap().remove(0)
}

/// One that trusts whoever connects.
async fn trusting() -> Endpoint {
    let balancers = ProxyProtocol::from_sources(["127.0.0.0/8"]).unwrap();
    endpoint(ListenerConfig::tcp("127.0.0.1:0"), balancers).await
}

/// A connection whose client sends `pieces` and nothing more, as the application gets it; and the client's address.
async fn served(endpoint: &Endpoint, pieces: &[&[u8]]) -> (Option<Stream>, SocketAddr) {
    let mut client = TcpStream::connect(endpoint.address()).await.unwrap();
    client.set_nodelay(true).unwrap();
    let own = client.local_addr().unwrap();
    let accepted = endpoint.accept_one().unwrap();
    let sending = async {
        for piece in pieces {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.shutdown().await.unwrap();
        client
    };
    let (stream, _client) = tokio::join!(endpoint.entrance.pass(accepted), sending);
    (stream, own)
}

async fn rest(stream: &mut Stream) -> String {
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    rest
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 203.0.113.5 56324 443\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0f\xc0\x00\x02\x01\xcb\x00\x71\x05\xdc\x04\x01\xbb\x04\x00\x00";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

#[tokio::test]
async fn the_addresses_are_those_told() {
    let endpoint = trusting().await;
    for header in [V1, V2] {
        let at_once = [header, b"hello"].concat();
        let bytewise: Vec<&[u8]> = at_once.chunks(1).collect();
        for pieces in [&[&at_once[..]][..], &[header, b"hel", b"lo"], &bytewise] {
            let (stream, own) = served(&endpoint, pieces).await;
            let mut stream = stream.expect("it is served");
            let digest = stream.get_socket_digest().unwrap();
            assert_eq!(digest.peer_addr().unwrap().to_string(), "192.0.2.1:56324");
            assert_eq!(digest.local_addr().unwrap().to_string(), "203.0.113.5:443");
            assert_eq!(digest.proxy_addr().unwrap().as_inet(), Some(&own));
            assert!(digest.tcp_info().is_some(), "it is the same socket");
            assert_eq!(rest(&mut stream).await, "hello");
        }
    }
}

#[tokio::test]
async fn they_stay_where_the_balancer_names_nobody() {
    let endpoint = trusting().await;
    for header in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        let (stream, own) = served(&endpoint, &[header, b"hello"]).await;
        let mut stream = stream.expect("it is served");
        let digest = stream.get_socket_digest().unwrap();
        assert_eq!(digest.peer_addr().unwrap().as_inet(), Some(&own));
        assert!(digest.proxy_addr().is_none());
        assert_eq!(rest(&mut stream).await, "hello");
    }
}

#[tokio::test]
async fn without_a_header_the_connection_is_closed() {
    let endpoint = trusting().await;
    for pieces in [
        &[][..],
        &[&b"GET / HTTP/1.1\r\n\r\n"[..]],
        &[b"PROXY TCP4 192.0.2.1 203.0.113.5 56324 443"],
        &[b"PROXY TCP4 192.0.2.1 203.0.113.5 x 443\r\n"],
        &[b"PROXY TCP4 192.0.2.1 203.0.113.5 1 443\n"],
        &[&V2[..20]],
        &[&V2[..13], b"\x99"],
    ] {
        let (stream, _) = served(&endpoint, pieces).await;
        assert!(stream.is_none(), "{pieces:?}");
    }
}

/// Whoever is not trusted can claim nothing.
#[tokio::test]
async fn a_connection_from_elsewhere_is_served_as_it_is() {
    for sources in [&[][..], &["192.0.2.0/24", "127.0.0.2"]] {
        let balancers = ProxyProtocol::from_sources(sources).unwrap();
        let endpoint = endpoint(ListenerConfig::tcp("127.0.0.1:0"), balancers).await;
        let (stream, own) = served(&endpoint, &[V1]).await;
        let mut stream = stream.expect("it is served");
        let digest = stream.get_socket_digest().unwrap();
        assert_eq!(digest.peer_addr().unwrap().as_inet(), Some(&own));
        assert_eq!(rest(&mut stream).await.as_bytes(), V1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_has_a_limit() {
    let endpoint = trusting().await;
    for begin in [&b""[..], b"PROXY TC"] {
        let mut client = TcpStream::connect(endpoint.address()).await.unwrap();
        client.write_all(begin).await.unwrap();
        let accepted = endpoint.accept_one().unwrap();
        let since = tokio::time::Instant::now();
        assert!(endpoint.entrance.pass(accepted).await.is_none());
        assert_eq!(
            since.elapsed().as_secs(),
            LIMITS.client_proxy_header.as_secs()
        );
    }
    // And it ends with the endpoint when nothing has come.
    let _client = TcpStream::connect(endpoint.address()).await.unwrap();
    let accepted = endpoint.accept_one().unwrap();
    let since = tokio::time::Instant::now();
    endpoint.entrance.close();
    assert!(endpoint.entrance.pass(accepted).await.is_none());
    assert!(since.elapsed() < LIMITS.client_proxy_header);
}

#[tokio::test]
async fn a_unix_socket_is_trusted() {
    let dir = Dir::new("proxied");
    let path = dir.path("sock");
    let balancers = ProxyProtocol::from_sources([""; 0]).unwrap();
    let endpoint = endpoint(ListenerConfig::uds(&path), balancers).await;
    let client = StdUnixStream::connect(&path).unwrap();
    std::io::Write::write_all(&mut &client, V1).unwrap();
    std::io::Write::write_all(&mut &client, b"hello").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let accepted = endpoint.accept_one().unwrap();
    let mut stream = endpoint.entrance.pass(accepted).await.unwrap();
    let digest = stream.get_socket_digest().unwrap();
    assert_eq!(digest.peer_addr().unwrap().to_string(), "192.0.2.1:56324");
    assert!(digest.tcp_info().is_none() && digest.original_dst().is_none());
    assert_eq!(rest(&mut stream).await, "hello");
}

#[test]
fn networks() {
    let trusts = |network: &str, ip: &str| {
        let peer = SocketAddr::new(ip.parse().unwrap(), 1);
        let balancers = ProxyProtocol::from_sources([network]).unwrap();
        balancers.trusts(Some(&peer))
    };
    for (network, in_it, outside) in [
        ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
        ("192.0.2.7/24", "192.0.2.255", "192.0.3.0"),
        ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
        ("::ffff:10.0.0.0/104", "10.1.2.3", "11.1.2.3"),
        ("0.0.0.0/0", "203.0.113.5", "::1"),
        ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
        ("::1/128", "::1", "::2"),
    ] {
        assert!(trusts(network, in_it), "{network} {in_it}");
        assert!(!trusts(network, outside), "{network} {outside}");
    }
    assert!(trusts("::/0", "192.0.2.1") && trusts("::/0", "::1"));
    for bad in [
        "",
        "a",
        "10.0.0.0/33",
        "::/129",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0.0/8/8",
        "10.0.0/8",
        "10.0.0.0/99999999999",
    ] {
        let e = ProxyProtocol::from_sources([bad]).unwrap_err().to_string();
        assert!(e.contains(&format!("{bad:?}")), "{e}");
    }
}
