//! The application traits: the service on a connection.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use h2::server::Builder as H2Options;

use crate::limits::LIMITS;
use crate::protocols::http::server::{RefusedRequest, ReusableHttpStream, Session};
use crate::protocols::http::v1::server::Inner;
use crate::protocols::Stream;
use crate::shutdown::watch::ShutdownWatch;
use crate::shutdown::Registry;

mod first_bytes;
mod h2_conn;
pub mod http_app;
mod preface;
mod serve;

/// An application that serves connections.
#[async_trait]
pub trait ServerApp {
    /// Serves a connection, or one request of it.
    ///
    /// A connection that is returned is served again by another call; none ends it. Soon after
    /// `shutdown` turned true the application returns none.
    async fn process_new(
        self: &Arc<Self>,
        session: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream>;

    /// Called once when the server shuts down, after the listeners have closed. Unless overridden
    /// it does nothing.
    async fn cleanup(&self) {}
}

/// Options of an application that serves HTTP.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct HttpServerOptions {
    /// Serve HTTP/2 to clients that begin with it on a connection without TLS ("prior knowledge", RFC 9113
    /// section 3.3). HTTP/1.x is served on the same port.
    pub h2c: bool,
    /// Let requests with the method CONNECT through; they are refused otherwise.
    pub allow_connect_method_proxying: bool,
    /// Hand every connection to [`HttpServerApp::process_custom_session`].
    pub force_custom: bool,
    /// The number of requests that may follow the first one on a connection; `None` for no limit. A client of HTTP/2 is
    /// told by GOAWAY after the last one, and what it had sent before it could know is served.
    pub keepalive_request_limit: Option<u32>,
    /// The time for which an HTTP/2 connection without streams is kept; `None` for no limit. A server that faces the Internet sets
    /// [`H2_IDLE_TIMEOUT`] or less: a client that answers PINGs keeps its connection for ever otherwise.
    pub h2_idle_timeout: Option<std::time::Duration>,
    /// After how long an HTTP/2 client is asked whether it is still there, and how long it has to answer before
    /// the connection is closed: 60 s for `None`, never for zero.
    pub h2_ping_interval: Option<std::time::Duration>,
    /// The time for which a tunnel of a proxy (an upgraded connection such as a WebSocket, or one of CONNECT) may carry
    /// no byte in either direction before it is closed; `None` for no limit.
    pub tunnel_idle_timeout: Option<std::time::Duration>,
    /// Bytes of responses that may stand between the origins and the socket of an HTTP/2 connection, over all its
    /// streams: 1 MiB for `None`, at least 1. While the client takes nothing and there are more, no stream takes further ones.
    pub h2_connection_send_buffer: Option<usize>,
    /// Let lines of a request head end in LF alone, as some old health checks send them. Off, since what two
    /// parsers may read in two ways can smuggle a request past one of them.
    pub lenient_line_ends: bool,
}

/// The time that an idle connection of HTTP/1.1 is kept, for [`HttpServerOptions::h2_idle_timeout`].
pub const H2_IDLE_TIMEOUT: std::time::Duration =
    std::time::Duration::from_secs(LIMITS.client_idle_seconds);

/// An application that serves HTTP.
#[async_trait]
pub trait HttpServerApp {
    /// Serves one request, and returns the connection when another one may follow on it.
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: Session,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream>;

    /// Returns how HTTP/2 connections are set up; `None` for the defaults.
    fn h2_options(&self) -> Option<H2Options> {
        None
    }

    /// The options of the server; `None` for the defaults.
    fn server_options(&self) -> Option<&HttpServerOptions> {
        None
    }

