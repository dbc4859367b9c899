//! Going upstream: one try after the other until one succeeds, or none may follow.

use std::future::Future;
use std::sync::Arc;

use log::{debug, warn};
use pingora_core::connectors::http::custom;
use pingora_core::exchange::{ClientHooks, ConnectorHooks, ServerHooks, Upstream};
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::upstreams::peer::{H1UpgradePolicy, HttpPeer, Peer, ALPN};
use pingora_error::ErrorType::{H2Downgrade, HTTPStatus, InternalError, InvalidH2};
use pingora_error::{BError, Error, Result};
use pingora_http::internal::{MessageHead, RequestHead};
use pingora_http::RequestHeader;

use http::header::{HeaderValue, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{Method, Version};

use super::custom_sides::end_sides;
use super::due::{self, Due};
use crate::duplex::{Duplex, Outcome};
use crate::pipeline::{cache_write, Phases, Try};
use crate::request_policy::{self, websocket};
use crate::upstream::H2Upstream;
use crate::{HttpProxy, ProxyHttp, ProxyWarnLogContext, Session};

impl<SV, C> HttpProxy<SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    /// Has an upstream answer the request: at most `max_retries` tries, and at least one.
    ///
    /// # Errors
    /// That of the last try.
    ///
    /// Written as a block, like [`exchange`](Self::exchange).
    #[allow(clippy::manual_async_fn, reason = "it is smaller")]
    pub(crate) fn proxy_upstream<'a>(
        &'a self,
        session: &'a mut Session,
        ctx: &'a mut SV::CTX,
    ) -> impl Future<Output = Result<()>> + Send + 'a {
        async move {
            // A body that was read ahead is kept already.
            if session.buffered_request_body().is_none() {
                session.enable_retry_buffering();
            }
            // A request that nobody answers would help no one: 0 allows no retry, but the first try.
            let mut left = self.max_retries.max(1);
            let due = session.upstream_time_limit.and_then(Due::within);
            session.upstream_due = due.map(Arc::new);
            loop {
                left -= 1;
                let Err(e) = self.attempt(session, ctx, left > 0).await else {
                    return Ok(());
                };
                if std::mem::take(&mut session.try_spared) {
                    left += 1;
                }
                // What the client has seen cannot be taken back.
                let answered = session.response_written().is_some();
                // Of a body that is longer than what is kept, the beginning is gone; of one that the client has cut short,
                // the end.
                let whole = !session.retry_buffer_truncated() && !session.is_request_broken();
                let late = session.is_upstream_time_over();
                if !e.retry() || left == 0 || answered || !whole || late {
                    return Err(e);
                }
                let context = ProxyWarnLogContext::UpstreamRetry;
                if !self
                    .inner
                    .suppress_proxy_warn_log(session, ctx, &e, context)
                {
                    let summary = self.inner.request_summary(session, ctx);
                    warn!("retrying: {e}, {left} tries left, {summary}");
                }
            }
        }
    }

    /// One try; there may be `more` of them.
    ///
    /// Written as a block, like [`exchange`](Self::exchange).
    #[allow(clippy::manual_async_fn, reason = "it is smaller")]
    fn attempt<'a>(
        &'a self,
        session: &'a mut Session,
        ctx: &'a mut SV::CTX,
        more: bool,
    ) -> impl Future<Output = Result<()>> + Send + 'a {
        async move {
            let timeless = session.upstream_due.is_none();
            let mut peer = match timeless {
                true => self.inner.upstream_peer(session, ctx).await?,
                false => Box::pin(self.upstream_peer_in_time(session, ctx)).await?,
            };
            let extended = !request_policy::is_plain(session.req_header())
                && check_before_connecting(session, &mut peer)?;
            let (mut upstream, reused) = match self.connector.kept_http_session(&*peer) {
                Some(kept) => (kept, true),
                None => match self.connect_in_time(session, &peer, extended).await {
                    Ok(connected) => connected,
                    Err(e) => {
                        return Err(self.inner.fail_to_connect(session, &peer, ctx, e.into_up()))
                    }
                },
            };
            let attempt = Try {
                peer: &peer,
                reused,
                more,
            };
            if let HttpSession::Custom(custom) = upstream {
                let done = Box::pin(self.custom_attempt(session, ctx, custom, &attempt)).await;
                return self.tried(session, ctx, &attempt, done);
            }
            let options = &peer.options;
            let timed = options.read_timeout.is_some() || options.response_header_timeout.is_some();
            if timed {
                session.downstream_session.swap_timer(&mut upstream);
            }
            let mut done = match &mut upstream {
                HttpSession::H1(h1) => {
                    let done = match timeless {
                        true => self.exchange(session, ctx, h1, &attempt).await,
                        false => Box::pin(self.exchange_in_time(session, ctx, h1, &attempt)).await,
                    };
                    session.note_sent(h1);
                    done
                }
                // Boxed: a request to HTTP/1.1 shall not be larger for it.
                HttpSession::H2(h2) => {
                    let mut h2 = H2Upstream::new(h2, extended);
                    let exchange = self.exchange_in_time(session, ctx, &mut h2, &attempt);
                    let done = Box::pin(exchange).await;
                    session.note_sent(&h2);
                    done
                }
                HttpSession::Custom(_) => {
                    Error::e_explain(InternalError, "a custom session has its exchange elsewhere")
                }
            };
            if timed {
                session.downstream_session.swap_timer(&mut upstream);
            }
            if session.is_custom() {
                Box::pin(end_sides(session, &mut done)).await;
            }
            if let Err(e) = &done {
                if !is_answered_by_stored(session) {
                    session.note_failure(e);
                }
                cache_write::abandon_try(&mut session.cache, e);
                Box::pin(upstream.abandon(e)).await;
            } else if is_client_served(session) {
                // The rest of a response may cost less than a new connection.
                Box::pin(upstream.drain()).await;
            }
            let (connector, idle) = (&self.connector, peer.idle_timeout());
            if let Some(upstream) = connector.keep_http_session(upstream, &*peer, idle) {
                connector.release_http_session(upstream, &*peer, idle).await;
            }
            self.tried(session, ctx, &attempt, done)
        }
    }

    /// The end of a try on an established connection.
    fn tried(
        &self,
        session: &mut Session,
        ctx: &mut SV::CTX,
        attempt: &Try<'_>,
        done: Result<Outcome>,
    ) -> Result<()> {
        let e = match done {
            Ok(Outcome::Complete) => return Ok(()),
            // The rest of the upstream's response was of no use.
            Err(_) if is_answered_by_stored(session) => return Ok(()),
            // All of the response is stored: it was read on for nothing else.
            Ok(Outcome::ClientGone(e)) => {
                debug!("stored without its client: {e}");
                return Ok(());
            }
            Err(e) => e,
        };
        if std::mem::take(&mut session.retry_decided) {
            return Err(e);
        }
        let (peer, reused) = (attempt.peer, attempt.reused);
        let e = self.other_version(peer, e);
        let mut e = self.inner.error_while_proxy(peer, session, e, ctx, reused);
        // An application may leave it open, and an open question may not be asked.
        e.retry.decide_reuse(reused);
        Err(e)
    }

    /// The peer that the application chooses, within the time of the request.
    async fn upstream_peer_in_time(
        &self,
        session: &mut Session,
        ctx: &mut SV::CTX,
    ) -> Result<Box<HttpPeer>> {
        let due = session.upstream_due.clone();
        due::in_time(due.as_deref(), self.inner.upstream_peer(session, ctx)).await
    }

    /// [`connect`](Self::connect), within the time of the request.
    async fn connect_in_time(
        &self,
        session: &Session,
        peer: &HttpPeer,
        extended: bool,
    ) -> Result<(HttpSession<C::Session>, bool)> {
        match session.upstream_due.as_deref() {
            None => self.connect(peer, extended).await,
            due => Box::pin(due::in_time(due, self.connect(peer, extended))).await,
        }
    }

    /// A session, for an `extended` CONNECT if so, and whether its connection was used before.
    async fn connect(
        &self,
        peer: &HttpPeer,
        extended: bool,
    ) -> Result<(HttpSession<C::Session>, bool)> {
        if !extended {
            return self.connector.get_http_session(peer).await;
        }
        let connected = Box::pin(self.connector.get_websocket_session(peer)).await?;
        connected.ok_or_else(|| no_tunnel(peer))
    }

    /// [`exchange`](Self::exchange), within the time of the request.
    pub(super) async fn exchange_in_time<L: Upstream>(
        &self,
        session: &mut Session,
        ctx: &mut SV::CTX,
        upstream: &mut L,
        attempt: &Try<'_>,
    ) -> Result<Outcome> {
        let due = session.upstream_due.clone();
        let exchange = self.exchange(session, ctx, upstream, attempt);
        due::in_time(due.as_deref(), exchange).await
    }

    /// Written as a block, which keeps its arguments once: a function keeps them a second time while it waits.
    #[allow(clippy::manual_async_fn, reason = "it is smaller")]
    pub(super) fn exchange<'a, L: Upstream>(
        &'a self,
        session: &'a mut Session,
        ctx: &'a mut SV::CTX,
        upstream: &'a mut L,
        attempt: &'a Try<'a>,
    ) -> impl Future<Output = Result<Outcome>> + Send + 'a {
        async move {
            session.upstream.body_received = 0;
            let (fd, digest) = (upstream.id(), upstream.digest());
            self.inner
                .connected_to_upstream(session, attempt.reused, attempt.peer, fd, digest, ctx)
                .await?;
            let mut request = prepare(session, attempt.peer, upstream.version())?;
            if session.cache.enabled() || session.cache_write.is_some() {
                cache_write::begin_try(session, &mut request);
            }
            self.inner
                .upstream_request_filter(session, &mut request, ctx)
                .await?;
            complete(session, &mut request)?;
            session.upstream_compression.request_filter(&request);
            if upstream.is_custom() || session.is_custom() {
                // A session of the user's own reads the map.
                request.settle_lines()?;
                let exchange = self.custom_exchange(session, ctx, upstream, attempt, request);
                return Box::pin(exchange).await;
            }
            let phases = Phases::new(self, session, ctx, attempt, &request);
            let mut duplex = Duplex::new(phases, upstream);
            duplex.ask(request)?;
            duplex.run().await
        }
    }

    /// An upstream that does not speak HTTP/2 after all is spoken to in HTTP/1.1 from now on, if it may be. Else there is no
    /// other try, unless the application knows of another upstream.
    fn other_version(&self, peer: &HttpPeer, mut e: BError) -> BError {
        if matches!(e.etype, H2Downgrade | InvalidH2) {
            match peer.get_alpn() {
                Some(alpn) if alpn.get_min_http_version() == 2 => e.set_retry(false),
                _ => self.connector.prefer_h1(peer),
            }
        }
        e
    }
}

