//! A caching proxy: stores in memory what RFC 9111 lets a shared cache store, and answers from there.

use async_trait::async_trait;
use clap::Parser;
use edge::program::{self, Program};
use examples::caching::{self, Policy};
use http::{header, StatusCode};
use pingora_cache::eviction::{lru::Manager, EvictionManager};
use pingora_cache::key::HashBinary;
use pingora_cache::lock::{CacheKeyLockImpl, CacheLock};
use pingora_cache::storage::{HitHandler, PurgeAction, PurgeOutcome, PurgeTarget, PurgeType};
use pingora_cache::trace::Span;
use pingora_cache::{
    CacheKey, CacheMeta, CachePhase, ForcedFreshness, MemCache, RespCacheable, Storage,
};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{ProxyHttp, Session};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// A proxy with a cache in memory.
///
/// `PURGE /path` from this machine removes what is stored for a path; with `X-Purge: soft` it is revalidated before its
/// next use instead.
#[derive(Parser)]
struct Args {
    /// Where to listen: IP:PORT or unix:/PATH
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,

    /// The server to pass requests to [default: a demo origin]
    #[arg(long, value_name = "ADDR")]
    upstream: Option<String>,

    /// MiB to store; what was not used for the longest time makes room
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    size: usize,

    /// MiB of the largest response to store
    #[arg(long, value_name = "MIB", default_value_t = 16)]
    max_object: usize,

    /// Seconds for which requests for what is being fetched wait for it, before one of them fetches it again
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    lock_timeout: u64,

    /// Seconds for which a stale response may answer while a new one is fetched, if the origin says nothing
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    stale_while_revalidate: u32,

    /// Seconds for which a stale response may answer in place of an error, if the origin says nothing
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    stale_if_error: u32,

    /// Store responses with Set-Cookie, too, and give the cookie to all who ask
    #[arg(long)]
    store_set_cookie: bool,
}

/// The name by which origins address this cache in Surrogate-Control.
const SURROGATE: &str = "pingora";

struct CachingProxy {
    upstream: HttpPeer,
    policy: Policy,
    // The cache lives as long as the process, which is what `HttpCache` asks of its parts.
    storage: &'static MemCache,
    eviction: &'static Manager<16>,
    lock: &'static CacheKeyLockImpl,
    max_object: usize,
}

/// The 304 by which the origin confirmed what is stored.
type Confirmed = Option<ResponseHeader>;

impl CachingProxy {
    async fn purge(&self, key: &CacheKey) -> Result<()> {
        let key = key.to_compact();
        let target = PurgeTarget::Active(&key);
        let trace = Span::inactive().handle();
        let outcome = self
            .storage
            .purge(target, PurgeType::Invalidation, &trace)
            .await?;
        if let PurgeOutcome::Purged(entry) = outcome {
            self.eviction.remove(target.removed_entry(entry));
        }
        Ok(())
    }
}

fn is_purge(session: &Session) -> bool {
    session.req_header().method.as_str() == "PURGE"
}

/// Returns whether the client runs on this machine; those of a Unix socket do.
fn is_local(session: &Session) -> bool {
    let address = session.client_addr().and_then(|addr| addr.as_inet());
    address.is_none_or(|addr| addr.ip().to_canonical().is_loopback())
}

async fn answer(session: &mut Session, status: StatusCode) -> Result<()> {
    let mut response = ResponseHeader::build(status, Some(1))?;
    response.insert_header(header::CONTENT_LENGTH, 0)?;
    session
        .write_response_header(Box::new(response), true)
        .await
}

/// The account of what the cache did for this response (RFC 9211).
fn cache_status(phase: CachePhase) -> &'static str {
    match phase {
        CachePhase::Hit => "pingora; hit",
        CachePhase::Stale | CachePhase::StaleUpdating => "pingora; hit; detail=stale",
        CachePhase::Miss => "pingora; fwd=miss; stored",
        CachePhase::Expired => "pingora; fwd=stale; stored",
        CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => {
            "pingora; fwd=stale; fwd-status=304"
        }
        CachePhase::Disabled(_) | CachePhase::Bypass => "pingora; fwd=bypass",
        CachePhase::Uninit | CachePhase::CacheKey => "pingora",
    }
}

#[async_trait]
impl ProxyHttp for CachingProxy {
    type CTX = Confirmed;

    fn new_ctx(&self) -> Confirmed {
        None
    }

    async fn request_filter(&self, session: &mut Session, _: &mut Confirmed) -> Result<bool> {
        let refused = is_purge(session) && !is_local(session);
        if refused {
            answer(session, StatusCode::FORBIDDEN).await?;
        }
        Ok(refused)
    }

