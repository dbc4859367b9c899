//! An awaiting future is as large as everything inside it, and one is made for each request.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::Stream;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::Result;

use crate::{http_proxy, ProxyHttp, Session};

struct Nowhere;

#[async_trait]
impl ProxyHttp for Nowhere {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new("127.0.0.1:1", false, String::new())))
    }
}

fn session() -> ServerSession {
    let (stream, _) = tokio::io::duplex(1);
    let stream: Stream = Box::new(stream);
    ServerSession::new_http1(stream)
}

#[test]
fn a_waiting_connection_and_a_request_are_small() {
    let proxy = Arc::new(http_proxy(&Arc::new(ServerConf::default()), Nowhere));
    let waiting = size_of_val(&proxy.handle_new_request(session()));
    let request = size_of_val(&proxy.serve(Box::new(session()), false));
    assert!(waiting <= 256, "{waiting} bytes while a connection waits");
    // Blocks that allocators have at hand.
    let most = if cfg!(feature = "upstream_modules") {
        1280
    } else {
        1024
    };
    assert!(request <= most, "{request} bytes while a request is served");
}