/// Refuses what no upstream will be sent, before a connection is made or taken for it. Tells whether the one that is
/// needed has to take extended CONNECTs.
fn check_before_connecting(session: &Session, peer: &mut HttpPeer) -> Result<bool> {
    let tunnel = session.is_upgrade_req() || session.req_header().method == Method::CONNECT;
    let extended = tunnel && leave_h2(session, peer)?;
    // Whatever the version will be, and the application change: the refusals do not depend on it.
    prepare(session, peer, Version::HTTP_11)?;
    Ok(extended)
}

/// The copy of the request for the upstream: the one copy that is made of a head.
fn prepare(session: &Session, peer: &HttpPeer, version: Version) -> Result<Box<RequestHeader>> {
    let received = session.req_header();
    let mut request = Box::new(received.clone());
    let policy = &peer.options.http_upstream_request_policy;
    let websocket = session.is_extended_connect();
    // The body that the client would have waited to send is here.
    if session.buffered_request_body().is_some() {
        request.remove_header(&EXPECT);
    }
    // A handshake of WebSockets keeps the form that it has in HTTP/1.1 until it is sent.
    let handshake = session.is_upgrade_req() && request_policy::is_websocket_handshake(received);
    request.set_version(match handshake {
        true => Version::HTTP_11,
        false => version,
    });
    if websocket {
        websocket::begin(&mut request);
    }
    request_policy::apply(&mut request, policy, received.version).map_err(downstream)?;
    request_policy::count_hop(&mut request).map_err(downstream)?;
    request.set_version(version);
    if session.is_custom() {
        request_policy::name_host(&mut request)?;
        return Ok(request);
    }
    if received.version == Version::HTTP_2 {
        request_policy::from_h2(&mut request).map_err(downstream)?;
    }
    request_policy::origin_form(&mut request).map_err(downstream)?;
    if websocket {
        websocket::complete(&mut request, policy.h1_upgrade).map_err(downstream)?;
    }
    Ok(request)
}

