//! Which protocol a client begins with.

use std::time::Duration;

use super::HttpServerOptions;
use crate::protocols::{Stream, ALPN};
use crate::server::ShutdownWatch;

/// How long a client may take for what tells the protocol; as long as for a request head.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What an HTTP/2 client sends first (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// As much of it as no request can be shorter than; no method that is in use begins like this.
const FIRST: usize = 4;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
    /// One of the user's own.
    Custom,
}

/// What the client speaks: by the options, by what the TLS handshake agreed on, or by how it begins, which is
/// looked at without taking a byte. `None` when it is gone or does not begin.
pub(super) async fn protocol(
    stream: &mut Stream,
    options: Option<&HttpServerOptions>,
    shutdown: &ShutdownWatch,
) -> Option<Protocol> {
    if options.is_some_and(|o| o.force_custom) {
        return Some(Protocol::Custom);
    }
    match stream.selected_alpn_proto() {
        Some(ALPN::H2 | ALPN::H2H1) => return Some(Protocol::Http2),
        Some(ALPN::Custom(_)) => return Some(Protocol::Custom),
        Some(ALPN::H1) => return Some(Protocol::Http1),
        None => {}
    }
    if !options.is_some_and(|o| o.h2c) {
        return Some(Protocol::Http1);
    }
    // Boxed: only while it waits does a connection hold it.
    Box::pin(look(stream, shutdown)).await
}

async fn look(stream: &mut Stream, shutdown: &ShutdownWatch) -> Option<Protocol> {
    let mut shutdown = shutdown.clone();
    tokio::select! {
        looked = tokio::time::timeout(TIMEOUT, begins_http2(stream)) => match looked {
            Ok(Ok(true)) => Some(Protocol::Http2),
            // What came of a short head, or an end before one, is judged where heads are.
            Ok(_) => Some(Protocol::Http1),
            Err(_) => None,
        },
        // Who has not begun when the server stops waits, or closes, as HTTP/1.x does.
        _ = shutdown.wait_for(|stops| *stops) => Some(Protocol::Http1),
    }
}

async fn begins_http2(stream: &mut Stream) -> std::io::Result<bool> {
    let mut begin = [0; FIRST];
    if !stream.try_peek(&mut begin).await? || begin != PREFACE[..FIRST] {
        return Ok(false);
    }
    let mut begin = [0; PREFACE.len()];
    Ok(stream.try_peek(&mut begin).await? && begin == *PREFACE)
}

#[cfg(test)]
mod tests;
