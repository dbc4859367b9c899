//! What settings of a peer, a connector, a server and a session do to requests, where no other test shows it.
//!
//! The tables of all settings, each with the test that fails without its effect, stand in `src/settings.rs` of
//! `pingora-core` and in `src/session/tests.rs` of `pingora-proxy`.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod compression;
mod peers;
mod servers;
mod sessions;

use async_trait::async_trait;
use common::*;
use pingora_core::apps::HttpServerOptions;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;
use pingora_proxy::{ProxyHttp, Session};

/// Forwards after it has set something up in the first phase.
struct Set {
    peer: HttpPeer,
    set: fn(&mut Session),
}

#[async_trait]
impl ProxyHttp for Set {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn early_request_filter(&self, session: &mut Session, _: &mut ()) -> Result<()> {
        (self.set)(session);
        Ok(())
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }
}

/// A proxy of HTTP/1.1 and HTTP/2 that sets something up for each request.
fn setting(peer: HttpPeer, set: fn(&mut Session)) -> Proxy {
    Proxy::start_with(with_h2(), Set { peer, set })
}

fn with_h2() -> Setup {
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    Setup {
        options,
        ..Setup::default()
    }
}

/// A request that the client of `wire` gets answered.
#[track_caller]
fn get(wire: &mut Wire, fields: &str) -> Response {
    wire.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    wire.read_response()
}
