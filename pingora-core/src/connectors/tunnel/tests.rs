use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::io::DuplexStream;

use super::*;
use crate::upstreams::peer::{BasicPeer, HttpPeer};

fn request(headers: &[(&str, &str)]) -> Result<Box<Parts>> {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_bytes().to_vec()))
        .collect();
    generate_connect_header("a.example", 443, headers.iter().map(|(n, v)| (n, v)))
}

#[test]
fn the_request_on_the_wire() {
    let fields = BTreeMap::from([
        ("X-One".to_string(), b"1".to_vec()),
        ("host".to_string(), b"other".to_vec()),
    ]);
    let table = [
        ("a.example", 443, "a.example:443"),
        ("127.0.0.1", 80, "127.0.0.1:80"),
        ("::1", 80, "[::1]:80"),
        ("[::1]", 80, "[::1]:80"),
    ];
    for (host, port, target) in table {
        let parts = generate_connect_header(host, port, fields.iter()).unwrap();
        let wire = String::from_utf8(to_wire(&parts)).unwrap();
        let (line, rest) = wire.split_once("\r\n").unwrap();
        assert_eq!(line, format!("CONNECT {target} HTTP/1.1"));
        assert!(rest.ends_with("\r\n\r\n"), "{wire:?}");
        assert!(
            rest.contains("x-one: 1\r\n") && rest.contains("host: other\r\n"),
            "{wire:?}"
        );
        assert!(!rest.contains(target));
    }
    let wire = String::from_utf8(to_wire(&request(&[]).unwrap())).unwrap();
    assert_eq!(
        wire,
        "CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n"
    );
}

#[test]
fn what_cannot_be_asked() {
    for bad in [("a b", "x"), ("a", "x\r\ny: z"), ("", "x")] {
        let e = request(&[bad]).unwrap_err();
        assert_eq!(e.etype(), &InvalidHTTPHeader, "{bad:?}");
    }
    let none: [(&str, &Vec<u8>); 0] = [];
    let e = generate_connect_header("a b\r\n", 1, none.into_iter()).unwrap_err();
    assert_eq!(e.etype(), &InvalidHTTPHeader);
}

/// Connects through a proxy that sends `answer`, which is followed by the end.
async fn through(answer: &[u8], peer: &HttpPeer) -> Result<(Stream, ProxyDigest, DuplexStream)> {
    let (ours, mut proxy) = tokio::io::duplex(256 * 1024);
    proxy.write_all(answer).await.unwrap();
    proxy.shutdown().await.unwrap();
    let parts = request(&[]).unwrap();
    let (stream, digest) = connect(Box::new(ours), &parts, peer).await?;
    Ok((stream, digest, proxy))
}

fn peer() -> HttpPeer {
    HttpPeer::new("127.0.0.1:80", false, String::new())
}

#[tokio::test]
async fn a_tunnel() {
    let answer = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
        HTTP/1.1 204 Fine\r\nX-Proxy: p\r\nContent-Length: 5\r\n\r\ntunnel";
    let mut peer = peer();
    peer.options.proxy_digest_user_data_hook = Some(Arc::new(|request, response| {
        let value = response.headers.get("x-proxy")?.to_str().ok()?;
        Some(Box::new(format!("{} {value}", request.uri)))
    }));
    let (mut stream, digest, mut proxy) = through(answer, &peer).await.unwrap();
    assert_eq!(digest.response.status, 204);
    assert_eq!(digest.response.get_reason_phrase(), Some("Fine"));
    let user = digest.user_data.unwrap();
    assert_eq!(user.downcast_ref::<String>().unwrap(), "a.example:443 p");
    // What follows the head is the tunnel's; a length does not count (RFC 9110 section 9.3.6).
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "tunnel");
    let mut asked = [0; 15];
    proxy.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"CONNECT a.examp");
}

#[tokio::test]
async fn a_refusal() {
    for answer in [
        "HTTP/1.1 403 Forbidden\r\nProxy-Status: p; error=x\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.0 302 Found\r\n\r\n",
    ] {
        let e = through(answer.as_bytes(), &peer()).await.unwrap_err();
        assert_eq!(e.etype(), &ConnectProxyFailure);
        let refusal = e.root_cause().downcast_ref::<Box<ConnectProxyError>>();
        let refusal = refusal.unwrap();
        let code = refusal.response.status.as_str();
        assert!(answer.contains(code) && e.to_string().contains(code), "{e}");
        assert_eq!(
            answer.contains("error=x"),
            e.to_string().contains("error=x")
        );
    }
}

#[tokio::test]
async fn what_is_no_answer() {
    let long = format!(
        "HTTP/1.1 200 OK\r\nx: {}",
        "x".repeat(LIMITS.upstream_proxy_head_bytes)
    );
    let many = format!(
        "HTTP/1.1 200 OK\r\n{}\r\n",
        "x: y\r\n".repeat(LIMITS.head_fields + 1)
    );
    let table = [
        ("", ConnectionClosed),
        ("HTTP/1.1 200 OK\r\nx: y\r\n", ConnectionClosed),
        ("SSH-2.0-OpenSSH\r\n\r\n", ConnectProxyFailure),
        ("HTTP/1.1 20 OK\r\n\r\n", ConnectProxyFailure),
        ("HTTP/1.1 200 OK\nVia: p\r\n\r\n", ConnectProxyFailure),
        ("HTTP/1.1 200 OK\r\nVia: \0\r\n\r\n", ConnectProxyFailure),
        ("HTTP/1.1 200 OK\r\na b\r\n\r\n", ConnectProxyFailure),
        (&long, ConnectProxyFailure),
        (&many, ConnectProxyFailure),
    ];
    for (answer, etype) in table {
        let e = through(answer.as_bytes(), &peer()).await.unwrap_err();
        let start = &answer[..answer.len().min(40)];
        assert_eq!(e.etype(), &etype, "{start:?}: {e}");
    }
}

#[tokio::test]
async fn a_proxy_that_goes_away() {
    let (ours, proxy) = tokio::io::duplex(64);
    drop(proxy);
    let parts = request(&[]).unwrap();
    let basic = BasicPeer::new("127.0.0.1:1");
    let e = connect(Box::new(ours), &parts, &basic).await.unwrap_err();
    assert_eq!(e.etype(), &WriteError);
}
