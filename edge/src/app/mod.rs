//! The application: a plan's actions in the phases of a request.

mod answer;
mod cached;
mod challenge;
mod client_auth;
mod compress;
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

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora_cache::key::HashBinary;
use pingora_cache::storage::HitHandler;
use pingora_cache::{CacheKey, CacheMeta, ForcedFreshness, RespCacheable};
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::http::RefusedRequest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::ready::ready;
use pingora_core::ErrorType::{HTTPStatus, InternalError};
use pingora_core::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use crate::caching;
use crate::cluster::{HashBy, Pick, Tried};
use crate::live::{release, Lease, Live};
use crate::observe::{self, Limit};
use crate::plan::compress::CompressRule;
use crate::plan::gate::Rule;
use crate::plan::pages::PageValues;
use answer::Answer;
use cached::Cached;
use counting::Counting;
use decide::{decide, resume, Ask, Decision, Proxied};
use gate::{Fields, Passed};
use headers::{apply, keep, puts, Values};
use mirror::Copied;
use observed::{log_refused, Observed};
use pages::Instead;

/// Does with each request what the generation that runs says.
pub struct Edge {
    live: Arc<Live>,
    /// Connects to the servers of requests of its own. It is made for the first of them.
    connector: Arc<OnceLock<Connector>>,
}

/// The context of a request.
pub struct Ctx {
    running: Lease,
    /// The index of its cluster, once that is known.
    cluster: usize,
    /// The index of its site, and that of its route there.
    at: (usize, usize),
    hash_by: HashBy,
    /// The values of changes to the response.
    response: Values,
    /// Whether the client speaks TLS.
    secure: bool,
    /// What the rules of its route have given it.
    passed: Option<Box<Passed>>,
    tried: Tried,
    /// The last answer was turned down, in favour of another try.
    turned_down: bool,
    /// No server had room for it.
    found_no_room: bool,
    counting: Counting,
    /// The part of the cache, where the route has one.
    cached: Option<Box<Cached>>,
    /// What the client accepts, where its request does not say so any more.
    accepted: Option<Option<HeaderValue>>,
    observed: Observed,
    /// The values of variables of its route's pages of errors.
    page_values: PageValues,
    /// The copy for other servers.
    copied: Option<Box<Copied>>,
    /// The page that goes to the client in place of the server's body.
    instead: Option<Instead>,
}

impl Drop for Ctx {
    fn drop(&mut self) {
        if self.tried.is_open() {
            release(&mut self.tried);
        }
        if let Some(passed) = &mut self.passed {
            passed.leave(&self.running);
        }
    }
}

impl Edge {
    /// Serves what `live` holds.
    pub fn new(live: Arc<Live>) -> Self {
        Self {
            live,
            connector: Arc::default(),
        }
    }
}

impl Edge {
    /// Has others decide about a request, and goes on with it.
    async fn ask(&self, session: &mut Session, ctx: &mut Ctx, ask: Box<Ask>) -> Result<bool> {
        ctx.counting.waits();
        let Ask {
            password,
            question,
            at,
            secure,
        } = *ask;
        let mut refused = None;
        if let Some(asks) = password {
            refused = asks.answer(&ctx.running, &ctx.counting).await;
        }
        if let (None, Some(question)) = (&refused, question) {
            match self.question(ctx, &question, at).await {
                Ok(granted) => ctx.passed.get_or_insert_default().granted = granted,
                Err(answer) => refused = Some(*answer),
            }
        }
        if let Some(answer) = refused {
            let fields = gate::fields(&mut ctx.passed);
            let hsts = gate::hsts(&ctx.running.plan.sites[at.0].hsts, secure);
            let answer = answer.with(fields).with(hsts);
            return ctx.send(&self.live, session, answer).await;
        }
        let resumed = resume(
            &self.live,
            &ctx.running,
            session,
            at,
            &mut ctx.passed,
            &mut ctx.observed,
        );
        match resumed {
            Decision::Proxy(proxied) => match ctx.take(&self.live, session, proxied)? {
                Some(max) => buffer(session, max, &ctx.counting).await,
                None => Ok(false),
            },
            Decision::Answer(answer) => ctx.send(&self.live, session, answer).await,
            Decision::Ask(..) => {
                Error::e_explain(InternalError, "a request is decided about twice")
            }
        }
    }