    fn request_cache_filter(&self, session: &mut Session, _: &mut Confirmed) -> Result<()> {
        // Over HTTP/2 no field need tell of a body.
        let keyed = self.policy.uses_cache(session.req_header()) && session.is_body_empty();
        if keyed || is_purge(session) {
            session.cache.enable(
                self.storage,
                Some(self.eviction),
                None,
                Some(self.lock),
                None,
            );
            session.cache.set_max_file_size_bytes(self.max_object);
        }
        Ok(())
    }

    fn cache_key_callback(&self, session: &Session, _: &mut Confirmed) -> Result<CacheKey> {
        caching::key(session.req_header())
            .ok_or_else(|| Error::explain(ErrorType::InvalidHTTPHeader, "no host to cache for"))
    }

    fn is_purge(&self, session: &Session, _: &Confirmed) -> bool {
        is_purge(session)
    }

    fn purge_action(&self, session: &Session, _: &Confirmed) -> PurgeAction {
        match session.req_header().headers.get("X-Purge") {
            Some(kind) if kind == "soft" => PurgeAction::Expire,
            _ => PurgeAction::Delete,
        }
    }

    fn cache_vary_filter(
        &self,
        meta: &CacheMeta,
        _: &mut Confirmed,
        request: &RequestHeader,
    ) -> Option<HashBinary> {
        caching::variance(meta, request)
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        meta: &CacheMeta,
        _: &mut HitHandler,
        is_fresh: bool,
        _: &mut Confirmed,
    ) -> Result<Option<ForcedFreshness>> {
        let request = session.req_header();
        Ok(self
            .policy
            .demand(request, meta, is_fresh, SystemTime::now()))
    }

    /// Within the time that the response grants: while a new one is fetched, and when that failed.
    fn should_serve_stale(
        &self,
        _: &mut Session,
        _: &mut Confirmed,
        error: Option<&Error>,
    ) -> bool {
        error.is_none_or(|e| *e.esource() == ErrorSource::Upstream)
    }

    async fn proxy_upstream_filter(
        &self,
        session: &mut Session,
        _: &mut Confirmed,
    ) -> Result<bool> {
        let go_on = !self.policy.only_if_cached(session.req_header());
        if !go_on {
            answer(session, StatusCode::GATEWAY_TIMEOUT).await?;
        }
        Ok(go_on)
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut Confirmed) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.upstream.clone()))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        _: &mut Confirmed,
    ) -> Result<()> {
        let capability = format!("{SURROGATE}=\"Surrogate/1.0\"");
        request.append_header("Surrogate-Capability", capability)?;
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        confirmed: &mut Confirmed,
    ) -> Result<()> {
        *confirmed = (response.status == StatusCode::NOT_MODIFIED).then(|| response.clone());
        // Before the client learns that its change was made, so that it finds nothing older.
        for key in caching::invalidated(session.req_header(), response) {
            self.purge(&key).await?;
        }
        Ok(())
    }

    fn response_cache_filter(
        &self,
        session: &Session,
        response: &ResponseHeader,
        confirmed: &mut Confirmed,
    ) -> Result<RespCacheable> {
        let stored = session.cache.maybe_cache_meta();
        let updated = match (confirmed.take(), stored) {
            (Some(not_modified), Some(meta)) => {
                Some(caching::update(meta.response_header(), &not_modified)?)
            }
            _ => None,
        };
        let response = updated.as_ref().unwrap_or(response);
        let request = session.req_header();
        Ok(self.policy.response(request, response, SystemTime::now()))
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        _: &mut Confirmed,
    ) -> Result<()> {
        let phase = session.cache.phase();
        let from_storage = !session.cache.upstream_used() || phase == CachePhase::Revalidated;
        if let Some(meta) = session.cache.maybe_cache_meta().filter(|_| from_storage) {
            // The age that it came with counts, too.
            let age = caching::current_age(meta, SystemTime::now());
            response.insert_header(header::AGE, age.as_secs().to_string())?;
        }
        response.append_header("Cache-Status", cache_status(phase))?;
        Ok(())
    }
}

fn run(args: &Args) -> Result<(), String> {
    let mut program = Program::new(&args.listen)?;
    let upstream = program.upstream(args.upstream.as_deref())?;
    let mib = |size: usize| size.saturating_mul(1024 * 1024);
    program.run_proxy(CachingProxy {
        upstream,
        policy: Policy {
            stale_while_revalidate: args.stale_while_revalidate,
            stale_if_error: args.stale_if_error,
            store_set_cookie: args.store_set_cookie,
            surrogate: Some(SURROGATE),
            ..Policy::default()
        },
        storage: Box::leak(Box::new(MemCache::new())),
        eviction: Box::leak(Box::new(Manager::with_capacity(mib(args.size), 1024))),
        lock: Box::leak(CacheLock::new_boxed(Duration::from_secs(args.lock_timeout))),
        max_object: mib(args.max_object),
    })
}

fn main() -> ExitCode {
    program::exit("cache", run(&Args::parse()))
}