/// A request to leave HTTP/1.1 goes to an upstream that takes HTTP/1.1, as HTTP/2 has no Upgrade; of one that takes
/// HTTP/2 only a WebSocket can be asked for all the same, by the extended CONNECT that this says is needed.
///
/// # Errors
/// `HTTPStatus` 501 when the peer's policy lets no WebSocket through to such an upstream: to be asked for a page in its
/// place would help nobody. Other upgrades are offers that may be passed over (RFC 9110 section 7.8).
fn leave_h2(session: &Session, peer: &mut HttpPeer) -> Result<bool> {
    match peer.options.alpn {
        ALPN::H2H1 => {
            let policy = peer.options.http_upstream_request_policy.h1_upgrade;
            if session.as_http1().is_none()
                || request_policy::leaves_http(session.req_header(), policy)
            {
                peer.options.alpn = ALPN::H1;
            }
        }
        ALPN::H2
            if session.is_extended_connect()
                || request_policy::is_websocket_handshake(session.req_header()) =>
        {
            let policy = &peer.options.http_upstream_request_policy;
            return match policy.h1_upgrade {
                H1UpgradePolicy::Deny => Err(no_tunnel(peer)),
                _ => Ok(true),
            };
        }
        _ => {}
    }
    Ok(false)
}

fn no_tunnel(peer: &HttpPeer) -> BError {
    Error::explain(
        HTTPStatus(501),
        format!("a WebSocket to a peer that takes HTTP/2 only, and none there: {peer}"),
    )
}

