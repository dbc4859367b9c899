//! Questions of the proxy to sessions and connectors, besides their public API and the exchange itself.

use std::future::Future;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use http::HeaderMap;
use pingora_error::{Error, Result};

use crate::protocols::http::client::HttpSession;
use crate::protocols::http::server::{RefusedRequest, ReusableHttpStream};
use crate::shutdown::Registry;
use crate::upstreams::peer::Peer;

/// A session with a client.
pub trait ServerHooks: Sized {
    /// Lets an HTTP/1.x connection's waiting for a request end with the shutdown. Gives a custom session its driver.
    fn wait_in(&mut self, registry: &Arc<Registry>, read_timeout: Duration);

    /// Exchanges the timer of this connection and that of the upstream's. Both are waited for by the same task, and
    /// the one that the client's waiting for a request has set does for the upstream, too: else each request that
    /// limits its upstream's time would register one of its own.
    fn swap_timer<S>(&mut self, upstream: &mut HttpSession<S>);

    /// Checks that a request of HTTP/1.1 says which host it is for, as whoever serves it has to: `read_request` leaves
    /// it open. HTTP/2 has it checked at the border.
    ///
    /// # Errors
    /// `InvalidHTTPHeader` for a Host that is missing, repeated or malformed.
    fn check_host(&self) -> Result<()>;

    /// Returns whether the server of this connection is shutting down.
    fn is_shutting_down(&self) -> bool;

    /// Returns whether an earlier request was served on this connection, or its connection tells it of a shutdown.
    fn is_reused(&self) -> bool;

    /// Returns whether a byte of a request that was not read yet was received.
    fn has_begun(&self) -> bool;

    /// Returns whether a byte of the next request is there; reads at most once.
    fn poll_has_request(&mut self, cx: &mut Context<'_>) -> bool;

    /// Returns whether the request is an extended CONNECT of HTTP/2 (RFC 8441).
    fn is_extended_connect(&self) -> bool;

    /// Returns whether the client has cut its request short, or can send no more of it.
    fn is_request_broken(&self) -> bool;

    /// The fields after the request body, once it is read. They stay, as another try may need them.
    fn request_trailers(&self) -> Option<&HeaderMap>;

    /// Notes why the exchange has failed, for the way in which the connection or the stream ends.
    fn note_failure(&mut self, e: &Error);

    /// Answers a request that is not served, as far as an answer is due: with the status that the reason has, 408 when
    /// it did not come in time, and not at all when the client has gone. The application is told of it first, and may
    /// choose another answer.
    fn refuse(
        &mut self,
        e: &Error,
        tell: impl FnOnce(&mut RefusedRequest<'_>),
    ) -> impl Future<Output = ()>;

    /// Finishes an HTTP/1.x session that has nothing left to read or to write, and whose connection may serve another
    /// request; others come back.
    fn finish_at_once(self) -> std::result::Result<ReusableHttpStream, Self>;

    /// Shuts down a session that ends with it.
    fn close(self) -> impl Future<Output = ()>;
}

/// A session with an upstream.
pub trait ClientHooks {
    /// Shuts down an exchange that failed with `e`. A connection of HTTP/1.x is left as it is when it can carry another
    /// exchange, for which the rest of the response is read if that is little.
    fn abandon(&mut self, e: &Error) -> impl Future<Output = ()>;

    /// Reads the rest of a response of HTTP/1.x that nobody takes, if it is little and there at once or nearly so: the
    /// connection can carry another exchange then.
    fn drain(&mut self) -> impl Future<Output = ()>;
}

/// A connector to upstreams, with the sessions that it makes for protocols of the user's own.
pub trait ConnectorHooks<S> {
    /// Takes the session that `get_http_session` finds without waiting, for a peer that takes HTTP/1.1 only.
    fn kept_http_session<P: Peer>(&self, peer: &P) -> Option<HttpSession<S>>;

    /// Gets a session for a WebSocket, as `get_http_session` does. One of HTTP/2 takes an extended CONNECT (RFC 8441);
    /// `None` when the peer is to be spoken to in HTTP/2 only, and takes none.
    ///
    /// # Errors
    /// Those of `get_http_session`.
    fn get_websocket_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> impl Future<Output = Result<Option<(HttpSession<S>, bool)>>>;

    /// Releases a session over HTTP/1.x whose connection is kept; others come back.
    fn keep_http_session<P: Peer>(
        &self,
        session: HttpSession<S>,
        peer: &P,
        idle_timeout: Option<Duration>,
    ) -> Option<HttpSession<S>>;
}
