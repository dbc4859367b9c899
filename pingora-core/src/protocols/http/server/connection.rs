//! The connection under a session, the time limits for the client, and the end.

use std::any::Any;
use std::time::Duration;

use bytes::BytesMut;
use log::error;
use pingora_error::Error;

use super::Session;
#[cfg(doc)]
use super::SessionV1;
use crate::limits::LIMITS;
use crate::protocols::http::ConnectionSettings;
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::{Digest, Stream};
use crate::shutdown::Stage;

impl Session {
    /// Sets the time for which the connection is kept for another request; see [`SessionV1::set_server_keepalive`].
    pub fn set_keepalive(&mut self, duration: Option<u64>) {
        h1!(self, s => s.set_server_keepalive(duration), else ())
    }

    /// See [`Session::set_keepalive`].
    pub fn get_keepalive(&self) -> Option<u64> {
        h1!(self, s => s.get_keepalive_timeout(), else None)
    }

    /// Has the connection take no requests after this one. A client of HTTP/1.x is told by `Connection: close`, if its
    /// response has not begun. One of HTTP/2 is told by GOAWAY in two steps (RFC 9113 section 6.8): its other streams, and
    /// requests that it sent before it could know, are served. A subrequest or custom session has no connection to end.
    pub fn end_connection(&mut self) {
        match self {
            Session::H1(s) => s.set_server_keepalive(None),
            Session::H2(s) => s.end_connection(),
            Session::Subrequest(_) | Session::Custom(_) => {}
        }
    }

    /// Takes the settings of the endpoint that accepted the connection.
    pub(crate) fn set_connection_settings(&mut self, settings: &ConnectionSettings) {
        h1!(self, s => s.set_connection_settings(settings), else ())
    }

    /// Returns for how many seconds the connection is kept for another request, unless the application says otherwise: as
    /// its endpoint says ([`ConnectionSettings::idle`]), else 60.
    pub fn idle_seconds(&self) -> u64 {
        h1!(self, s => s.idle_seconds(), else LIMITS.client_idle_seconds)
    }

    /// Sets whether lines of request heads on this connection may end in LF alone.
    pub(crate) fn set_lenient_line_ends(&mut self, lenient: bool) {
        h1!(self, s => s.set_lenient_line_ends(lenient), else ())
    }

    /// Sets the number of requests that the connection may serve after this one.
    pub fn set_keepalive_reuses_remaining(&mut self, reuses: Option<u32>) {
        h1!(self, s => s.set_keepalive_reuses_remaining(reuses), else ())
    }

    /// See [`Session::set_keepalive_reuses_remaining`].
    pub fn get_keepalive_reuses_remaining(&self) -> Option<u32> {
        h1!(self, s => s.get_keepalive_reuses_remaining(), else None)
    }