    /// Asks the service of a route about a request, and returns the fields for the server.
    async fn question(
        &self,
        ctx: &Ctx,
        question: &RequestHeader,
        (site, route): (usize, usize),
    ) -> Result<Fields, Box<Answer>> {
        let running = &*ctx.running;
        let gate = running.plan.sites[site].routes[route].gate.as_ref();
        let Some(auth) = gate.and_then(|gate| gate.forward.as_ref()) else {
            return Ok(Vec::new());
        };
        let connector = self.connector.get_or_init(|| Connector::new(None));
        let asked = forward_auth::ask(auth, question, &self.live, running, connector).await;
        if asked.is_err() {
            gate::count(Rule::ForwardAuth, &ctx.counting);
        }
        asked
    }
}

impl Edge {
    /// Does with a request what its route says.
    fn serve<'a>(
        &'a self,
        session: &'a mut Session,
        ctx: &'a mut Ctx,
    ) -> Pin<Box<dyn Future<Output = Result<bool>> + Send + 'a>> {
        let running = &ctx.running;
        let decision = decide(
            &self.live,
            running,
            session,
            &mut ctx.counting,
            &mut ctx.passed,
            &mut ctx.observed,
        );
        ctx.observed.capture(running, session);
        match decision {
            Decision::Proxy(proxied) => match ctx.take(&self.live, session, proxied) {
                Ok(None) => ready(|| Ok(false)),
                Ok(Some(max)) => Box::pin(buffer(session, max, &ctx.counting)),
                Err(e) => Box::pin(async move { Err(e) }),
            },
            Decision::Answer(mut answer) => {
                if answer.wants_page() {
                    answer =
                        pages::told(answer, &self.live, &ctx.running, session, &mut ctx.observed);
                }
                Box::pin(async move {
                    let sent = answer.send(session, ctx.compression());
                    sent.await.map(|()| true)
                })
            }
            Decision::Ask(ask) => Box::pin(self.ask(session, ctx, ask)),
        }
    }
}

/// Reads a request body whole.
async fn buffer(session: &mut Session, max: usize, counting: &Counting) -> Result<bool> {
    let read = session.buffer_request_body(max).await;
    read.map(|_| false).inspect_err(|e| {
        if *e.etype() == HTTPStatus(413) {
            counting.limited(Limit::Size);
        }
    })
}

impl Ctx {
    /// Sends an answer to a request that is still as it came, with its page if there is one.
    async fn send(&mut self, live: &Live, session: &mut Session, answer: Answer) -> Result<bool> {
        let answer = if answer.wants_page() {
            pages::told(answer, live, &self.running, session, &mut self.observed)
        } else {
            answer
        };
        let sent = answer.send(session, self.compression());
        sent.await.map(|()| true)
    }

    /// Returns the rule of compression of its route.
    fn compression(&self) -> Option<&CompressRule> {
        let (Some(site), Some(route)) = self.observed.at() else {
            return None;
        };
        let route = self.running.plan.sites.get(site)?.routes.get(route)?;
        route.compress.as_deref()
    }

