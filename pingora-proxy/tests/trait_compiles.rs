//! `#[async_trait]` implementations as applications write them: one of every phase, one of the
//! required two alone, and one that wraps another. That they compile is most of the test.

#![allow(clippy::unwrap_used, missing_docs)]

use std::any::Any;
use std::borrow::Cow;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora_cache::key::{CacheKey, HashBinary};
use pingora_cache::storage::{HitHandler, PurgeAction};
use pingora_cache::{CacheMeta, ForcedFreshness, NoCacheReason, RespCacheable};
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, PurgeStatus, RangeType, Session};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::Sender;

/// What a proxy needs of an application.
fn runs_in_a_proxy<P>(proxy: P) -> P
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    proxy
}

struct Required;

#[async_trait]
impl ProxyHttp for Required {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut Self::CTX,
    ) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new("127.0.0.1:1", false, String::new())))
    }
}

/// Counts calls in shared state and in the request's, over await points, so that every future has
/// to hold `self` and `ctx`.
#[derive(Default)]
struct Every {
    calls: AtomicUsize,
}

#[derive(Default)]
struct Calls(usize);

impl Every {
    async fn count(&self, ctx: &mut Calls) {
        tokio::task::yield_now().await;
        self.calls.fetch_add(1, Ordering::Relaxed);
        ctx.0 += 1;
    }
}

#[async_trait]
impl ProxyHttp for Every {
    type CTX = Calls;

