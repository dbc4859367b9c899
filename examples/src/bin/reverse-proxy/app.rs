//! What the proxy does with a request.

use std::future::Future;
use std::io::Write;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use examples::access_log::{AccessLog, Line};
use examples::upstreams::{Tried, Upstreams};
use http::header::{HeaderValue, HOST};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::ready::ready;
use pingora_core::{Error, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session};

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
const FORWARDED_HOST: &str = "x-forwarded-host";

/// Passes requests to upstreams in turn.
pub(crate) struct ReverseProxy {
    pub(crate) upstreams: Arc<Upstreams>,
    /// How clients reach this proxy: `http` or `https`.
    pub(crate) scheme: &'static str,
    /// Whether to believe what clients say of those before them.
    pub(crate) trust_forwarded: bool,
    /// For a request with all its tries.
    pub(crate) time_limit: Option<Duration>,
    pub(crate) access_log: Option<Arc<AccessLog>>,
}

/// What is remembered of a request.
pub(crate) struct Ctx {
    tried: Tried,
    /// For the access log.
    logged: Option<Box<Logged>>,
}

struct Logged {
    began: Instant,
    upstream: Option<String>,
}

impl ReverseProxy {
    /// Says who asks, and how. What stands there is a client's claim, which counts only where clients are trusted. The
    /// request is changed as it was received: it is not copied for that, and has the fields at each try.
    fn forward(&self, session: &mut Session) -> Result<()> {
        let client = session.client_addr().and_then(|addr| addr.as_inet());
        let client = client.map(|addr| addr.ip());
        let request = session.req_header();
        let host = match request.headers.get(HOST) {
            Some(host) => Some(host.clone()),
            None => match request.uri.authority() {
                Some(authority) => HeaderValue::try_from(authority.as_str()).ok(),
                None => None,
            },
        };
        let mut value = Vec::new();
        let trusted = self.trust_forwarded;
        if trusted {
            for earlier in request.headers.get_all(FOR) {
                value.extend_from_slice(earlier.as_bytes());
                value.extend_from_slice(b", ");
            }
        }
        let known = |name| trusted && request.headers.contains_key(name);
        let (proto, has_host) = (known(PROTO), known(FORWARDED_HOST));
        let request = session.req_header_mut();
        match client {
            Some(ip) => {
                put_ip(&mut value, ip);
                request.insert_header(FOR, value)?;
            }
            // Over a Unix socket: nothing is known, and nothing may be claimed.
            None if !trusted => drop(request.remove_header(FOR)),
            None => {}
        }
        if !proto {
            request.insert_header(PROTO, HeaderValue::from_static(self.scheme))?;
        }
        match host {
            _ if has_host => {}
            Some(host) => request.insert_header(FORWARDED_HOST, host)?,
            None => drop(request.remove_header(FORWARDED_HOST)),
        }
        Ok(())
    }
}

/// An address as text, for which memory is reserved once.
fn put_ip(value: &mut Vec<u8>, ip: IpAddr) {
    let written = match ip {
        IpAddr::V4(ip) => {
            value.reserve_exact(15);
            let [a, b, c, d] = ip.octets();
            write!(value, "{a}.{b}.{c}.{d}")
        }
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => return put_ip(value, ip.into()),
            None => write!(value, "{ip}"),
        },
    };
    // Writing to memory does not fail.
    let _ = written;
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
        match self.forward(session) {
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
