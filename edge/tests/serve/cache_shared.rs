//! What one client asks for, and what others are answered then.

use super::cache::FRESH;
use super::goaway::{Frames, DATA, END_STREAM};
use super::scripted::{answer, Scripted};
use super::tools::*;

/// Runs a proxy that speaks HTTP/2 without TLS too, of one route with this `cache`.
fn cached_for_http2(origin: &Scripted, cache: &str) -> Edge {
    let (address, to) = (free(), origin.address);
    let routes = format!("[{{proxy: {{to: '{to}', cache: {cache}}}}}]");
    let listen = format!("{{address: '{address}', h2c: true}}");
    Edge::start_whole(
        address,
        &format!("listen: {listen}\nsites:\n  - routes: {routes}\n"),
    )
}

#[test]
fn an_answer_to_a_body_is_not_that_of_the_url() {
    let origin = Scripted::start(|asked, _| {
        answer(
            FRESH,
            &format!("to {:?}", String::from_utf8_lossy(&asked.body)),
        )
    });
    let edge = cached_for_http2(&origin, "true");
    let mut frames = Frames::connect(edge.address);
    frames.begin_request(1, "/", "", 0);
    frames.send(DATA, END_STREAM, 1, b"evil");
    frames.whole(1);
    origin.last(|asked| assert_eq!(asked.body, b"evil"));
    assert_eq!(edge.get("a", "/").body, "to \"\"");
    // Nor does it take what is stored.
    frames.begin_request(3, "/", "", 0);
    frames.send(DATA, END_STREAM, 3, b"more");
    frames.whole(3);
    origin.last(|asked| assert_eq!(asked.body, b"more"));
}