    /// Sees a request that is refused before it comes to [`process_new_http`](Self::process_new_http), or that this
    /// refuses as it reads it: malformed, too large, too slow. It may log it, and choose the answer. Unless overridden it
    /// does nothing.
    fn request_refused(&self, _refused: &mut RefusedRequest<'_>) {}

    /// Called once when the server shuts down, after the listeners have closed. Unless overridden it does
    /// nothing.
    async fn http_cleanup(&self) {}

    /// Returns the registry that announces the application's shutdown. HTTP/2 connections wait in it to say
    /// goodbye; without one the server's shutdown watch tells them.
    #[doc(hidden)]
    fn shutdown_registry(&self) -> Option<&Arc<Registry>> {
        None
    }

    /// Returns how long a client that has begun to send something may take for the rest of it once the server shuts
    /// down.
    fn shutdown_read_timeout(&self) -> std::time::Duration {
        LIMITS.client_shutdown_read
    }

    /// Serves a connection that speaks a protocol of the user's own. Unless overridden it closes it.
    async fn process_custom_session(
        self: Arc<Self>,
        _stream: Stream,
        _shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        None
    }
}

/// The settings that go with an HTTP/1.x connection from one request to the next.
pub struct HttpPersistentSettings {
    keepalive: Option<u64>,
    reuses_remaining: Option<u32>,
    user_context: Option<Box<dyn Any + Send + Sync>>,
    /// Boxed, as there seldom is one, and this is handed on with each request.
    prefix: Option<Box<BytesMut>>,
    /// The connection's box, while its stream is apart.
    kept: Option<Box<Inner>>,
}

impl HttpPersistentSettings {
    /// The settings of a session whose request is about to end.
    pub fn for_session(session: &Session) -> Self {
        HttpPersistentSettings {
            keepalive: session.get_keepalive(),
            reuses_remaining: session
                .get_keepalive_reuses_remaining()
                .map(|n| n.saturating_sub(1)),
            user_context: None,
            prefix: None,
            kept: None,
        }
    }

    /// Gives the settings to the session for the next request on the connection.
    pub fn apply_to_session(self, session: &mut Session) {
        if let (Some(kept), Session::H1(s)) = (self.kept, &mut *session) {
            s.move_into(kept);
        }
        session.set_keepalive(self.keepalive);
        session.set_keepalive_reuses_remaining(self.reuses_remaining);
        session.set_connection_user_context(self.user_context);
        if let Some(prefix) = self.prefix {
            session.set_pipelined_prefix(*prefix);
        }
    }

    /// Bytes of the next request that were received already.
    pub fn set_pipelined_prefix(&mut self, prefix: BytesMut) {
        self.prefix = Some(Box::new(prefix));
    }

    /// A value of the application for the next request.
    pub fn set_user_context(&mut self, ctx: Box<dyn Any + Send + Sync>) {
        self.user_context = Some(ctx);
    }

    /// Takes the value of the application.
    pub fn take_user_context(&mut self) -> Option<Box<dyn Any + Send + Sync>> {
        self.user_context.take()
    }
}

impl fmt::Debug for HttpPersistentSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPersistentSettings")
            .field("keepalive", &self.keepalive)
            .field("reuses_remaining", &self.reuses_remaining)
            .finish_non_exhaustive()
    }
}

/// A connection on which another request may follow.
#[derive(Debug)]
pub struct ReusedHttpStream {
    connection: Connection,
    settings: Option<HttpPersistentSettings>,
}

#[derive(Debug)]
enum Connection {
    /// With all that belongs to it.
    Whole(ReusableHttpStream),
    /// The transport alone.
    Bare(Stream),
}

impl ReusedHttpStream {
    /// A connection, and what goes with it to the next request.
    pub fn new(stream: Stream, persistent_settings: Option<HttpPersistentSettings>) -> Self {
        ReusedHttpStream {
            connection: Connection::Bare(stream),
            settings: persistent_settings,
        }
    }

    /// A connection as a session left it, and what goes with it to the next request.
    pub fn from_reusable_stream(
        reusable: ReusableHttpStream,
        persistent_settings: HttpPersistentSettings,
    ) -> Self {
        ReusedHttpStream {
            connection: Connection::Whole(reusable),
            settings: Some(persistent_settings),
        }
    }

    /// The transport, and what goes with it to the next request.
    pub fn consume(self) -> (Stream, Option<HttpPersistentSettings>) {
        match self.connection {
            Connection::Bare(stream) => (stream, self.settings),
            Connection::Whole(reusable) => {
                let mut inner = reusable.into_inner();
                let (stream, prefix) = inner.take_stream();
                let settings = self.settings.map(|mut settings| {
                    settings.prefix = prefix.map(Box::new).or(settings.prefix);
                    settings.kept = Some(inner);
                    settings
                });
                (stream, settings)
            }
        }
    }

    /// The session for the next request.
    fn into_session(self) -> Session {
        let mut session = match self.connection {
            Connection::Whole(reusable) => Session::H1(reusable.into_inner().into_session()),
            Connection::Bare(stream) => Session::new_http1(stream),
        };
        if let Some(settings) = self.settings {
            settings.apply_to_session(&mut session);
        }
        session
    }
}
