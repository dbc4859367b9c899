//! Processing of each message by the policy, the modules and the application. No I/O, and no upstream: whatever
//! answers a request passes the same.

pub(crate) mod cache_write;
mod cached;
mod feed;
mod hit;
mod messages;
mod request;
mod response;

use std::future::Future;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use pingora_core::connectors::http::custom;
use pingora_core::exchange::ServerHooks;
use pingora_core::limits::LIMITS;
use pingora_core::protocols::http::HttpTask;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, Result};
use pingora_http::RequestHeader;

use crate::duplex::{Fate, Pipeline, Source};
use crate::request_policy::websocket;
use crate::{HttpProxy, ProxyHttp, Session};
use feed::Feed;

pub(crate) use hit::HitPhases;
pub(crate) use messages::Hops;
use messages::Passing;

/// One of the tries to have a request answered.
pub(crate) struct Try<'a> {
    pub(crate) peer: &'a HttpPeer,
    /// True if its connection was used before.
    pub(crate) reused: bool,
    /// True if there may be another one.
    pub(crate) more: bool,
}

/// The phases of an application for one try.
pub(crate) struct Phases<'a, SV: ProxyHttp, C: custom::Connector> {
    proxy: &'a HttpProxy<SV, C>,
    session: &'a mut Session,
    ctx: &'a mut SV::CTX,
    attempt: &'a Try<'a>,
    /// State that few exchanges have.
    rare: Option<Box<Rare>>,
}

#[derive(Default)]
struct Rare {
    /// The Sec-WebSocket-Accept expected of the upstream, for a handshake that the client did not make itself.
    accept: Option<HeaderValue>,
    /// Custom messages, where a side has any.
    messages: Option<Passing>,
    /// The client's view of a response that is being stored.
    feed: Option<Feed>,
}

impl<'a, SV, C> Phases<'a, SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    /// The phases of a try that sends `request`.
    pub(crate) fn new(
        proxy: &'a HttpProxy<SV, C>,
        session: &'a mut Session,
        ctx: &'a mut SV::CTX,
        attempt: &'a Try<'a>,
        request: &RequestHeader,
    ) -> Self {
        let mut rare = None;
        if session.is_extended_connect() {
            let accept = websocket::accept(request);
            rare = Some(Box::new(Rare {
                accept,
                ..Rare::default()
            }));
        }
        Phases {
            proxy,
            session,
            ctx,
            attempt,
            rare,
        }
    }
}

impl<SV, C> Pipeline for Phases<'_, SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    type Downstream = Session;

    #[inline]
    fn downstream(&self) -> &Session {
        self.session
    }

    #[inline]
    fn downstream_mut(&mut self) -> &mut Session {
        self.session
    }

    #[inline]
    fn asks_for_tunnel(&self) -> bool {
        self.session.req_header().method == Method::CONNECT
    }

    #[inline]
    fn tunnel_idle_timeout(&self, client_ended: bool) -> Option<Duration> {
        // A tunnel has this time in place of that of a request.
        if let Some(due) = &self.session.upstream_due {
            due.lift();
        }
        let options = self.proxy.server_options.as_ref();
        let told = options.and_then(|options| options.tunnel_idle_timeout);
        let limited = self.attempt.peer.options.read_timeout.is_some();
        match (client_ended, told) {
            // A client that has gone looks like one that still reads.
            (true, None) if !limited => Some(LIMITS.client_half_closed),
            _ => told,
        }
    }

    #[inline(always)]
    fn kept_request(&mut self) -> Option<(Option<Bytes>, bool)> {
        self.kept()
    }

    #[inline]
    fn request<'b>(
        &'b mut self,
        body: &'b mut Option<Bytes>,
        end: bool,
    ) -> impl Future<Output = Result<()>> + Send {
        self.filter_request(body, end)
    }

    #[inline]
    fn request_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers()
    }

    #[inline]
    fn response_now(&mut self, task: &mut HttpTask) -> Option<Result<Fate>> {
        self.filter_piece(task)
    }

    #[inline]
    fn response<'b>(
        &'b mut self,
        task: &'b mut HttpTask,
    ) -> impl Future<Output = Result<Fate>> + Send {
        self.filter_response(task)
    }

    #[inline]
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.next_message(cx)
    }

    #[inline]
    fn message(&mut self) -> impl Future<Output = Result<()>> + Send {
        self.filter_message()
    }

    #[inline]
    fn poll_messages_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.messages_sent(cx)
    }

    #[inline]
    fn has_more(&self) -> bool {
        self.session.upstream_compression.is_pending() || self.session.upstream_modules_pending()
    }

    #[inline]
    fn emits(&mut self) -> bool {
        !self.session.downstream_modules_ctx.is_dormant()
    }

    #[inline]
    fn emit<'b>(&'b mut self, task: &'b mut HttpTask) -> impl Future<Output = Result<()>> + Send {
        self.session.filter_step(task)
    }

    #[inline]
    fn emits_more(&self) -> bool {
        self.session.downstream_modules_ctx.is_pending()
    }

    #[inline]
    fn takes(&self) -> bool {
        let feed = self.rare.as_ref().and_then(|rare| rare.feed.as_ref());
        feed.is_none_or(Feed::has_room)
    }

    #[inline]
    fn source(&mut self) -> Option<&mut dyn Source> {
        let feed = self.rare.as_mut()?.feed.as_mut()?;
        Some(feed)
    }

    #[inline]
    fn stored<'b>(
        &'b mut self,
        task: &'b mut HttpTask,
    ) -> impl Future<Output = Result<Fate>> + Send {
        self.fed(task)
    }

    #[inline]
    fn goes_on_without_client(&mut self, e: &Error) -> bool {
        self.stores_on(e)
    }
}