    fn new_ctx(&self) -> Self::CTX {
        Calls::default()
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    #[cfg(feature = "upstream_modules")]
    fn init_upstream_modules(&self, _modules: &mut HttpModules) {}

    fn on_connection_reuse(
        &self,
        _session: &mut Session,
        ctx: &mut Self::CTX,
        prev_ctx: Box<dyn Any + Send + Sync>,
    ) {
        if let Ok(calls) = prev_ctx.downcast::<usize>() {
            ctx.0 = *calls;
        }
    }

    async fn early_request_filter(
        &self,
        _session: &mut Session,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        self.count(ctx).await;
        Ok(())
    }

    fn allow_spawning_subrequest(&self, _session: &Session, _ctx: &Self::CTX) -> bool {
        true
    }

    async fn request_filter(&self, _session: &mut Session, ctx: &mut Self::CTX) -> Result<bool> {
        self.count(ctx).await;
        Ok(true)
    }

    fn request_cache_filter(&self, _session: &mut Session, _ctx: &mut Self::CTX) -> Result<()> {
        Ok(())
    }

    fn cache_key_callback(&self, _session: &Session, _ctx: &mut Self::CTX) -> Result<CacheKey> {
        Error::err(ErrorType::Custom("no key"))
    }

    fn is_purge(&self, _session: &Session, _ctx: &Self::CTX) -> bool {
        true
    }

    fn purge_action(&self, _session: &Session, _ctx: &Self::CTX) -> PurgeAction {
        PurgeAction::Expire
    }

    fn purge_response_filter(
        &self,
        _session: &Session,
        _ctx: &mut Self::CTX,
        _purge_status: PurgeStatus,
        purge_response: &mut Cow<'static, ResponseHeader>,
    ) -> Result<()> {
        purge_response.to_mut().set_status(204)
    }

    fn cache_vary_filter(
        &self,
        _meta: &CacheMeta,
        _ctx: &mut Self::CTX,
        _req: &RequestHeader,
    ) -> Option<HashBinary> {
        None
    }

    async fn cache_hit_filter(
        &self,
        _session: &mut Session,
        _meta: &CacheMeta,
        _hit_handler: &mut HitHandler,
        is_fresh: bool,
        ctx: &mut Self::CTX,
    ) -> Result<Option<ForcedFreshness>> {
        self.count(ctx).await;
        Ok(is_fresh.then_some(ForcedFreshness::ForceExpired))
    }

    fn cache_miss(&self, session: &mut Session, _ctx: &mut Self::CTX) {
        session.cache.cache_miss();
    }

    fn should_serve_stale(
        &self,
        _session: &mut Session,
        _ctx: &mut Self::CTX,
        error: Option<&Error>,
    ) -> bool {
        error.is_none()
    }

    fn cache_not_modified_filter(
        &self,
        _session: &Session,
        _resp: &ResponseHeader,
        _ctx: &mut Self::CTX,
    ) -> Result<bool> {
        Ok(false)
    }

    fn range_header_filter(
        &self,
        _session: &mut Session,
        _resp: &mut ResponseHeader,
        _ctx: &mut Self::CTX,
    ) -> RangeType {
        RangeType::None
    }

    async fn proxy_upstream_filter(
        &self,
        _session: &mut Session,
        ctx: &mut Self::CTX,
    ) -> Result<bool> {
        self.count(ctx).await;
        Ok(false)
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut Self::CTX,
    ) -> Result<Box<HttpPeer>> {
        self.count(ctx).await;
        Error::err(ErrorType::Custom("no peer"))
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        _ctx: &mut Self::CTX,
        mut e: Box<Error>,
    ) -> Box<Error> {
        e.set_retry(true);
        e
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        _fd: RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        self.count(ctx).await;
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        upstream_request: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        self.count(ctx).await;
        upstream_request.insert_header("Host", "origin.test")
    }

    async fn custom_forwarding(
        &self,
        _session: &mut Session,
        ctx: &mut Self::CTX,
        _custom_message_to_upstream: Option<Sender<Bytes>>,
        custom_message_to_downstream: Sender<Bytes>,
    ) -> Result<()> {
        self.count(ctx).await;
        drop(custom_message_to_downstream);
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        self.count(ctx).await;
        body.take();
        Ok(())
    }

    async fn downstream_custom_message_proxy_filter(
        &self,
        _session: &mut Session,
        _custom_message: Bytes,
        ctx: &mut Self::CTX,
        _final_hop: bool,
    ) -> Result<Option<Bytes>> {
        self.count(ctx).await;
        Ok(None)
    }

    async fn upstream_custom_message_proxy_filter(
        &self,
        _session: &mut Session,
        _custom_message: Bytes,
        ctx: &mut Self::CTX,
        _final_hop: bool,
    ) -> Result<Option<Bytes>> {
        self.count(ctx).await;
        Ok(None)
    }

    #[cfg(feature = "upstream_modules")]
    async fn adjust_upstream_modules(
        &self,
        _session: &mut Session,
        _upstream_response: &ResponseHeader,
        _end_of_stream: bool,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        self.count(ctx).await;
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        upstream_response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        self.count(ctx).await;
        upstream_response.insert_header("X-Seen", "1")
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        _end_of_stream: bool,
        _ctx: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        Ok(None)
    }

    fn upstream_response_trailer_filter(
        &self,
        _session: &mut Session,
        _upstream_trailers: &mut HeaderMap,
        _ctx: &mut Self::CTX,
    ) -> Result<()> {
        Ok(())
    }

    fn response_cache_filter(
        &self,
        _session: &Session,
        _resp: &ResponseHeader,
        _ctx: &mut Self::CTX,
    ) -> Result<RespCacheable> {
        Ok(RespCacheable::Uncacheable(NoCacheReason::OriginNotCache))
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        upstream_response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()>
    where
        Self::CTX: Send + Sync,
    {
        self.count(ctx).await;
        upstream_response.insert_header("X-Sent", "1")
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        _end_of_stream: bool,
        _ctx: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        Ok(Some(Duration::ZERO))
    }

    async fn response_trailer_filter(
        &self,
        _session: &mut Session,
        _upstream_trailers: &mut HeaderMap,
        ctx: &mut Self::CTX,
    ) -> Result<Option<Bytes>> {
        self.count(ctx).await;
        Ok(None)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        _session: &mut Session,
        e: Box<Error>,
        _ctx: &mut Self::CTX,
        _client_reused: bool,
    ) -> Box<Error> {
        e
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Self::CTX,
        _error: &Error,
        context: ProxyWarnLogContext,
    ) -> bool {
        context == ProxyWarnLogContext::UpstreamRetry
    }

    fn request_summary(&self, _session: &Session, ctx: &Self::CTX) -> String {
        format!("{} calls", ctx.0)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        _e: &Error,
        ctx: &mut Self::CTX,
    ) -> FailToProxy {
        self.count(ctx).await;
        let can_reuse_downstream = session.respond_error(503).await.is_ok();
        FailToProxy {
            error_code: 503,
            can_reuse_downstream,
        }
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Self::CTX, _error: &Error) -> bool {
        true
    }

    async fn logging(&self, _session: &mut Session, e: Option<&Error>, ctx: &mut Self::CTX) {
        self.count(ctx).await;
        assert!(e.is_none());
    }

    fn persist_connection_context(
        &self,
        _session: &Session,
        ctx: &Self::CTX,
    ) -> Option<Box<dyn Any + Send + Sync>> {
        Some(Box::new(ctx.0))
    }
}

/// Delegates what it does not decide itself, as a layer around another application does.
struct Layer<P>(P);

#[async_trait]
impl<P> ProxyHttp for Layer<P>
where
    P: ProxyHttp + Send + Sync,
    P::CTX: Send + Sync,
{
    type CTX = P::CTX;

    fn new_ctx(&self) -> Self::CTX {
        self.0.new_ctx()
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<bool> {
        self.0.request_filter(session, ctx).await
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Self::CTX,
    ) -> Result<Box<HttpPeer>> {
        self.0.upstream_peer(session, ctx).await
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, ctx: &mut Self::CTX) {
        self.0.logging(session, e, ctx).await;
    }
}

/// A session that has read `request`, and the client's end of its connection.
async fn session(request: &str) -> (Session, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let mut session = Session::new_h1(Box::new(Stream::from(accepted)));
    assert!(session.read_request().await.unwrap());
    (session, client)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[tokio::test]
async fn overrides_run_on_a_task_of_their_own() {
    let proxy = runs_in_a_proxy(Every::default());
    let (mut session, client) = session(GET).await;
    let calls = tokio::spawn(async move {
        let mut ctx = proxy.new_ctx();
        proxy
            .early_request_filter(&mut session, &mut ctx)
            .await
            .unwrap();
        assert!(proxy.request_filter(&mut session, &mut ctx).await.unwrap());
        proxy.logging(&mut session, None, &mut ctx).await;
        assert_eq!(proxy.request_summary(&session, &ctx), "3 calls");
        proxy.calls.into_inner()
    });
    assert_eq!(calls.await.unwrap(), 3);
    drop(client);
}

#[tokio::test]
async fn layers_and_trait_objects_reach_what_they_hold() {
    let layer = runs_in_a_proxy(Layer(Every::default()));
    let (mut session, _client) = session(GET).await;
    let mut ctx = layer.new_ctx();
    layer
        .early_request_filter(&mut session, &mut ctx)
        .await
        .unwrap();
    assert!(layer.request_filter(&mut session, &mut ctx).await.unwrap());
    assert_eq!(ctx.0, 1);

    let object: Box<dyn ProxyHttp<CTX = ()> + Send + Sync> = Box::new(Layer(Required));
    assert!(!object.request_filter(&mut session, &mut ()).await.unwrap());
    assert!(object.upstream_peer(&mut session, &mut ()).await.is_ok());
}
