//! The application: a plan's actions in the phases of a request.

mod answer;
mod cached;
mod challenge;
mod client_auth;
mod compress;
mod context;
mod counting;
mod decide;
mod exchange;
mod facts;
mod forward_auth;
mod forwarded;
mod gate;
mod headers;
mod mirror;
mod observed;
mod pages;
mod queue;
mod retry;
mod serve;

use std::future::Future;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode};
use pingora_cache::key::HashBinary;
use pingora_cache::storage::HitHandler;
use pingora_cache::{CacheKey, CacheMeta, ForcedFreshness, NoCacheReason, RespCacheable};
use pingora_core::connectors::http::Connector;
use pingora_core::connectors::lacks_connect_permit;
use pingora_core::protocols::http::RefusedRequest;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::ready::ready;
use pingora_core::ErrorType::{HTTPStatus, InternalError};
use pingora_core::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::caching;
use crate::cluster::{HashBy, Pick, Tried};
use crate::live::Live;
use crate::observe::{self, Limit};
use crate::plan::Values;
use answer::Answer;
pub use context::Ctx;
use counting::Counting;
use observed::{log_refused, Observed};

/// Does with each request what the generation that runs says.
pub struct Edge {
    live: Arc<Live>,
    /// Connects to the servers of requests of its own. It is made for the first of them.
    connector: Arc<OnceLock<Connector>>,
}

impl Edge {
    /// Serves what `live` holds.
    pub fn new(live: Arc<Live>) -> Self {
        Self {
            live,
            connector: Arc::default(),
        }
    }

    /// Counts the head of a server's response, and tells whether it is turned down in favour of another try.
    #[inline]
    fn answered(&self, session: &Session, ctx: &mut Ctx, status: StatusCode) -> bool {
        self.live
            .with_cluster(&ctx.running, ctx.cluster, |local, hands| {
                let cluster = &ctx.running.clusters[ctx.cluster];
                local.answered(cluster, &ctx.tried, status, hands.slots);
            });
        ctx.counting.answered(status.as_u16());
        self.turns_down(session, ctx, status.as_u16())
    }
}

/// Makes a future of what is done, which takes no memory when that is well.
fn done<'a>(result: Result<()>) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>> {
    match result {
        Ok(()) => ready(|| Ok(())),
        Err(e) => Box::pin(async move { Err(e) }),
    }
}

