//! A body that becomes much larger when it is decompressed.
//!
//! Alone in its process, whose memory is what it looks at.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use common::*;
use pingora_core::modules::http::compression::ResponseCompression;
use pingora_core::protocols::http::compression::{Algorithm, Decompression};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session};

/// The same for all clients, whatever they accept.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Where {
    /// As it comes from the upstream.
    Upstream,
    /// By the module, as it goes to the client.
    Downstream,
}

struct Decompress {
    to: Forward,
    at: Where,
    limits: Option<Decompression>,
    largest: Arc<AtomicUsize>,
}

#[async_trait]
impl ProxyHttp for Decompress {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.to.peer.clone()))
    }

    async fn early_request_filter(&self, session: &mut Session, _: &mut ()) -> Result<()> {
        let modules = &mut session.downstream_modules_ctx;
        let compression = match self.at {
            Where::Upstream => &mut session.upstream_compression,
            Where::Downstream => &mut **modules.get_mut::<ResponseCompression>().unwrap(),
        };
        compression.adjust_decompression(true);
        if let Some(limits) = self.limits {
            compression.set_decompression_limits(limits);
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        _: &mut (),
    ) -> Result<Option<Duration>> {
        let size = body.as_ref().map_or(0, Bytes::len);
        self.largest.fetch_max(size, Ordering::SeqCst);
        Ok(None)
    }

    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        upstream: &mut ResponseHeader,
        _: &mut (),
    ) -> Result<()> {
        assert!(self.at == Where::Downstream || !upstream.headers.contains_key("content-encoding"));
        Ok(())
    }
}

/// Zeros in a coding.
struct Coded {
    algorithm: Algorithm,
    body: Vec<u8>,
    /// What it becomes.
    size: usize,
}

impl Coded {
    fn zeros(algorithm: Algorithm, mib: usize) -> Self {
        let mut encoder = algorithm.compressor(3).unwrap();
        let mut body = Vec::new();
        let piece = vec![0; 1 << 20];
        for n in 1..=mib {
            body.extend(encoder.encode(&piece, n == mib).unwrap());
        }
        Coded {
            algorithm,
            body,
            size: mib << 20,
        }
    }
}

/// An origin with this page, and with a small one.
fn origin(page: &Coded, chunked: bool) -> Origin {
    let Coded {
        algorithm, body, ..
    } = page;
    let coding = algorithm.as_str();
    let page = match chunked {
        false => [
            format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )
            .as_bytes(),
            body,
        ]
        .concat(),
        true => [
            format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
                body.len()
            )
            .as_bytes(),
            body,
            b"\r\n0\r\n\r\n",
        ]
        .concat(),
    };
    Origin::scripted(move |mut wire, _| {
        while wire.has_more() {
            match wire.read_head().starts_with("GET /small ") {
                true => wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall"),
                false => wire.send(&page),
            }
        }
    })
}

fn proxy(origin: &Origin, at: Where, limits: Option<Decompression>) -> (Proxy, Arc<AtomicUsize>) {
    let largest = Arc::default();
    let app = Decompress {
        to: forward_to(origin.path()),
        at,
        limits,
        largest: Arc::clone(&largest),
    };
    (Proxy::start(app), largest)
}

fn get(wire: &mut Wire, path: &str) {
    // Whoever names another coding does not accept what the origin sends.
    wire.send(format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: identity, *;q=0\r\n\r\n"
    ));
}

/// Reads a chunked body of zeros; says how many there were, and whether it was whole.
fn read_zeros(wire: &mut Wire) -> (usize, bool) {
    let mut size = 0;
    while wire.has_more() {
        let line = wire.read_until("\r\n");
        let chunk = usize::from_str_radix(line.trim(), 16).unwrap();
        if chunk == 0 {
            wire.read_until("\r\n");
            return (size, true);
        }
        let data = wire.read_exact(chunk + 2);
        assert!(data[..chunk] == vec![0; chunk]);
        size += chunk;
    }
    (size, false)
}

/// One test, whose parts would see each other's memory otherwise.
#[test]
fn a_body_that_becomes_much_larger() {
    let gzip = Coded::zeros(Algorithm::Gzip, 8);
    let zstd = Coded::zeros(Algorithm::Zstd, 20);
    for at in [Where::Upstream, Where::Downstream] {
        for chunked in [false, true] {
            held_in_steps(at, &gzip, chunked);
        }
        cut_short(at, &zstd);
    }
}

fn held_in_steps(at: Where, page: &Coded, chunked: bool) {
    let origin = origin(page, chunked);
    let (proxy, largest) = proxy(&origin, at, None);
    let mut wire = proxy.connect();
    let before = resident();
    get(&mut wire, "/");
    wire.read_head();
    // The one worker serves others, and has decoded what it was going to.
    for _ in 0..100 {
        let mut other = proxy.connect();
        get(&mut other, "/small");
        assert_eq!(other.read_response().text(), "small");
    }
    let grown = resident().saturating_sub(before);
    println!("{at:?}: {} KiB", grown / 1024);
    assert!(grown < 4 << 20, "{at:?}: {grown} bytes more in memory");
    assert_eq!(read_zeros(&mut wire), (page.size, true), "{at:?}");
    assert!(largest.load(Ordering::SeqCst) <= 64 * 1024);
    // And the connection goes on.
    get(&mut wire, "/small");
    assert_eq!(wire.read_response().text(), "small");
}

fn cut_short(at: Where, page: &Coded) {
    let origin = origin(page, false);
    let (default, _) = proxy(&origin, at, None);
    let mut wire = default.connect();
    get(&mut wire, "/");
    assert!(wire.read_head().starts_with("HTTP/1.1 200"));
    let (size, whole) = read_zeros(&mut wire);
    assert!(!whole && size <= 17 << 20, "{at:?}: {size}");

    let mut limits = Decompression::default();
    limits.max_size = Some(100_000);
    let (limited, _) = proxy(&origin, at, Some(limits));
    let mut wire = limited.connect();
    get(&mut wire, "/");
    assert!(wire.read_head().starts_with("HTTP/1.1 200"));
    let (size, whole) = read_zeros(&mut wire);
    assert!(!whole && size <= 100_000, "{at:?}: {size}");
}
