//! A proxy that caches with switches for what tests want otherwise, an origin that counts, and storage filled by hand.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::type_complexity,
    reason = "each test uses a part of it"
)]

use crate::common::*;
use async_trait::async_trait;
use bytes::Bytes;
use futures::executor::block_on;
use http::StatusCode;
use pingora_cache::cache_control::CacheControl;
use pingora_cache::eviction::EvictionManager;
use pingora_cache::filters::resp_cacheable;
use pingora_cache::key::HashBinary;
use pingora_cache::lock::{CacheKeyLockImpl, CacheLock};
use pingora_cache::predictor::CacheablePredictor;
use pingora_cache::storage::{HitHandler, PurgeAction};
use pingora_cache::trace::Span;
use pingora_cache::{
    CacheKey, CacheMeta, CacheMetaDefaults, CacheOptionOverrides, CachePhase, ForcedFreshness,
    MemCache, RespCacheable, Storage, VarianceBuilder,
};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{ProxyHttp, Session};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// What `logging` saw of a request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub phase: CachePhase,
    pub upstream_used: bool,
    pub lock_duration: Option<Duration>,
    pub error: Option<String>,
}

type HitFilter = dyn Fn(&mut Session, &CacheMeta, &mut HitHandler, bool) -> Result<Option<ForcedFreshness>>
    + Send
    + Sync;

/// A proxy that caches what Cache-Control allows to be cached, under the path of the request.
pub struct Caching {
    pub peer: HttpPeer,
    pub storage: &'static (dyn Storage + Sync),
    pub eviction: Option<&'static (dyn EvictionManager + Sync)>,
    pub predictor: Option<&'static (dyn CacheablePredictor + Sync)>,
    pub lock: Option<&'static CacheKeyLockImpl>,
    pub overrides: fn() -> Option<CacheOptionOverrides>,
    /// Called with the cache on, before its key is asked for.
    pub set: Box<dyn Fn(&mut Session) + Send + Sync>,
    pub key: Box<dyn Fn(&Session) -> Result<CacheKey> + Send + Sync>,
    pub purge: PurgeAction,
    pub hit_filter: Box<HitFilter>,
    pub serve_stale: Box<dyn Fn(Option<&Error>) -> bool + Send + Sync>,
    pub cacheable: Box<dyn Fn(&Session, &ResponseHeader) -> Result<RespCacheable> + Send + Sync>,
    pub response_filter: Box<dyn Fn(&mut ResponseHeader) -> Result<()> + Send + Sync>,
    pub body_filter:
        Box<dyn Fn(&mut Option<Bytes>, bool) -> Result<Option<Duration>> + Send + Sync>,
    pub spawns_subrequests: bool,
    pub max_file_size: Option<usize>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// What was stored without a word of for how long: nothing.
pub const DEFAULTS: CacheMetaDefaults = CacheMetaDefaults::new(|_| None, 0, 0);

impl Caching {
    /// With a storage and a lock of its own.
    pub fn to(origin: &Origin) -> Self {
        Caching {
            peer: forward_to(origin.path()).peer,
            storage: mem_cache(),
            eviction: None,
            predictor: None,
            lock: Some(lock(Duration::from_secs(60))),
            overrides: || None,
            set: Box::new(|_| ()),
            key: Box::new(|session| Ok(key(session.req_header().uri.path()))),
            purge: PurgeAction::Delete,
            hit_filter: Box::new(|_, _, _, _| Ok(None)),
            serve_stale: Box::new(|e| {
                e.is_none_or(|e| *e.esource() == pingora_core::ErrorSource::Upstream)
            }),
            cacheable: Box::new(|session, response| {
                Ok(resp_cacheable(
                    CacheControl::from_resp_headers(response).as_ref(),
                    response.clone(),
                    session.req_header().headers.contains_key("authorization"),
                    &DEFAULTS,
                ))
            }),
            response_filter: Box::new(|_| Ok(())),
            body_filter: Box::new(|_, _| Ok(None)),
            spawns_subrequests: false,
            max_file_size: None,
            seen: Arc::default(),
        }
    }

    /// What `logging` sees from now on.
    pub fn seen(&self) -> Log {
        Log(self.seen.clone())
    }
}

/// What `logging` has seen so far.
#[derive(Clone)]
pub struct Log(Arc<Mutex<Vec<Seen>>>);

impl Log {
    /// Waits for so many requests in all, and returns them in the order of their ends.
    #[track_caller]
    pub fn wait_for(&self, requests: usize) -> Vec<Seen> {
        eventually("requests are logged", || {
            self.0.lock().unwrap().len() >= requests
        });
        self.0.lock().unwrap().clone()
    }

    /// The last request, of so many in all.
    #[track_caller]
    pub fn last(&self, requests: usize) -> Seen {
        self.wait_for(requests).pop().unwrap()
    }
}

pub fn mem_cache() -> &'static MemCache {
    Box::leak(Box::new(MemCache::new()))
}

pub fn lock(age_timeout: Duration) -> &'static CacheKeyLockImpl {
    Box::leak(CacheLock::new_boxed(age_timeout) as Box<CacheKeyLockImpl>)
}

/// The key of a path.
pub fn key(path: &str) -> CacheKey {
    CacheKey::new(path, "test")
}

/// What is kept of a response, fresh for so many seconds from now; a negative number has it stale for so long.
pub fn meta(fresh: i64, head: &str) -> CacheMeta {
    let mut lines = head.split("\r\n");
    let status = StatusCode::from_bytes(lines.next().unwrap().as_bytes()).unwrap();
    let mut header = ResponseHeader::build(status, None).unwrap();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        header
            .append_header(name.to_string(), value.to_string())
            .unwrap();
    }
    let now = SystemTime::now();
    let seconds = Duration::from_secs(fresh.unsigned_abs());
    let until = if fresh < 0 {
        now - seconds
    } else {
        now + seconds
    };
    CacheMeta::new(until, now, 0, 0, header)
}

