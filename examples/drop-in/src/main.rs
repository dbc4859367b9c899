//! A load balancer with health checks, a cache and metrics, written for the published `pingora` crate.
//!
//! usage: drop-in SOCKET METRICS-SOCKET UPSTREAM UPSTREAM

use async_trait::async_trait;
use pingora::cache::eviction::simple_lru::Manager;
use pingora::cache::key::CacheKey;
use pingora::cache::lock::{CacheKeyLockImpl, CacheLock};
use pingora::cache::{CacheMeta, CachePhase, MemCache, NoCacheReason, RespCacheable};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::lb::health_check::TcpHealthCheck;
use pingora::prelude::*;
use pingora_prometheus::prometheus::{self, register_int_counter_vec, IntCounterVec};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

static STORED: LazyLock<MemCache> = LazyLock::new(MemCache::new);
static EVICTION: LazyLock<Manager> = LazyLock::new(|| Manager::new(16 * 1024 * 1024));
static LOCK: LazyLock<Box<CacheKeyLockImpl>> =
    LazyLock::new(|| CacheLock::new_boxed(Duration::from_secs(2)));

struct Balanced {
    upstreams: Arc<LoadBalancer<RoundRobin>>,
    /// Requests by what the cache did for them.
    requests: IntCounterVec,
}

impl Balanced {
    fn new(
        upstreams: Arc<LoadBalancer<RoundRobin>>,
    ) -> std::result::Result<Self, prometheus::Error> {
        let requests = register_int_counter_vec!("requests_total", "Requests", &["cache"])?;
        Ok(Balanced {
            upstreams,
            requests,
        })
    }
}

#[async_trait]
impl ProxyHttp for Balanced {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        let upstream = self
            .upstreams
            .select(b"", 256)
            .ok_or_else(|| Error::explain(ErrorType::HTTPStatus(503), "no healthy upstream"))?;
        Ok(Box::new(HttpPeer::new(upstream, false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        _: &mut (),
    ) -> Result<()> {
        request.insert_header("Host", "upstream.test")
    }

    fn request_cache_filter(&self, session: &mut Session, _: &mut ()) -> Result<()> {
        if session.req_header().uri.path().starts_with("/cached/") {
            session
                .cache
                .enable(&*STORED, Some(&*EVICTION), None, Some(LOCK.as_ref()), None);
        }
        Ok(())
    }

    fn cache_key_callback(&self, session: &Session, _: &mut ()) -> Result<CacheKey> {
        let path = session.req_header().uri.path().to_string();
        Ok(CacheKey::new(path, ""))
    }

    fn response_cache_filter(
        &self,
        _: &Session,
        response: &ResponseHeader,
        _: &mut (),
    ) -> Result<RespCacheable> {
        if response.status != 200 {
            return Ok(RespCacheable::Uncacheable(NoCacheReason::OriginNotCache));
        }
        let now = std::time::SystemTime::now();
        let fresh = now + Duration::from_secs(60);
        Ok(RespCacheable::Cacheable(CacheMeta::new(
            fresh,
            now,
            0,
            0,
            response.clone(),
        )))
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        _: &mut (),
    ) -> Result<()> {
        response.insert_header("X-Served-By", "drop-in")
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, _: &mut ()) {
        let phase = match session.cache.phase() {
            CachePhase::Disabled(_) => "off",
            phase => phase.as_str(),
        };
        self.requests.with_label_values(&[phase]).inc();
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let socket = args
        .next()
        .ok_or("usage: drop-in SOCKET METRICS-SOCKET UPSTREAM UPSTREAM")?;
    let metrics_socket = args.next().ok_or("where to tell the metrics?")?;
    let mut upstreams = LoadBalancer::try_from_iter(args.collect::<Vec<_>>())?;
    upstreams.set_health_check(TcpHealthCheck::new());
    upstreams.health_check_frequency = Some(Duration::from_millis(50));

    let mut server = Server::new(None)?;
    server.bootstrap();
    let health = background_service("health check", upstreams);
    let mut proxy = http_proxy_service(&server.configuration, Balanced::new(health.task())?);
    proxy.add_uds(&socket, None);
    server.add_service(proxy);
    let mut metrics = pingora_prometheus::prometheus_http_service();
    metrics.add_uds(&metrics_socket, None);
    server.add_service(metrics);
    server.add_service(health);
    server.run_forever()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_test::io::Builder;

    #[tokio::test]
    async fn an_upstream_is_told_one_host() -> Result<()> {
        let client = Builder::new()
            .read(b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n")
            .build();
        let mut session = Session::new_h1(Box::new(client));
        assert!(session.read_request().await?);
        let mut request = session.req_header().clone();
        let upstreams = LoadBalancer::try_from_iter(["127.0.0.1:1"]).expect("an address");
        let proxy = Balanced::new(Arc::new(upstreams)).expect("a name that is free");
        proxy
            .upstream_request_filter(&mut session, &mut request, &mut ())
            .await?;
        assert_eq!(request.headers["host"], "upstream.test");
        Ok(())
    }
}
