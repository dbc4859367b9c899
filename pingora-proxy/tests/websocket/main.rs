//! WebSockets, with tungstenite behind the proxy: what comes of a WebSocket is the same with the proxy and without,
//! whatever version of HTTP the two sides speak.

#![allow(clippy::unwrap_used, unreachable_pub)]

#[cfg(any(feature = "rustls", feature = "openssl"))]
#[path = "../../../pingora-core/tests/tls_certs/mod.rs"]
mod certs;
#[path = "../common/mod.rs"]
mod common;

mod cases;
mod handshakes;
mod peers;

use std::path::PathBuf;

use common::h2_origin::{h2_peer, H2Origin};
use common::*;
use pingora_core::apps::HttpServerOptions;
use pingora_core::upstreams::peer::HttpPeer;

use cases::Case;
use peers::*;

/// What a large message is sent in.
const PIECE_SIZE: usize = 10_000;

fn setup() -> Setup {
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    Setup {
        options,
        ..Setup::default()
    }
}

fn h1_peer(path: PathBuf) -> HttpPeer {
    HttpPeer::new_uds(&path.to_string_lossy(), false, String::new()).unwrap()
}

/// Runs all cases over connections of `route`, and compares them with what came of them without a proxy.
async fn compare(name: &str, expected: &[Outcome], route: &Route) {
    for (case, expected) in cases::all().iter().zip(expected) {
        let outcome = run(case, route).await;
        assert!(
            outcome == *expected,
            "{name}: {}: {outcome} and not {expected}",
            case.name
        );
    }
}

async fn run(case: &Case, route: &Route) -> Outcome {
    let running = async { exchange(route.open().await, &case.bytes, case.piece).await };
    match tokio::time::timeout(PATIENCE, running).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("{}: no end in sight", case.name),
    }
}

/// What comes of the cases without a proxy, which is what the table says.
async fn direct(origin: &H2Origin) -> Vec<Outcome> {
    let route = Route::h1(origin.path());
    let mut outcomes = Vec::new();
    for case in cases::all() {
        let outcome = run(&case, &route).await;
        let code = outcome
            .code()
            .unwrap_or_else(|| panic!("{}: {outcome}", case.name));
        assert_eq!(code, case.code, "{}: {outcome}", case.name);
        outcomes.push(outcome);
    }
    let echoed: usize = outcomes.iter().map(Outcome::bytes).sum();
    assert!(echoed > 3 << 20, "the large messages come back");
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cases_end_as_without_the_proxy() {
    let (h1, h2) = (echo_h1(), echo_h2());
    let expected = direct(&h1).await;
    for (behind, peer) in [("H1", h1_peer(h1.path())), ("H2", h2_peer(&h2.path()))] {
        let proxy = Proxy::start_with(setup(), Forward { peer });
        let name = format!("H1 before, {behind} behind");
        compare(&name, &expected, &Route::h1(proxy.path())).await;
        let name = format!("H2 before, {behind} behind");
        compare(&name, &expected, &Route::h2(proxy.path())).await;
    }
}

#[cfg(any(feature = "rustls", feature = "openssl"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cases_end_as_without_the_proxy_over_tls() {
    use pingora_core::listeners::tls::TlsSettings;
    use pingora_core::protocols::ALPN;

    let authority = certs::Authority::new();
    let pair = authority.ordinary();
    let (h1, h2) = (echo_h1(), echo_h2());
    let expected = direct(&h1).await;
    let serving = |behind: HttpPeer| {
        let mut tls = TlsSettings::intermediate(&pair.cert, &pair.key).unwrap();
        tls.enable_h2();
        let mut setup = setup();
        setup.tls = Some(tls);
        setup.conf.ca_file = Some(authority.file());
        Proxy::start_with(setup, Forward { peer: behind })
    };
    // One of them is the origin of the third.
    let to_h1 = serving(h1_peer(h1.path()));
    let to_h2 = serving(h2_peer(&h2.path()));
    let mut peer = HttpPeer::new(to_h2.tls(), true, "name.example".into());
    peer.options.alpn = ALPN::H2;
    let to_tls = serving(peer);
    for (behind, proxy) in [("H1", &to_h1), ("H2", &to_h2), ("H2 over TLS", &to_tls)] {
        for (before, alpn) in [("H1", ALPN::H1), ("H2", ALPN::H2)] {
            let name = format!("{before} over TLS before, {behind} behind");
            let route = Route::tls(proxy.tls(), &authority.file(), alpn);
            compare(&name, &expected, &route).await;
        }
    }
}