/// Stores a body with what is kept of its response.
pub fn store(storage: &'static (dyn Storage + Sync), key: &CacheKey, meta: &CacheMeta, body: &str) {
    let span = Span::inactive();
    block_on(async {
        let mut handler = storage
            .get_miss_handler(key, meta, &span.handle())
            .await
            .unwrap();
        let body = Bytes::copy_from_slice(body.as_bytes());
        handler.write_body(body, true).await.unwrap();
        handler.finish().await.unwrap();
    });
}

/// What is stored under a key: the meta and the body.
pub fn stored(
    storage: &'static (dyn Storage + Sync),
    key: &CacheKey,
) -> Option<(CacheMeta, String)> {
    let span = Span::inactive();
    block_on(async {
        let (meta, mut hit) = storage.lookup(key, &span.handle()).await.unwrap()?;
        let mut body = Vec::new();
        while let Some(piece) = hit.read_body().await.unwrap() {
            body.extend(piece);
        }
        Some((meta, String::from_utf8(body).unwrap()))
    })
}

#[async_trait]
impl ProxyHttp for Caching {
    type CTX = ();

    fn new_ctx(&self) {}

    fn allow_spawning_subrequest(&self, _: &Session, _: &()) -> bool {
        self.spawns_subrequests
    }

    fn request_cache_filter(&self, session: &mut Session, _: &mut ()) -> Result<()> {
        session.cache.enable(
            self.storage,
            self.eviction,
            self.predictor,
            self.lock,
            (self.overrides)(),
        );
        if let Some(max) = self.max_file_size {
            session.cache.set_max_file_size_bytes(max);
        }
        (self.set)(session);
        Ok(())
    }

    fn cache_key_callback(&self, session: &Session, _: &mut ()) -> Result<CacheKey> {
        (self.key)(session)
    }

    fn is_purge(&self, session: &Session, _: &()) -> bool {
        session.req_header().method == "PURGE"
    }

    fn purge_action(&self, _: &Session, _: &()) -> PurgeAction {
        self.purge
    }

    fn cache_vary_filter(
        &self,
        meta: &CacheMeta,
        _: &mut (),
        request: &RequestHeader,
    ) -> Option<HashBinary> {
        let mut variance = VarianceBuilder::new();
        let fields = meta.headers().get_all("vary");
        for field in fields.iter().flat_map(|v| v.to_str().unwrap().split(',')) {
            let field = field.trim().to_ascii_lowercase();
            let value = request.headers.get(&field);
            let value = value.map(|value| value.as_bytes()).unwrap_or_default();
            variance.add_owned_name_value(field, value.to_vec());
        }
        variance.finalize()
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        meta: &CacheMeta,
        hit: &mut HitHandler,
        is_fresh: bool,
        _: &mut (),
    ) -> Result<Option<ForcedFreshness>> {
        (self.hit_filter)(session, meta, hit, is_fresh)
    }

    fn should_serve_stale(&self, _: &mut Session, _: &mut (), error: Option<&Error>) -> bool {
        (self.serve_stale)(error)
    }

    fn response_cache_filter(
        &self,
        session: &Session,
        response: &ResponseHeader,
        _: &mut (),
    ) -> Result<RespCacheable> {
        (self.cacheable)(session, response)
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        _: &mut (),
    ) -> Result<()> {
        (self.response_filter)(response)
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        _: &mut (),
    ) -> Result<Option<Duration>> {
        (self.body_filter)(body, end)
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, _: &mut ()) {
        self.seen.lock().unwrap().push(Seen {
            path: session.req_header().uri.path().to_string(),
            phase: session.cache.phase(),
            upstream_used: session.cache.upstream_used(),
            lock_duration: session.cache.lock_duration(),
            error: e.map(ToString::to_string),
        });
    }
}

/// An origin that keeps the heads of the requests that it was sent.
pub struct Counting {
    pub origin: Origin,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Counting {
    /// Answers each request with what `answer` makes of it and of its number from 0.
    pub fn answering<F>(answer: F) -> Self
    where
        F: Fn(&Response, usize) -> String + Send + Sync + 'static,
    {
        Counting::scripted(move |wire, request, number| wire.send(answer(request, number)))
    }

    /// Has `answer` write to the connection that each request came over.
    pub fn scripted<F>(answer: F) -> Self
    where
        F: Fn(&mut Wire, &Response, usize) + Send + Sync + 'static,
    {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let origin = Origin::scripted({
            let requests = requests.clone();
            move |mut wire, _| {
                while wire.has_more() {
                    let request = wire.read_message();
                    let number = {
                        let mut requests = requests.lock().unwrap();
                        requests.push(request.head.clone());
                        requests.len() - 1
                    };
                    answer(&mut wire, &request, number);
                }
            }
        });
        Counting { origin, requests }
    }

    /// The heads of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

/// A response of 200 with these fields, each ended by CRLF, and a body.
pub fn ok(fields: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{fields}\r\n{body}")
}

/// Sends a request with these fields, each ended by CRLF, and reads its response.
#[track_caller]
pub fn ask(client: &mut Wire, method: &str, path: &str, fields: &str) -> Response {
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"
    ));
    match method {
        "HEAD" => client.read_response_to_head(),
        _ => client.read_response(),
    }
}

/// [`ask`] with GET.
#[track_caller]
pub fn get(client: &mut Wire, path: &str, fields: &str) -> Response {
    ask(client, "GET", path, fields)
}
