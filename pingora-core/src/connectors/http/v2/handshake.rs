//! From a transport to a connection.

use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::time::Duration;

use h2::client::{Builder, Connection};
use h2::{Ping, PingPong};
use pingora_error::ErrorType::HandshakeError;
use pingora_error::{Error, OrErr, Result};
use tokio::sync::watch;

use super::ConnectionRef;
use crate::limits::LIMITS;
use crate::protocols::http::v2::client::{drive, GrowingWindow};
use crate::protocols::tls::transport;
use crate::protocols::{Digest, Stream};
use crate::worker;

/// The largest window that there is (RFC 9113 section 6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// The settings of a new HTTP/2 connection.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct H2HandshakeSettings {
    /// The number of streams that may be in use at once; zero counts as one.
    pub max_streams: usize,
    /// The interval between PINGs; `None` for never.
    pub ping_interval: Option<Duration>,
    /// The flow-control window of a stream in bytes; `None` for 2 MiB.
    pub stream_window_size: Option<u32>,
    /// The flow-control window of the connection in bytes; `None` for 8 MiB, or for one that grows from 128 KiB to that of
    /// the stream where there is one stream at a time.
    pub connection_window_size: Option<u32>,
}

impl H2HandshakeSettings {
    /// One stream at a time, no PING, and the windows of the default.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Begins HTTP/2 on a transport, and starts the task that drives the connection, on the runtime of the caller.
///
/// It does not wait for the peer: what is wrong with it is seen by the first stream.
///
/// # Errors
/// `HandshakeError` when the preface cannot be written.
///
/// # Panics
/// Outside a tokio runtime.
///
/// # Cancel safety
/// Dropping the future closes the transport.
pub async fn handshake(stream: Stream, settings: H2HandshakeSettings) -> Result<ConnectionRef> {
    begin(stream, settings, false).await
}

/// [`handshake`]; with `settle` it waits for the SETTINGS of the peer.
pub(super) async fn begin(
    stream: Stream,
    settings: H2HandshakeSettings,
    settle: bool,
) -> Result<ConnectionRef> {
    let digest = Digest::of(&*stream);
    let limit = transport(&*stream).and_then(|socket| socket.limit_key());
    let id = stream.id();
    let max_streams = settings.max_streams.max(1);
    let stream_window = settings
        .stream_window_size
        .unwrap_or(LIMITS.h2_upstream_stream_window_bytes);
    let connection_window = settings
        .connection_window_size
        .unwrap_or(LIMITS.h2_upstream_window_bytes);
    // With one stream at a time nobody else waits for the window, so it may begin small.
    let growing = max_streams == 1 && settings.connection_window_size.is_none();
    let first_window = match growing {
        true => LIMITS.h2_upstream_first_window_bytes,
        false => connection_window.min(MAX_WINDOW),
    };
    let (send, mut connection) = Builder::new()
        .enable_push(false)
        .initial_window_size(stream_window.min(MAX_WINDOW))
        .initial_connection_window_size(first_window)
        .initial_max_send_streams(max_streams.min(LIMITS.h2_upstream_streams))
        .max_send_buffer_size(LIMITS.h2_send_buffer_bytes)
        .max_header_list_size(LIMITS.h2_upstream_field_bytes)
        // Clients that leave have streams reset, which is no fault of the peer: what was on its way for them must not end the
        // connection, nor what others have on it. Neither must a response that is flushed line by line.
        .max_concurrent_reset_streams(LIMITS.h2_upstream_remembered_resets)
        .reset_stream_duration(LIMITS.h2_upstream_reset_memory)
        .max_local_error_reset_streams(None)
        .data_frame_budget(LIMITS.h2_upstream_small_data_bytes)
        .handshake(stream)
        .await
        .or_err(HandshakeError, "beginning HTTP/2")?;
    let pinged = settle || settings.ping_interval.is_some();
    let mut pings = pinged.then(|| connection.ping_pong()).flatten();
    if let Some(pings) = pings.as_mut().filter(|_| settle) {
        settled(&mut connection, pings).await?;
    }
    let pings = settings.ping_interval.zip(pings);
    let (closed, is_closed) = watch::channel(false);
    let ping_timedout = Arc::new(AtomicBool::new(false));
    let timedout = ping_timedout.clone();
    let conn = ConnectionRef::new(send, is_closed, timedout, id, max_streams, digest);
    conn.set_limit_key(limit);
    let window = growing.then(|| {
        // A stream gets no more than its own window.
        let most = connection_window.min(stream_window).max(first_window);
        GrowingWindow::new(first_window, most, conn.taken())
    });
    worker::spawn_housekeeping(drive(connection, id, closed, pings, ping_timedout, window));
    if settle {
        conn.mark_settled();
    }
    Ok(conn)
}

/// Waits until the peer's SETTINGS are known: nothing that it sends goes before them (RFC 9113 section 3.4), and
/// it answers a PING.
async fn settled(connection: &mut Connection<Stream>, pings: &mut PingPong) -> Result<()> {
    tokio::select! {
        ended = connection => match ended {
            Ok(()) => Error::e_explain(HandshakeError, "the peer closed the connection"),
            Err(e) => Error::e_because(HandshakeError, "beginning HTTP/2", e),
        },
        pong = pings.ping(Ping::opaque()) => pong.map(|_| ()).or_err(HandshakeError, "beginning HTTP/2"),
    }
}
