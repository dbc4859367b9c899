//! The protocol that a client begins with.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::first_bytes::in_time;
use super::HttpServerApp;
use crate::limits::LIMITS;
use crate::protocols::l4::ext::has_unread;
use crate::protocols::l4::stream::Stream as L4Stream;
use crate::protocols::tls::transport;
use crate::protocols::{Stream, UniqueID, ALPN};
use crate::shutdown::watch::ShutdownWatch;

/// The bytes that an HTTP/2 client sends first (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Lengths at which a client that does not speak HTTP/2 is found out: most by their first byte, POST and PUT by
/// the fourth, which no request can be shorter than.
const LOOKS: [usize; 3] = [1, 4, PREFACE.len()];

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
    /// One of the user's own.
    Custom,
}

/// Returns what the client speaks: by the options, by what the TLS handshake agreed on, or by how it begins, which is
/// looked at without taking a byte. `None` when it is gone or does not begin.
pub(super) async fn protocol<A>(
    app: &A,
    stream: &mut Stream,
    shutdown: &ShutdownWatch,
) -> Option<Protocol>
where
    A: HttpServerApp + Send + Sync,
{
    let options = app.server_options();
    if options.is_some_and(|o| o.force_custom) {
        return Some(Protocol::Custom);
    }
    match stream.selected_alpn_proto() {
        Some(ALPN::H2 | ALPN::H2H1) => return Some(Protocol::Http2),
        Some(ALPN::Custom(_)) => return Some(Protocol::Custom),
        Some(ALPN::H1) => return Some(Protocol::Http1),
        None => {}
    }
    let of_endpoint = transport(&**stream).and_then(L4Stream::http);
    let h2c = of_endpoint.and_then(|settings| settings.h2c);
    if !h2c.unwrap_or_else(|| options.is_some_and(|o| o.h2c)) {
        return Some(Protocol::Http1);
    }
    // Boxed: only while it waits does a connection hold it.
    Box::pin(look(app, stream, shutdown)).await
}

async fn look<A>(app: &A, stream: &mut Stream, shutdown: &ShutdownWatch) -> Option<Protocol>
where
    A: HttpServerApp + Send + Sync,
{
    let socket = transport(&**stream).map(UniqueID::id);
    let seen = AtomicBool::new(false);
    let begun = || seen.load(Ordering::Relaxed) || socket.is_some_and(has_unread);
    let looked = in_time(
        app,
        shutdown,
        LIMITS.client_handshake,
        begun,
        begins_http2(stream, &seen),
    );
    match looked.await.ok()? {
        Ok(true) => Some(Protocol::Http2),
        // What came of a short head, or an end before one, is judged where heads are.
        Ok(false) | Err(_) => Some(Protocol::Http1),
    }
}

/// Returns whether the client begins with the preface; notes when its first byte is there.
async fn begins_http2(stream: &mut Stream, seen: &AtomicBool) -> io::Result<bool> {
    let mut begin = [0; PREFACE.len()];
    for length in LOOKS {
        let begin = &mut begin[..length];
        if !stream.try_peek(begin).await? || *begin != PREFACE[..length] {
            return Ok(false);
        }
        seen.store(true, Ordering::Relaxed);
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
