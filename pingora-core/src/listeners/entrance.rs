//! The way of a connection from its acceptance to the application.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use pingora_error::{
    Error,
    ErrorType::{ConnectionClosed, ReadTimedout, TLSHandshakeFailure, TLSHandshakeTimedout},
    OrErr, Result,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::accept::{Accepted, WorkerPool};
use super::clients::{Clients, Place};
use super::pre_tls::PreTlsCallback;
use super::proxied::{self, ProxyProtocol};
use super::tls::Acceptor;
use super::{connection_filter, ConnectionFilter};
use crate::limits::LIMITS;
use crate::protocols::http::ConnectionSettings;
use crate::protocols::l4::ext::has_unread;
use crate::protocols::l4::stream::L4BufferSettings;
use crate::protocols::l4::stream::Stream as L4Stream;
use crate::protocols::{Stream, UniqueID};
use crate::shutdown::first_bytes::{self, TimeLimit, TooLate};
use crate::shutdown::{close_idle, drain, Registry, Stage};

/// The way from an endpoint to the application.
pub(crate) struct Entrance {
    pub(super) filter: Option<Arc<dyn ConnectionFilter>>,
    pub(super) proxied: Option<ProxyProtocol>,
    /// How many connections each client may have, and those that it has.
    pub(super) clients: Option<(usize, Arc<Clients>)>,
    pub(super) pool: Arc<WorkerPool>,
    pub(super) pre_tls: Option<PreTlsCallback>,
    pub(super) tls: Option<Acceptor>,
    pub(super) handshake_timeout: Duration,
    /// For what clients have begun when the entrance closes.
    pub(super) shutdown_timeout: Duration,
    /// For those of which nothing has come by then.
    pub(super) keep_idle: Option<Duration>,
    pub(super) closing: Arc<Registry>,
    pub(super) l4_buffer: L4BufferSettings,
    pub(super) http: Option<Arc<ConnectionSettings>>,
}

impl Entrance {
    /// Sends away those that have not begun to say something, once idle connections are, and has the others hurry from then
    /// on.
    pub(crate) fn close(&self) {
        drain(&self.closing, Stage::Draining, self.keep_idle);
        close_idle(&self.closing);
    }

    /// Makes an accepted connection a stream of the calling task's reactor, with TLS where the endpoint has
    /// it; none when it is not to be served. `place` is to be kept for as long as the connection. The future is large, and
    /// over soon: who lives on after it boxes it.
    pub(crate) async fn pass_with(
        &self,
        accepted: Accepted,
        place: &mut Option<Box<Place>>,
    ) -> Option<Stream> {
        if let Some(filter) = &self.filter {
            if !connection_filter::admits(&**filter, accepted.peer.as_ref()).await {
                log::debug!("connection from {:?} turned away", accepted.peer);
                return None;
            }
        }
        let peer = accepted.peer;
        let mut stream = self.register(accepted)?;
        if let Some(proxied) = &self.proxied {
            if proxied.trusts(peer.as_ref()) && !self.header(proxied, peer, &mut stream).await {
                return None;
            }
        }
        if !self.is_within_limit(&stream, place) {
            return None;
        }
        if let Some(pre_tls) = &self.pre_tls {
            let socket = stream.id();
            // What it has read is its own affair: it gets the time of those that have begun.
            let begun = AtomicBool::new(true);
            let process = pre_tls.process(&mut stream);
            let limit = self.handshake_timeout;
            if let Err(e) = self.in_time(limit, socket, &begun, process).await {
                log::warn!("connection closed before it was served: {e}");
                return None;
            }
        }
        match &self.tls {
            None => Some(stream),
            Some(acceptor) => self.handshake(acceptor, *stream).await,
        }
    }

    /// [`Entrance::pass_with`], for a connection whose place among those of its client nobody looks at.
    #[cfg(test)]
    pub(crate) async fn pass(&self, accepted: Accepted) -> Option<Stream> {
        self.pass_with(accepted, &mut None).await
    }

    /// Takes a place among the connections of the client; false when it has as many as it may have.
    fn is_within_limit(&self, stream: &L4Stream, place: &mut Option<Box<Place>>) -> bool {
        let Some((most, clients)) = &self.clients else {
            return true;
        };
        let Some(client) = stream.known_peer() else {
            return true;
        };
        *place = clients.place(client.ip(), *most);
        if place.is_none() {
            self.pool.client_refused();
            log::debug!("connection from {client} closed: the client has {most}");
        }
        place.is_some()
    }

    /// Returns whether all that connections need is to be registered.
    pub(crate) fn is_plain(&self) -> bool {
        self.filter.is_none()
            && self.proxied.is_none()
            && self.clients.is_none()
            && self.pre_tls.is_none()
            && self.tls.is_none()
    }

    /// The first step of [`Entrance::pass`]: makes the connection one of the calling task's reactor.
    pub(crate) fn register(&self, accepted: Accepted) -> Option<Box<L4Stream>> {
        match accepted.into_stream() {
            Ok(mut stream) => {
                stream.set_buffer_settings(self.l4_buffer);
                if let Some(http) = &self.http {
                    stream.set_http(http.clone());
                }
                Some(Box::new(stream))
            }
            Err(e) => {
                log::error!("cannot serve an accepted connection: {e}");
                None
            }
        }
    }