    /// Sets the time that a head may take, and a body between two pieces.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        each!(self, s => s.set_read_timeout(timeout))
    }

    /// See [`Session::set_read_timeout`].
    pub fn get_read_timeout(&self) -> Option<Duration> {
        each!(self, s => s.get_read_timeout())
    }

    /// Sets the time for which the client may take nothing of the response.
    pub fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        each!(self, s => s.set_write_timeout(timeout))
    }

    /// See [`Session::set_write_timeout`].
    pub fn get_write_timeout(&self) -> Option<Duration> {
        each!(self, s => s.get_write_timeout())
    }

    /// Sets the time for which the rest of a request body is awaited once the response is complete.
    pub fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        each!(self, s => s.set_total_drain_timeout(timeout))
    }

    /// See [`Session::set_total_drain_timeout`].
    pub fn get_total_drain_timeout(&self) -> Option<Duration> {
        each!(self, s => s.get_total_drain_timeout())
    }

    /// The least bytes a second that the client has to take.
    pub fn set_min_send_rate(&mut self, rate: Option<usize>) {
        h1!(self, s => s.set_min_send_rate(rate), else ())
    }

    /// Sets whether 1xx responses, a 101 aside, are dropped instead of written.
    pub fn set_ignore_info_resp(&mut self, ignore: bool) {
        match self {
            Session::H1(s) => s.set_ignore_info_resp(ignore),
            Session::H2(s) => s.set_ignore_info_resp(ignore),
            Session::Subrequest(s) => s.set_ignore_info_resp(ignore),
            Session::Custom(_) => {}
        }
    }

    /// See [`SessionV1::set_abort_on_close`].
    pub fn set_abort_on_close(&mut self, abort: bool) {
        h1!(self, s => s.set_abort_on_close(abort), else ())
    }

    /// See [`SessionV1::set_close_on_response_before_downstream_finish`].
    pub fn set_close_on_response_before_downstream_finish(&mut self, close: bool) {
        h1!(self, s => s.set_close_on_response_before_downstream_finish(close), else ())
    }

    /// See [`SessionV1::set_pipelining_enabled`].
    pub fn set_pipelining_enabled(&mut self, enabled: bool) {
        h1!(self, s => s.set_pipelining_enabled(enabled), else ())
    }

    /// See [`SessionV1::set_pipelining_enabled`].
    pub fn pipelining_enabled(&self) -> bool {
        h1!(self, s => s.pipelining_enabled(), else false)
    }

    /// Puts bytes in front of what the connection delivers next.
    pub fn set_pipelined_prefix(&mut self, prefix: BytesMut) {
        h1!(self, s => s.set_pipelined_prefix(prefix), else ())
    }

    /// A value of the application that goes with the connection to its next request.
    pub fn set_connection_user_context(&mut self, ctx: Option<Box<dyn Any + Send + Sync>>) {
        h1!(self, s => s.set_connection_user_context(ctx), else ())
    }

    /// Takes the value that the previous request left.
    pub fn take_connection_user_context(&mut self) -> Option<Box<dyn Any + Send + Sync>> {
        h1!(self, s => s.take_connection_user_context(), else None)
    }

    /// Notes that the proxy has given up on the request. A client sees its connection end; the parent of a subrequest is
    /// told the error.
    pub fn on_proxy_failure(&mut self, e: Box<Error>) {
        match self {
            Session::Subrequest(s) => s.on_proxy_failure(e),
            Session::H1(_) | Session::H2(_) | Session::Custom(_) => error!("proxy failure: {e}"),
        }
    }

    /// Returns the known facts of the connection.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Session::H1(s) => Some(s.digest()),
            Session::H2(s) => s.digest(),
            Session::Subrequest(s) => s.digest(),
            Session::Custom(s) => s.digest(),
        }
    }

    /// Returns the known facts of the connection, to add to them.
    pub fn digest_mut(&mut self) -> Option<&mut Digest> {
        match self {
            Session::H1(s) => Some(s.digest_mut()),
            Session::H2(s) => s.digest_mut(),
            Session::Subrequest(s) => s.digest_mut(),
            Session::Custom(s) => s.digest_mut(),
        }
    }

    /// The client's address.
    pub fn client_addr(&self) -> Option<&SocketAddr> {
        each!(self, s => s.client_addr())
    }

    /// The address at which the client was accepted.
    pub fn server_addr(&self) -> Option<&SocketAddr> {
        each!(self, s => s.server_addr())
    }

    /// The transport, where one belongs to the session alone.
    pub fn stream(&self) -> Option<&Stream> {
        h1!(self, s => Some(s.stream()), else None)
    }

    /// Returns whether the server of this connection is shutting down.
    pub(crate) fn is_shutting_down(&self) -> bool {
        match self {
            Session::H1(s) => s.shutdown_stage() != Stage::Running,
            Session::H2(s) => s.is_shutting_down(),
            Session::Subrequest(s) => s.is_shutting_down(),
            Session::Custom(_) => false,
        }
    }

    /// Closes the connection, or gives up the subrequest, or the HTTP/2 stream unless its response is complete.
    pub async fn shutdown(&mut self) {
        match self {
            Session::H1(s) => s.shutdown().await,
            Session::H2(s) => s.shutdown(),
            Session::Subrequest(s) => s.shutdown(),
            Session::Custom(s) => s.shutdown(1, "shutdown").await,
        }
    }

    /// Gives up an HTTP/2 stream for `reason`, unless its response is complete; other sessions have no place
    /// for one, and nothing happens.
    pub fn shutdown_with_reason(&mut self, reason: h2::Reason) {
        if let Session::H2(s) = self {
            s.shutdown_with_reason(reason);
        }
    }
}
