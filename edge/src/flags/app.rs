//! The application: the phases of a request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::access_log::{AccessLog, Line};
use crate::forwarded::Forwarded;
use crate::upstreams::{Tried, Upstreams};
use async_trait::async_trait;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::ready::ready;
use pingora_core::{Error, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session};

/// Passes requests to upstreams in turn.
pub(super) struct ReverseProxy {
    pub(super) upstreams: Arc<Upstreams>,
    /// The scheme by which clients reach this proxy: `http` or `https`.
    pub(super) scheme: &'static str,
    pub(super) forwarded: Forwarded,
    /// For a request with all its tries.
    pub(super) time_limit: Option<Duration>,
    pub(super) access_log: Option<Arc<AccessLog>>,
}

/// The context of a request.
pub(super) struct Ctx {
    tried: Tried,
    /// For the access log.
    logged: Option<Box<Logged>>,
}

struct Logged {
    began: Instant,
    upstream: Option<String>,
}

#[async_trait]
impl ProxyHttp for ReverseProxy {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        let logged = || Logged {
            began: Instant::now(),
            upstream: None,
        };
        Ctx {
            tried: Tried::default(),
            logged: self.access_log.as_ref().map(|_| Box::new(logged())),
        }
    }

    // This and the other phases are written as the macro would write them, but for futures that take no memory.
    fn early_request_filter<'life0, 'life1, 'life2, 'async_trait>(
        &'life0 self,
        session: &'life1 mut Session,
        _: &'life2 mut Ctx,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        Self: Sync + 'async_trait,
    {
        session.set_pipelining_enabled(true);
        if self.time_limit.is_some() && !session.is_upgrade_req() {
            session.set_upstream_time_limit(self.time_limit);
        }
        match self.forwarded.apply(session, self.scheme) {
            Ok(()) => ready(|| Ok(())),
            Err(e) => Box::pin(async move { Err(e) }),
        }
    }

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let peer = self.upstreams.pick(&mut ctx.tried)?;
        if let Some(logged) = &mut ctx.logged {
            logged.upstream = Some(peer._address.to_string());
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
        self.upstreams.connect_failed(&mut ctx.tried, e)
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        e: Box<Error>,
        ctx: &mut Ctx,
        reused: bool,
    ) -> Box<Error> {
        let tried = &mut ctx.tried;
        self.upstreams
            .exchange_failed(tried, session, peer, e, reused)
    }

    fn upstream_response_filter<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        _: &'life1 mut Session,
        _: &'life2 mut ResponseHeader,
        ctx: &'life3 mut Ctx,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: Sync + 'async_trait,
    {
        self.upstreams.answered(&ctx.tried);
        ready(|| Ok(()))
    }

    fn logging<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        session: &'life1 mut Session,
        _: Option<&'life2 Error>,
        ctx: &'life3 mut Ctx,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: Sync + 'async_trait,
    {
        if let (Some(log), Some(logged)) = (&self.access_log, &ctx.logged) {
            let took = logged.began.elapsed();
            log.add(&Line::of(session, took, logged.upstream.as_deref()));
        }
        ready(|| ())
    }
}
