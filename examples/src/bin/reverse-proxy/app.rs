//! The application: the phases of a request.

use std::future::Future;
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
use pingora_core::{Error, InternalError, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{ProxyHttp, Session};

const PREFIX: &str = "x-forwarded-";
const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
const FORWARDED_HOST: &str = "x-forwarded-host";

/// Passes requests to upstreams in turn.
pub(crate) struct ReverseProxy {
    pub(crate) upstreams: Arc<Upstreams>,
    /// The scheme by which clients reach this proxy: `http` or `https`.
    pub(crate) scheme: &'static str,
    pub(crate) forwarded: Forwarded,
    /// For a request with all its tries.
    pub(crate) time_limit: Option<Duration>,
    pub(crate) access_log: Option<Arc<AccessLog>>,
}

/// Treatment of the X-Forwarded fields, by which an upstream is told who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Forwarded {
    /// Those of a client, which may claim anything, are replaced.
    #[default]
    Replace,
    /// Those of a client are believed and added to: for a proxy that only other proxies can reach.
    Append,
    /// They pass as they are, and none is added.
    Pass,
}

/// The context of a request.
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
        let client = client.map(|addr| addr.ip().to_canonical());
        let request = session.req_header_mut();
        let mut names = request.headers.keys();
        if names.any(|name| name.as_str().starts_with(PREFIX)) {
            return self.forward_claims(request, client);
        }
        let host = host(request);
        let mut fields = request.raw_fields();
        if let Some(ip) = client {
            fields.append(FOR.as_bytes(), address(ip)?)?;
        }
        fields.append(PROTO.as_bytes(), HeaderValue::from_static(self.scheme))?;
        if let Some(host) = host {
            fields.append(FORWARDED_HOST.as_bytes(), host)?;
        }
        Ok(())
    }

    /// The same for a request that has such fields.
    #[cold]
    fn forward_claims(&self, request: &mut RequestHeader, client: Option<IpAddr>) -> Result<()> {
        if self.forwarded == Forwarded::Replace {
            let names = request.headers.keys();
            let claims = names.filter(|name| name.as_str().starts_with(PREFIX));
            // Origins believe others of the family too, such as X-Forwarded-Port.
            for name in claims.cloned().collect::<Vec<_>>() {
                request.remove_header(&name);
            }
        }
        if let Some(ip) = client {
            let mut all = Vec::new();
            for earlier in request.headers.get_all(FOR) {
                all.extend_from_slice(earlier.as_bytes());
                all.extend_from_slice(b", ");
            }
            all.extend_from_slice(address(ip)?.as_bytes());
            request.insert_header(FOR, all)?;
        }
        if !request.headers.contains_key(PROTO) {
            request.insert_header(PROTO, self.scheme)?;
        }
        match host(request) {
            Some(host) if !request.headers.contains_key(FORWARDED_HOST) => {
                request.insert_header(FORWARDED_HOST, host)
            }
            _ => Ok(()),
        }
    }
}

/// The host that a request is for.
fn host(request: &RequestHeader) -> Option<HeaderValue> {
    match request.headers.get(HOST) {
        Some(host) => Some(host.clone()),
        None => HeaderValue::try_from(request.uri.authority()?.as_str()).ok(),
    }
}

/// An address as the value of a field. The common form is written by hand, which is a tenth of the work.
fn address(ip: IpAddr) -> Result<HeaderValue> {
    let mut text = [0; 15];
    let mut length = 0;
    let IpAddr::V4(v4) = ip else {
        let value = HeaderValue::try_from(ip.to_string());
        return value.or_err(InternalError, "an address is a valid value");
    };
    for (at, octet) in v4.octets().into_iter().enumerate() {
        if at > 0 {
            text[length] = b'.';
            length += 1;
        }
        for (unit, least) in [(100, 100), (10, 10), (1, 0)] {
            if octet >= least {
                text[length] = b'0' + octet / unit % 10;
                length += 1;
            }
        }
    }
    let value = HeaderValue::from_bytes(&text[..length]);
    value.or_err(InternalError, "an address is a valid value")
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
        let forwarded = match self.forwarded {
            Forwarded::Pass => Ok(()),
            Forwarded::Replace | Forwarded::Append => self.forward(session),
        };
        match forwarded {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for text in [
            "0.0.0.0",
            "1.2.3.4",
            "10.99.100.255",
            "127.0.0.1",
            "255.255.255.255",
            "::1",
            "2001:db8::ff00:42:8329",
        ] {
            let ip: IpAddr = text.parse().expect("an address");
            assert_eq!(address(ip).expect("a value"), text);
        }
        for octet in 0..=255 {
            let ip = IpAddr::from([octet, 1, octet, 2]);
            assert_eq!(address(ip).expect("a value"), ip.to_string().as_str());
        }
    }
}