/// Makes the application's copy of the request fit the upstream's version.
fn complete(session: &mut Session, request: &mut RequestHeader) -> Result<()> {
    let as_received = request.is_same_as(session.req_header());
    if session.is_custom() {
        request_policy::name_host(request)?;
    } else if as_received && !request.index().has_valid_host() {
        request_policy::reconcile_host(request).map_err(downstream)?;
    } else if !as_received {
        // What does not fit together now is of the application.
        request_policy::reconcile_host(request).map_err(|e| e.into_in())?;
    }
    if request.version == Version::HTTP_2 {
        return request_policy::check_for_h2(request).map_err(downstream);
    }
    // Trailers that an earlier try has read have no place but after chunks.
    let empty = session.is_body_empty() && session.request_trailers().is_none();
    let is_http1 = session.as_http1().is_some();
    let tunnel = session.is_upgrade_req() && (!is_http1 || request.method == Method::CONNECT);
    if tunnel || (empty && is_http1) {
        return Ok(());
    }
    let framed = request.headers.contains_key(CONTENT_LENGTH)
        || request.headers.contains_key(TRANSFER_ENCODING);
    if !framed && empty {
        request_policy::say_empty(request)?;
    } else if !framed {
        let chunked = HeaderValue::from_static("chunked");
        request.insert_header(TRANSFER_ENCODING, chunked)?;
    }
    Ok(())
}

fn downstream(e: BError) -> BError {
    e.into_down()
}

/// Returns whether the client got less than the upstream was asked for.
fn is_client_served(session: &Session) -> bool {
    let write = session.cache_write.as_ref();
    write.is_some_and(|write| write.is_client_served())
}

/// Returns whether the stored response answers in place of the one that the try was to bring.
fn is_answered_by_stored(session: &Session) -> bool {
    let write = session.cache_write.as_ref();
    write.is_some_and(|write| write.is_answered_by_stored())
}