    /// Takes the way of a request to a server, and makes the changes to its head. Returns the size up to which its body is
    /// to be read whole first.
    fn take(
        &mut self,
        live: &Live,
        session: &mut Session,
        proxied: Proxied,
    ) -> Result<Option<usize>> {
        self.cluster = proxied.cluster;
        self.at = proxied.at;
        self.hash_by = proxied.hash_by;
        self.response = proxied.response;
        self.secure = proxied.secure;
        let (site, route) = self.at;
        let route = &self.running.plan.sites[site].routes[route];
        let head = session.req_header_mut();
        if let Some(target) = proxied.target {
            head.set_raw_path(&target)?;
        }
        proxied.told.apply(head)?;
        self.observed.tell(live, &self.running, head)?;
        if let Some(auth) = route.gate.as_ref().and_then(|gate| gate.forward.as_ref()) {
            let passed = self.passed.as_mut();
            let granted = passed.map_or_else(Vec::new, |p| std::mem::take(&mut p.granted));
            forward_auth::grant(auth, granted, head)?;
        }
        apply(&route.request_headers, proxied.request, head)?;
        let observe = &self.running.plan.observe;
        let told = observe.request_id.is_some() || observe.tracing.is_some();
        let auth = route.gate.as_ref().and_then(|gate| gate.forward.as_ref());
        if told || auth.is_some() || !route.request_headers.0.is_empty() {
            let ours = |name: &HeaderName| {
                puts(&route.request_headers, name)
                    || auth.is_some_and(|auth| auth.sets(name))
                    || Observed::tells(&self.running, name)
            };
            keep(ours, head)?;
        }
        let stored = (proxied.cached.as_ref()).is_some_and(|cached| cached.may_be_stored());
        if stored && route.compress.is_some() {
            self.accepted = Some(compress::ask_plainly(head)?);
        }
        self.cached = proxied.cached;
        let max = route.gate.as_ref().and_then(|gate| gate.buffer);
        if self.cached.is_some() || max.is_some() {
            self.counting.waits();
        }
        self.page_values = proxied.page_values;
        if let Some(mirror) = &route.mirror {
            self.copied = Copied::begin(mirror, live, session);
        }
        let limit = self.running.clusters[self.cluster].time_limit();
        // What an upgrade leads to has no end of its own.
        if limit.is_some() && !session.is_upgrade_req() {
            session.set_upstream_time_limit(limit);
        }
        Ok(max)
    }

    /// Makes the route's changes to the headers of the response.
    fn edit(&mut self, head: &mut ResponseHeader) -> Result<()> {
        let (site, route) = self.at;
        let edits = &self.running.plan.sites[site].routes[route].response_headers;
        // Informational responses have none, and come before the one that has.
        if edits.0.is_empty() || head.status.is_informational() {
            return Ok(());
        }
        apply(edits, std::mem::take(&mut self.response), head)
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
            response: Vec::new(),
            secure: false,
            passed: None,
            tried: Tried::default(),
            turned_down: false,
            found_no_room: false,
            counting: Counting::begin(),
            cached: None,
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
            session.set_keepalive(None);
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
        let mut peer = match self.pick(ctx, false)? {
            Pick::Peer(peer) => peer,
            Pick::Full => Box::pin(self.wait_for_room(session, ctx)).await?,
        };
        let cluster = &ctx.running.clusters[ctx.cluster];
        if let Some(greeting) = cluster.greeting() {
            facts::greeting(greeting, session, ctx.observed.client()).open(&mut peer);
        }
        Ok(peer)
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        ctx: &mut Ctx,
        e: Box<Error>,
    ) -> Box<Error> {
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
        if !ctx.turned_down {
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
        if last {
            self.live
                .with_cluster(&ctx.running, ctx.cluster, |local, hands| {
                    let cluster = &ctx.running.clusters[ctx.cluster];
                    local.answered(cluster, &ctx.tried, head.status, hands.slots);
                });
            ctx.counting.answered(head.status.as_u16());
            if self.turns_down(session, ctx, head.status.as_u16()) {
                return ready(|| Ok(()));
            }
        }
        if ctx.is_cached() {
            cached::answered(session, head, ctx);
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
        _: &'life1 mut Session,
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
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        match &mut ctx.instead {
            None => Ok(None),
            Some(instead) => instead.replace(body).map(|()| None),
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
