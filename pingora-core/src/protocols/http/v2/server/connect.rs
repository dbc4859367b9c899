//! Connections: the handshake, and the streams that clients open.

use std::sync::Arc;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Method, Request};
use log::debug;
use pingora_error::ErrorType::{HandshakeError, InvalidHTTPHeader};
use pingora_error::{Error, Result};
use pingora_http::internal::{MessageHead, Names};
use pingora_http::{RequestHeader, ResponseHeader};

use super::super::conn_state::ConnState;
use super::super::guard::{self, Guard};
use super::super::stream_error;
use super::write::message;
use super::{check, H2Options, HttpSession};
use crate::limits::LIMITS;
use crate::protocols::http::RefusedRequest;
use crate::protocols::{Digest, Stream};

/// Returns how HTTP/2 connections are set up unless the application says otherwise: at most 100 streams, 64 KiB of
/// header fields in a request, 32 KiB of a response buffered for each stream, 640 KiB of request bodies for all; a
/// client that resets streams, or has them reset, out of proportion is sent away. WebSockets may be opened
/// by an extended CONNECT (RFC 8441).
pub fn default_h2_options() -> H2Options {
    let mut options = H2Options::new();
    options
        .max_concurrent_streams(LIMITS.h2_client_streams)
        .max_header_list_size(LIMITS.h2_client_field_bytes)
        .max_send_buffer_size(LIMITS.h2_send_buffer_bytes)
        .initial_window_size(LIMITS.h2_client_stream_window_bytes)
        .initial_connection_window_size(LIMITS.h2_client_window_bytes)
        .max_local_error_reset_streams(Some(LIMITS.h2_client_local_resets))
        .max_pending_accept_reset_streams(LIMITS.h2_client_pending_resets)
        .max_concurrent_reset_streams(LIMITS.h2_client_remembered_resets)
        .enable_connect_protocol();
    options
}

/// Begins HTTP/2 on a connection: exchanges the prefaces. `None` stands for [`default_h2_options`].
///
/// From then on the frames that the client sends are counted, and one that sends out of proportion what
/// costs it little and the server much is sent away with ENHANCE_YOUR_CALM.
///
/// # Errors
/// `HandshakeError` when the client does not speak HTTP/2, or leaves.
pub async fn handshake(
    io: Stream,
    options: Option<H2Options>,
) -> Result<Connection<Stream, Bytes>> {
    begin(io, options, None).await
}

/// [`handshake`], of a connection whose parts tell each other by `state`.
pub(crate) async fn begin(
    io: Stream,
    options: Option<H2Options>,
    state: Option<Arc<ConnState>>,
) -> Result<Connection<Stream, Bytes>> {
    let options = options.unwrap_or_else(default_h2_options);
    let guarded: Stream = Box::new(Guard::new(io, state));
    let connection = options.handshake(guarded).await;
    connection.map_err(|e| Error::because(HandshakeError, "while beginning HTTP/2", e))
}

/// The result of accepting a stream.
// The session is what nearly always comes of it.
#[allow(clippy::large_enum_variant)]
pub enum H2Accept {
    /// A request.
    Session(HttpSession),
    /// A malformed request: its stream was reset with PROTOCOL_ERROR, and the connection goes on.
    Rejected,
}

impl HttpSession {
    /// Waits for the next stream, and drives the connection meanwhile. `None`: the connection has ended.
    ///
    /// # Errors
    /// `H2Error` when the connection failed, `ConnectionClosed` when the client is gone. It is of no use then.
    ///
    /// # Cancel safety
    /// No stream is lost.
    pub async fn from_h2_conn(
        conn: &mut Connection<Stream, Bytes>,
        digest: Arc<Digest>,
    ) -> Result<Option<H2Accept>> {
        std::future::poll_fn(|cx| HttpSession::poll_from_h2_conn(conn, &digest, cx, &mut |_| {}))
            .await
    }

    /// [`HttpSession::from_h2_conn`] as a poll. `tell` is told of malformed requests.
    pub(crate) fn poll_from_h2_conn(
        conn: &mut Connection<Stream, Bytes>,
        digest: &Arc<Digest>,
        cx: &mut Context<'_>,
        tell: &mut dyn FnMut(&mut RefusedRequest<'_>),
    ) -> Poll<Result<Option<H2Accept>>> {
        let accepted = loop {
            let accepted = ready!(conn.poll_accept(cx));
            match (accepted, guard::close_reason()) {
                (None, _) => return Poll::Ready(Ok(None)),
                (Some(Ok(stream)), _) => break stream,
                (Some(Err(_)), Some(reason)) => {
                    debug!("an HTTP/2 client is sent away: {reason}");
                    conn.abrupt_shutdown(reason);
                }
                (Some(Err(e)), None) => {
                    return Poll::Ready(Err(stream_error("on an HTTP/2 connection", e)))
                }
            }
        };
        Poll::Ready(Ok(Some(HttpSession::accept(accepted, digest, tell))))
    }

    fn accept(
        (request, mut respond): (Request<RecvStream>, SendResponse<Bytes>),
        digest: &Arc<Digest>,
        tell: &mut dyn FnMut(&mut RefusedRequest<'_>),
    ) -> H2Accept {
        let (parts, body) = request.into_parts();
        let request = Box::new(RequestHeader::from(parts));
        match check::request(&request, body.is_end_stream()) {
            Ok(promised) => {
                let digest = digest.clone();
                H2Accept::Session(HttpSession::new(request, promised, body, respond, digest))
            }
            Err(why) => {
                debug!("a malformed HTTP/2 request: {why}");
                let e = Error::explain(InvalidHTTPHeader, why).into_down();
                let refused = RefusedRequest::of_stream(&e, &request, digest);
                let answer = refused.told(|refused| tell(refused)).into_response();
                if !answer.is_some_and(|answer| answered(&mut respond, answer, &request)) {
                    respond.send_reset(Reason::PROTOCOL_ERROR);
                }
                H2Accept::Rejected
            }
        }
    }
}

/// Answers a malformed request, which RFC 9113 section 8.1.1 allows. The stream ends with it.
fn answered(
    respond: &mut SendResponse<Bytes>,
    (mut head, body): (ResponseHeader, Bytes),
    request: &RequestHeader,
) -> bool {
    head.remove_any(Names::HOP_BY_HOP);
    let end = body.is_empty() || request.method == Method::HEAD;
    match respond.send_response(message(&head), end) {
        Ok(mut send) if !end => send.send_data(body, true).is_ok(),
        sent => sent.is_ok(),
    }
}
