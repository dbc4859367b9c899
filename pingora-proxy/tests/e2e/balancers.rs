//! Clients behind a load balancer that speaks the PROXY protocol.

use super::common::*;
use async_trait::async_trait;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pingora_core::apps::HttpServerOptions;
use pingora_core::listeners::ProxyProtocol;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

/// Answers by itself, and says who asks whom.
struct Who;

#[async_trait]
impl ProxyHttp for Who {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        let addresses = [session.client_addr(), session.server_addr()];
        let addresses = addresses.map(|a| a.map_or("none".to_owned(), ToString::to_string));
        let mut response = ResponseHeader::build(200, None)?;
        response.insert_header("X-Who", addresses.join(" to "))?;
        response.insert_header("Content-Length", "0")?;
        let response = Box::new(response);
        session.write_response_header(response, true).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new("127.0.0.1:1", false, String::new())))
    }
}

fn proxy() -> Proxy {
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    let setup = Setup {
        options,
        balancers: Some(ProxyProtocol::from_sources([""; 0]).unwrap()),
        ..Setup::default()
    };
    Proxy::start_with(setup, Who)
}

const HEADER: &str = "PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n";
const WHO: &str = "[2001:db8::1]:56324 to [2001:db8::2]:443";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn every_request_is_its_clients() {
    let proxy = proxy();
    for split in [false, true] {
        let mut client = proxy.connect();
        let first = [HEADER, GET].concat();
        match split {
            false => client.send(&first),
            true => client.send_split(first.as_bytes(), &[1, 6, 40, HEADER.len(), 60]),
        }
        assert_eq!(client.read_response().field("X-Who"), Some(WHO));
        client.send(GET);
        assert_eq!(client.read_response().field("X-Who"), Some(WHO));
    }
    let mut client = proxy.connect();
    client.send(GET);
    client.expect_end();
}

#[tokio::test]
async fn every_stream_is_its_clients() {
    let proxy = tokio::task::spawn_blocking(proxy).await.unwrap();
    let mut stream = UnixStream::connect(proxy.path()).await.unwrap();
    stream.write_all(HEADER.as_bytes()).await.unwrap();
    let stream = TokioIo::new(stream);
    let client = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
    let (mut requests, connection) = client.await.unwrap();
    tokio::spawn(async { drop(connection.await) });
    for _ in 0..2 {
        let request = hyper::Request::get("http://a.test/").body(Empty::<Bytes>::new());
        let response = requests.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.headers()["x-who"], WHO);
    }
    drop(requests);
    tokio::task::spawn_blocking(move || drop(proxy))
        .await
        .unwrap();
}