    /// Reads the PROXY protocol header of a connection; false when it is to be closed.
    async fn header(
        &self,
        proxied: &ProxyProtocol,
        peer: Option<SocketAddr>,
        stream: &mut L4Stream,
    ) -> bool {
        let socket = stream.id();
        let begun = AtomicBool::new(false);
        let header = proxied::read_header(stream, &begun);
        let Err(e) = self.in_time(proxied.timeout, socket, &begun, header).await else {
            return true;
        };
        let from = peer.map_or("a Unix socket".to_owned(), |peer| peer.to_string());
        if begun.load(Ordering::Relaxed) {
            log::info!("connection from {from} closed: {e}");
        } else {
            // A load balancer that looks whether somebody listens.
            log::debug!("connection from {from} closed: {e}");
        }
        false
    }

    async fn handshake(&self, acceptor: &Acceptor, mut stream: L4Stream) -> Option<Stream> {
        let peer = stream.known_peer().copied();
        let socket = stream.id();
        let begun = AtomicBool::new(false);
        let handshake = async {
            if let First::Http = hello(&mut stream, &begun).await? {
                // Boxed: it is rare, and its state would be a part of every handshake's.
                Box::pin(refuse_plain_http(stream)).await;
                return Error::e_explain(TLSHandshakeFailure, "the client sent plain HTTP");
            }
            // Boxed: a client that has said nothing holds none of its state.
            Box::pin(acceptor.tls_handshake(stream)).await
        };
        let limit = self.handshake_timeout;
        let failure = match self.in_time(limit, socket, &begun, handshake).await {
            Ok(tls) => return Some(Box::new(tls)),
            Err(e) => e.into_down(),
        };
        acceptor.handshake_failed(peer, &failure);
        match peer {
            Some(peer) => log::info!("TLS handshake with client {peer}: {failure}"),
            None => log::info!("TLS handshake with a client: {failure}"),
        }
        None
    }

    /// Runs a step that waits for the client of `socket`, for no longer than `limit`. `begun` says that it has read
    /// something.
    async fn in_time<T>(
        &self,
        limit: Duration,
        socket: i32,
        begun: &AtomicBool,
        step: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let limit = TimeLimit {
            whole: limit,
            at_shutdown: self.shutdown_timeout,
        };
        let begun = || begun.load(Ordering::Relaxed) || has_unread(socket);
        let treatment = first_bytes::treatment(&self.closing);
        first_bytes::in_time(limit, treatment, begun, step)
            .await
            .unwrap_or_else(|late| {
                let etype = match (late, &self.tls) {
                    (TooLate::Silent, _) => ConnectionClosed,
                    (TooLate::Incomplete(_), Some(_)) => TLSHandshakeTimedout,
                    (TooLate::Incomplete(_), None) => ReadTimedout,
                };
                Error::e_explain(etype, late.to_string())
            })
    }
}

/// The beginning of what a client of TLS says.
enum First {
    /// A record, or nothing that is known.
    Record,
    /// The method of an HTTP request.
    Http,
}

/// Waits until the first record of a handshake is there: until then there is no TLS session, so that those who
/// only begin a handshake cost little more than their socket.
async fn hello(stream: &mut L4Stream, begun: &AtomicBool) -> Result<First> {
    const HANDSHAKE: u8 = 22;
    const HEADER: usize = 5;
    let failed = "the client did not send its first message";
    let first = stream.wait_for(1).await;
    first.or_err(TLSHandshakeFailure, failed)?;
    begun.store(true, Ordering::Relaxed);
    let header = stream.wait_for(HEADER).await;
    let header = header.or_err(TLSHandshakeFailure, failed)?;
    if header[0] == HANDSHAKE {
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        // One that is too long is for the library to refuse.
        let record = stream.wait_for(HEADER + length.min(MAX_RECORD)).await;
        record.or_err(TLSHandshakeFailure, failed)?;
    } else if header[..3].iter().all(u8::is_ascii_uppercase) {
        // No record and no message of an older version begins so.
        return Ok(First::Http);
    }
    Ok(First::Record)
}

/// Answers a client that spoke plain HTTP to a TLS port, in words that it understands.
async fn refuse_plain_http(mut stream: L4Stream) {
    const ANSWER: &str = "HTTP/1.1 400 Bad Request\r\n\
        Content-Type: text/plain\r\n\
        Content-Length: 35\r\n\
        Connection: close\r\n\r\n\
        plain HTTP was sent to a TLS port\r\n";
    let answer = async {
        stream.write_all(ANSWER.as_bytes()).await?;
        stream.shutdown().await?;
        // What the client has sent is read, or else the system would take the answer back by a reset.
        let mut rest = stream.take(LIMITS.client_refused_bytes);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    match tokio::time::timeout(LIMITS.client_refused, answer).await {
        Ok(Ok(_)) | Err(_) => {}
        Ok(Err(e)) => log::debug!("refusing plain HTTP at a TLS port: {e}"),
    }
}

/// The longest content of a record that is not encrypted (RFC 8446 section 5.1).
const MAX_RECORD: usize = 16 * 1024;
