//! HTTP/2 in front of the proxy, HTTP/1.1 behind it.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod conformance;
mod exchanges;
mod life;
mod malformed;
mod raw;
mod real;
mod refused;
mod retries;
mod tunnels;
mod windows;

use common::*;
use pingora_core::apps::HttpServerOptions;
use pingora_proxy::ProxyHttp;

/// A proxy that serves HTTP/2 besides HTTP/1.x, at a TCP port too.
fn setup() -> Setup {
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    Setup {
        options,
        tcp: true,
        ..Setup::default()
    }
}

/// Forwards everything to `origin`.
fn h2_proxy(origin: &Origin) -> Proxy {
    Proxy::start_with(setup(), forward_to(origin.path()))
}

/// Runs `app`.
fn h2_proxy_of<P>(app: P) -> Proxy
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    Proxy::start_with(setup(), app)
}
