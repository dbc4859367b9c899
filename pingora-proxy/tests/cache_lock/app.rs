//! The application, each phase of which may fail.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_cache::cache_control::CacheControl;
use pingora_cache::filters::resp_cacheable;
use pingora_cache::lock::{UnusableFill, UnusableFills};
use pingora_cache::storage::HitHandler;
use pingora_cache::{
    CacheKey, CacheMeta, CacheMetaDefaults, CacheOptionOverrides, ForcedFreshness, RespCacheable,
};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::ErrorType::InternalError;
use pingora_core::{Error, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session};

use crate::origin::ToOrigin;
use crate::scenario::Stale;
use crate::world::World;

const DEFAULTS: CacheMetaDefaults = CacheMetaDefaults::new(|_| None, 0, 0);

/// The reason for which a request cannot use a fill.
pub const UNUSABLE: &str = "unusable";

/// Names what the first request stores.
const TOKEN: u64 = 1;

pub struct App {
    world: &'static World,
    peer: HttpPeer,
}

impl App {
    pub fn new(world: &'static World) -> Self {
        let mut peer = HttpPeer::new("127.0.0.1:1", false, String::new());
        peer.options.custom_l4 = Some(Arc::new(ToOrigin(world)));
        App { world, peer }
    }

    /// Fails a phase by an error or a panic, where that is chosen.
    fn phase(&self, what: &str) -> Result<()> {
        match self.world.fault(what, 2) {
            0 => Ok(()),
            1 => Error::e_explain(InternalError, "as chosen"),
            _ => panic(),
        }
    }

    /// Fails a phase that has no errors.
    fn panics(&self, what: &str) {
        if self.world.fault(what, 1) > 0 {
            panic();
        }
    }
}

/// Without a word on the terminal.
fn panic() -> ! {
    std::panic::resume_unwind(Box::new("as chosen"))
}

#[async_trait]
impl ProxyHttp for App {
    type CTX = ();

    fn new_ctx(&self) {}

    fn request_cache_filter(&self, session: &mut Session, _: &mut ()) -> Result<()> {
        let world = self.world;
        let mut overrides = CacheOptionOverrides::default();
        overrides.wait_timeout = world.scenario.wait_timeout;
        overrides.max_lock_retries = world.scenario.retries;
        session
            .cache
            .enable(world, None, None, Some(world), Some(overrides));
        Ok(())
    }

    fn cache_key_callback(&self, session: &Session, _: &mut ()) -> Result<CacheKey> {
        let mut key = CacheKey::new(session.req_header().uri.path(), "test");
        if self.world.scenario.unusable && self.world.state().running > 0 {
            let fills = [UnusableFill {
                token: TOKEN,
                reason: UNUSABLE,
            }];
            key.extensions.insert(UnusableFills::new(fills));
        }
        Ok(key)
    }

    fn is_purge(&self, session: &Session, _: &()) -> bool {
        session.req_header().method == "PURGE"
    }

    async fn cache_hit_filter(
        &self,
        _: &mut Session,
        _: &CacheMeta,
        _: &mut HitHandler,
        _: bool,
        _: &mut (),
    ) -> Result<Option<ForcedFreshness>> {
        self.phase("cache_hit_filter")?;
        Ok(None)
    }

    fn cache_miss(&self, session: &mut Session, _: &mut ()) {
        self.panics("cache_miss");
        session.cache.cache_miss();
    }

    fn should_serve_stale(&self, _: &mut Session, _: &mut (), _: Option<&Error>) -> bool {
        self.panics("should_serve_stale");
        self.world.scenario.stale == Some(Stale::Served)
    }

    async fn proxy_upstream_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        let world = self.world;
        world.state().met().upstream = Some(session.cache.phase());
        self.phase("proxy_upstream_filter")?;
        Ok(world.fault("the way upstream", 1) == 0)
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        self.phase("upstream_peer")?;
        Ok(Box::new(self.peer.clone()))
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        _: &mut ResponseHeader,
        _: &mut (),
    ) -> Result<()> {
        if self.world.scenario.unusable {
            session.cache.lock_publish_fill_tokens(&[TOKEN]);
        }
        self.phase("upstream_response_filter")
    }

    fn response_cache_filter(
        &self,
        _: &Session,
        response: &ResponseHeader,
        _: &mut (),
    ) -> Result<RespCacheable> {
        self.phase("response_cache_filter")?;
        let control = CacheControl::from_resp_headers(response);
        let response = response.clone();
        Ok(resp_cacheable(control.as_ref(), response, false, &DEFAULTS))
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        _: &mut ResponseHeader,
        _: &mut (),
    ) -> Result<()> {
        self.phase("response_filter")
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        _: &mut Option<Bytes>,
        _: bool,
        _: &mut (),
    ) -> Result<Option<Duration>> {
        self.phase("response_body_filter")?;
        Ok(None)
    }

    async fn logging(&self, _: &mut Session, e: Option<&Error>, _: &mut ()) {
        {
            let mut state = self.world.state();
            state.note(match e {
                None => "is over".to_string(),
                Some(e) => format!("is over: {e}"),
            });
            state.check_waits();
        }
        self.panics("logging");
    }
}
