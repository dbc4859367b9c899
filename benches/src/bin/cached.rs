//! A proxy that answers from memory, as small as it can be: what a hit costs through it is what the crates and the storage
//! cost, and not a policy.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use clap::Parser;
use edge::allocator::Allocator;
use edge::cache::{Key, Store};
use edge::program::{self, Program};
use http::header::HOST;
use http::StatusCode;
use pingora_cache::{CacheKey, CacheMeta, MemCache, NoCacheReason, RespCacheable, Storage};
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

#[derive(Parser)]
#[command(about = "Answers from memory what an upstream has answered with 200 in the last hour.")]
struct Args {
    /// Where to listen.
    #[arg(long, value_name = "ADDR")]
    listen: String,
    /// The server to pass other requests to.
    #[arg(long, value_name = "ADDR")]
    upstream: String,
    /// Worker threads.
    #[arg(long, value_name = "N")]
    threads: usize,
    /// The storage: MemCache of pingora-cache, or that of edge.
    #[arg(long, value_name = "NAME", value_parser = ["memcache", "edge"], default_value = "memcache")]
    store: String,
}

/// Bytes that the storage of edge may take.
const LIMIT: usize = 256 << 20;

/// The time for which a response is stored.
const FRESH: Duration = Duration::from_secs(3600);

struct Cached {
    upstream: HttpPeer,
    storage: &'static (dyn Storage + Sync),
    /// True if keys are made as edge makes them, whose hash is quicker than that of `pingora-cache`.
    own_keys: bool,
}

#[async_trait]
impl ProxyHttp for Cached {
    type CTX = ();

    fn new_ctx(&self) {}

    fn request_cache_filter(&self, session: &mut Session, (): &mut ()) -> Result<()> {
        session.cache.enable(self.storage, None, None, None, None);
        Ok(())
    }

    fn cache_key_callback(&self, session: &Session, (): &mut ()) -> Result<CacheKey> {
        let request = session.req_header();
        let no_host = || Error::explain(ErrorType::InvalidHTTPHeader, "no host");
        let host = request.headers.get(HOST).ok_or_else(no_host)?;
        let url = [host.as_bytes(), request.raw_path()].concat();
        if self.own_keys {
            return Ok(Key::new(&url, b"").to_cache_key());
        }
        Ok(CacheKey::new(url, ""))
    }

    fn response_cache_filter(
        &self,
        _: &Session,
        response: &ResponseHeader,
        (): &mut (),
    ) -> Result<RespCacheable> {
        if response.status != StatusCode::OK {
            return Ok(RespCacheable::Uncacheable(NoCacheReason::OriginNotCache));
        }
        let now = SystemTime::now();
        let header = response.clone();
        let meta = CacheMeta::new(now + FRESH, now, 0, 0, header);
        Ok(RespCacheable::Cacheable(meta))
    }

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.upstream.clone()))
    }
}

fn run(args: &Args) -> Result<(), String> {
    let conf = ServerConf {
        threads: args.threads,
        work_stealing: false,
        ..ServerConf::default()
    };
    let mut program = Program::with_conf(&args.listen, Opt::default(), conf)?;
    let upstream = program.upstream(Some(&args.upstream))?;
    let own_keys = args.store == "edge";
    let storage: &'static (dyn Storage + Sync) = if own_keys {
        Box::leak(Box::new(Store::new(LIMIT)))
    } else {
        Box::leak(Box::new(MemCache::new()))
    };
    program.run_proxy(Cached {
        upstream,
        storage,
        own_keys,
    })
}

fn main() -> ExitCode {
    program::exit("cached", run(&Args::parse()))
}