// Those that cost a request most are written as the macro would write them, but for futures that take no memory.
#[async_trait]
impl ProxyHttp for Edge {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx {
            running: self.live.lease(),
            cluster: 0,
            at: (0, 0),
            hash_by: HashBy::default(),
            response: Values::default(),
            secure: false,
            passed: None,
            tried: Tried::default(),
            turned_down: false,
            turn: None,
            found_no_room: false,
            counting: Counting::begin(),
            cached: None,
            change: None,
            accepted: None,
            observed: Observed::default(),
            page_values: Vec::new(),
            copied: None,
            instead: None,
        }
    }

    fn request_filter<'life0, 'life1, 'life2, 'async_trait>(
        &'life0 self,
        session: &'life1 mut Session,
        ctx: &'life2 mut Ctx,
    ) -> Pin<Box<dyn Future<Output = Result<bool>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        Self: Sync + 'async_trait,
    {
        session.set_pipelining_enabled(true);
        if self.live.is_draining() {
            session.end_connection();
        }
        if session.subrequest_ctx.is_some() && cached::resume(session, ctx) {
            return ready(|| Ok(false));
        }
        if ctx.running.plan.acme.is_some() {
            if let Some(token) = challenge::token(session.req_header()) {
                return Box::pin(self.prove(session, ctx, token));
            }
        }
        self.serve(session, ctx)
    }

    fn request_refused(&self, refused: &mut RefusedRequest<'_>) {
        observe::worker(|m| m.refused.add(1));
        log_refused(&self.live.lease(), refused);
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        if let Some(copied) = &mut ctx.copied {
            copied.restart();
        }
        if let Some(passed) = &mut ctx.passed {
            passed.restart_body();
        }
        let turn = ctx.turn.is_some();
        let mut peer = match self.pick(ctx, turn) {
            Ok(Pick::Peer(peer)) if !turn => peer,
            picked => Box::pin(self.go_in_turn(session, ctx, picked)).await?,
        };
        let cluster = &ctx.running.clusters[ctx.cluster];
        if let Some(greeting) = cluster.greeting() {
            facts::greeting(greeting, session, ctx.observed.client()).open(&mut peer);
        }
        Ok(peer)
    }

    fn connected_to_upstream<'life0, 'life1, 'life2, 'life3, 'life4, 'async_trait>(
        &'life0 self,
        _: &'life1 mut Session,
        _: bool,
        _: &'life2 HttpPeer,
        _: RawFd,
        _: Option<&'life3 Digest>,
        ctx: &'life4 mut Ctx,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        'life4: 'async_trait,
        Self: Sync + 'async_trait,
    {
        ctx.end_turn();
        ready(|| Ok(()))
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _: &HttpPeer,
        ctx: &mut Ctx,
        e: Box<Error>,
    ) -> Box<Error> {
        if lacks_connect_permit(&e) {
            return self.got_no_connection(session, ctx, e);
        }
        ctx.end_turn();
        if ctx.is_out_of_time(session) {
            return e;
        }
        ctx.counting.failed(&e);
        self.connect_failed(ctx, e)
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        e: Box<Error>,
        ctx: &mut Ctx,
        reused: bool,
    ) -> Box<Error> {
        if !ctx.turned_down && !ctx.is_out_of_time(session) {
            ctx.counting.failed(&e);
        }
        self.exchange_failed(session, peer, ctx, e, reused)
    }

    fn upstream_response_filter<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        session: &'life1 mut Session,
        head: &'life2 mut ResponseHeader,
        ctx: &'life3 mut Ctx,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: Sync + 'async_trait,
    {
        // Informational responses come before the one that counts.
        let last =
            !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS;
        if last && (ctx.turned_down || self.answered(session, ctx, head.status)) {
            return ready(|| Ok(()));
        }
        if let Some(change) = ctx.change.as_ref().filter(|_| last) {
            change.settle(&ctx.running.plan.sites[ctx.at.0], head);
        }
        if ctx.is_cached() {
            cached::answered(head, ctx);
            return ready(|| Ok(()));
        }
        done(ctx.edit(head))
    }

    fn request_cache_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        if ctx.is_cached() {
            cached::enable(session, ctx);
        }
        Ok(())
    }

    fn cache_key_callback(&self, _: &Session, ctx: &mut Ctx) -> Result<CacheKey> {
        cached::key(ctx).ok_or_else(|| Error::explain(InternalError, "a route without a cache"))
    }

    fn cache_vary_filter(
        &self,
        meta: &CacheMeta,
        _: &mut Ctx,
        request: &RequestHeader,
    ) -> Option<HashBinary> {
        caching::variance(meta, request)
    }

    fn cache_hit_filter<'life0, 'life1, 'life2, 'life3, 'life4, 'async_trait>(
        &'life0 self,
        session: &'life1 mut Session,
        meta: &'life2 CacheMeta,
        _: &'life3 mut HitHandler,
        fresh: bool,
        ctx: &'life4 mut Ctx,
    ) -> Pin<Box<dyn Future<Output = Result<Option<ForcedFreshness>>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        'life4: 'async_trait,
        Self: Sync + 'async_trait,
    {
        match cached::demand(session, ctx, meta, fresh) {
            None => ready(|| Ok(None)),
            demand => Box::pin(async move { Ok(demand) }),
        }
    }

    fn should_serve_stale(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        error: Option<&Error>,
    ) -> bool {
        if error.is_some() {
            // As for a failure: those behind it do not wait until the client has taken what is stored.
            ctx.end_turn();
        }
        // No filter sees the head of a 5xx that what is stored hides.
        let hidden = error.and_then(cached::hidden_status);
        if hidden.is_some_and(|status| self.answered(session, ctx, status)) {
            return false;
        }
        cached::serves_stale(session, ctx, error)
    }

    fn proxy_upstream_filter<'life0, 'life1, 'life2, 'async_trait>(
        &'life0 self,
        session: &'life1 mut Session,
        ctx: &'life2 mut Ctx,
    ) -> Pin<Box<dyn Future<Output = Result<bool>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        Self: Sync + 'async_trait,
    {
        if ctx.is_cached() && cached::wants_stored_only(session, ctx) {
            let answer = Answer::refusal(StatusCode::GATEWAY_TIMEOUT);
            if session.cache.enabled() {
                // Others are not to wait until the client has taken the answer.
                session.cache.disable(NoCacheReason::DeclinedToUpstream);
            }
            return Box::pin(async move { answer.send(session, None).await.map(|()| false) });
        }
        ready(|| Ok(true))
    }

    fn response_cache_filter(
        &self,
        session: &Session,
        head: &ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<RespCacheable> {
        cached::judge(session, head, ctx)
    }

    fn upstream_response_decision<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        _: &'life1 mut Session,
        head: &'life2 ResponseHeader,
        ctx: &'life3 mut Ctx,
    ) -> Pin<Box<dyn Future<Output = Option<Box<Error>>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: Sync + 'async_trait,
    {
        if !ctx.turned_down {
            return ready(|| None);
        }
        let mut e = Error::new_up(HTTPStatus(head.status.as_u16()));
        e.set_retry(true);
        Box::pin(async move { Some(e) })
    }

    fn response_filter<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        session: &'life1 mut Session,
        head: &'life2 mut ResponseHeader,
        ctx: &'life3 mut Ctx,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: Sync + 'async_trait,
    {
        if head.status.is_informational() {
            return ready(|| Ok(()));
        }
        let mut made = Ok(());
        if head.status.as_u16() >= 400 {
            made = ctx.intercept(session, head);
        }
        if ctx.is_cached() {
            // Behind the cache: what they are filled in with is this request's alone.
            made = made
                .and_then(|()| cached::tell(session, head, ctx))
                .and_then(|()| ctx.edit(head));
        }
        if ctx
            .running
            .clusters
            .get(ctx.cluster)
            .is_some_and(|cluster| cluster.is_sticky())
        {
            if let Some(cookie) = self.cookie(ctx) {
                made = made.and_then(|()| head.append_header(SET_COOKIE, cookie).map(drop));
            }
        }
        let hsts = gate::hsts(&ctx.running.plan.sites[ctx.at.0].hsts, ctx.secure);
        if let Some((name, value)) = hsts {
            made = made.and_then(|()| head.insert_header(name, value));
        }
        if let Some(passed) = &mut ctx.passed {
            made = made.and_then(|()| passed.tell(head));
        }
        let (site, route) = ctx.at;
        if let Some(rule) = &ctx.running.plan.sites[site].routes[route].compress {
            let prepared = compress::prepare(session, rule, head, ctx.accepted.as_ref());
            made = made.and(prepared);
        }
        done(made)
    }

    fn request_body_filter<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        session: &'life1 mut Session,
        body: &'life2 mut Option<Bytes>,
        _: bool,
        ctx: &'life3 mut Ctx,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: Sync + 'async_trait,
    {
        // What passes a tunnel is no body, and has no end of its own.
        if session.was_upgraded() {
            return ready(|| Ok(()));
        }
        if let Some(copied) = &mut ctx.copied {
            let (site, route) = ctx.at;
            if let Some(mirror) = &ctx.running.plan.sites[site].routes[route].mirror {
                copied.add(body, mirror.max_body);
            }
        }
        let bytes = body.as_ref().map_or(0, Bytes::len);
        if ctx.passed.as_mut().is_none_or(|passed| passed.takes(bytes)) {
            return ready(|| Ok(()));
        }
        ctx.counting.limited(Limit::Size);
        let e = Error::explain(
            HTTPStatus(413),
            "the request body is longer than `max_body_size`",
        );
        Box::pin(async move { Err(e.into_down()) })
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        match &mut ctx.instead {
            None => Ok(None),
            Some(instead) => {
                let replaced = instead.replace(body, session.cache.enabled());
                replaced.map(|()| None)
            }
        }
    }

    fn response_trailer_filter<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        _: &'life1 mut Session,
        trailers: &'life2 mut HeaderMap,
        ctx: &'life3 mut Ctx,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Bytes>>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: Sync + 'async_trait,
    {
        let Some(instead) = &mut ctx.instead else {
            return ready(|| Ok(None));
        };
        // They are of the body that nobody sees.
        trailers.clear();
        let page = instead.take();
        Box::pin(async move { Ok(page) })
    }

    fn suppress_error_log(&self, _: &Session, ctx: &Ctx, _: &Error) -> bool {
        ctx.is_cut_behind_page()
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Ctx,
        e: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        // It waits, as those do that find no room before.
        lacks_connect_permit(e)
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Ctx) -> FailToProxy {
        ctx.fail(session, e).await
    }

    fn logging<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        session: &'life1 mut Session,
        e: Option<&'life2 Error>,
        ctx: &'life3 mut Ctx,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: Sync + 'async_trait,
    {
        let e = e.filter(|_| !ctx.is_cut_behind_page());
        ctx.counting.of_route(&ctx.running.series.none);
        cached::count(session, ctx);
        ctx.counting.end(session, e);
        if ctx.copied.is_some() {
            mirror::send(&self.live, &self.connector, session, ctx);
        }
        let (running, counting) = (&*ctx.running, &ctx.counting);
        if running.log.is_some() {
            ctx.observed.log(&self.live, running, session, counting, e);
        }
        ready(|| ())
    }
}
