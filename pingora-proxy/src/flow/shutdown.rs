//! Shutdown, as a connection of the proxy meets it.
//!
//! | the connection is | with the flag set, under `finish` | under `strict` |
//! |---|---|---|
//! | about to read | a byte of a request is there: served, the last one; none: closed, or kept as the next row has it | dropped |
//! | waiting, nothing read | closed at once, or after the time for which idle connections are kept: since the shutdown began, or since it waits | closed after the shutdown read timeout |
//! | in the middle of a head | may finish it within the shutdown read timeout | dropped when it is complete, or after that timeout |
//! | at the end of a head | answered with `Connection: close` | dropped |
//! | HTTP/2 | GOAWAY in two steps; streams finish, and the connection closes | the same |
//! | subrequest | finishes | the same |
//! | a custom session | served: what carries it is the application's to end | the same |

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, ALLOW};
use http::Method;
use pingora_core::connectors::http::custom;
use pingora_core::exchange::{close_idle, drain, ServerHooks, Stage};
use pingora_core::protocols::http::error_resp::gen_error_response;
use pingora_core::protocols::http::{RefusedRequest, ServerSession};
use pingora_core::server::configuration::ShutdownPolicy;
use pingora_error::ErrorType::HTTPStatus;
use pingora_error::{BError, Error};
use pingora_http::RequestHeader;

use crate::request_policy::websocket;
use crate::{HttpProxy, ProxyHttp};

impl<SV, C> HttpProxy<SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    /// Reads the head of a request. `None`: there is none, or it may not be served, and the connection is closed.
    ///
    /// The flag is loaded before and after the read: no select, no waiter, no lock.
    pub(crate) async fn handle_new_request(
        &self,
        mut session: ServerSession,
    ) -> Option<Box<ServerSession>> {
        session.wait_in(&self.registry, self.drain.read_timeout);
        if self.shutdown_flag.is_set() && !self.may_read(&mut session).await {
            return Box::pin(close(session)).await;
        }
        let served = match session.read_request().await {
            Ok(true) => session.check_host(),
            Ok(false) => return Box::pin(close(session)).await,
            Err(e) => Err(e),
        };
        if let Err(e) = served {
            return Box::pin(self.refuse(session, e)).await;
        }
        if self.shutdown_flag.is_set()
            && self.drain.policy == ShutdownPolicy::Strict
            && !is_told_otherwise(&session)
        {
            return Box::pin(close(session)).await;
        }
        if let Some(status) = self.refused_tunnel(session.req_header()) {
            let e = Error::explain(HTTPStatus(status), "a CONNECT that is not let through");
            return Box::pin(self.refuse(session, e.into_down())).await;
        }
        Some(Box::new(session))
    }

    /// Tells the client why its request is not served, as far as the application does not object, and closes the
    /// connection.
    async fn refuse(&self, mut session: ServerSession, e: BError) -> Option<Box<ServerSession>> {
        let tell = |refused: &mut RefusedRequest<'_>| {
            if refused.status() == Some(405) {
                // RFC 9110 section 15.5.6. No method at all is allowed there.
                let mut head = gen_error_response(405);
                if head
                    .insert_header(ALLOW, HeaderValue::from_static(""))
                    .is_ok()
                {
                    refused.set_response(head, Bytes::new());
                }
            }
            self.inner.request_refused(refused);
        };
        session.refuse(&e, tell).await;
        close(session).await
    }

    /// With the flag set: whether a request may still be read.
    async fn may_read(&self, session: &mut ServerSession) -> bool {
        if is_told_otherwise(session) {
            return true;
        }
        match (self.drain.policy, self.registry.stage()) {
            // One of which a part came while it waited is in the middle of a head.
            (ShutdownPolicy::Strict, _) => session.has_begun(),
            (ShutdownPolicy::Finish, Stage::Running | Stage::Draining | Stage::Expiring) => true,
            // Its client was not told, and has some time.
            (ShutdownPolicy::Finish, Stage::Closing) if !self.registry.kept_idle().is_zero() => {
                true
            }
            (ShutdownPolicy::Finish, Stage::Closing) => {
                let there = |cx: &mut std::task::Context<'_>| session.poll_has_request(cx).into();
                std::future::poll_fn(there).await
            }
        }
    }

    /// The status for a CONNECT that is not let through: 405, or for a protocol in HTTP/2 that there is no way to
    /// tell an origin of, 501.
    pub(super) fn refused_tunnel(&self, request: &RequestHeader) -> Option<u16> {
        if request.method != Method::CONNECT {
            return None;
        }
        match websocket::asked(request) {
            Some(websocket::Asked::WebSocket) => None,
            Some(websocket::Asked::Other) => Some(501),
            None => {
                let options = self.server_options.as_ref();
                let allowed = options.is_some_and(|o| o.allow_connect_method_proxying);
                (!allowed).then_some(405)
            }
        }
    }

    /// Wakes the connections that wait for a request, once the flag is set. Under `strict`, their reads then have the
    /// shutdown read timeout, and under `finish` they go on waiting until [`HttpProxy::close_idle`].
    pub(crate) fn notify_waiters(&self) {
        let (stage, keep) = match self.drain.policy {
            ShutdownPolicy::Strict => (Stage::Expiring, Some(Duration::ZERO)),
            ShutdownPolicy::Finish => (Stage::Draining, self.drain.keep_idle),
        };
        drain(&self.registry, stage, keep);
    }

    /// Wakes those that are still idle to close, after the time for which they are to be kept.
    pub(crate) fn close_idle(&self) {
        if self.drain.policy == ShutdownPolicy::Finish {
            close_idle(&self.registry);
        }
    }
}

/// Returns whether a request is finished whatever the policy: a stream of HTTP/2 is there with its request, and its
/// connection, which has been told, ends after it; a subrequest ends with the request that it belongs to.
fn is_told_otherwise(session: &ServerSession) -> bool {
    session.is_http2() || session.is_subrequest() || session.is_custom()
}

async fn close(session: ServerSession) -> Option<Box<ServerSession>> {
    session.close().await;
    None
}
