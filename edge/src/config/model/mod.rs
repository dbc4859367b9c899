//! The keys of the file.

mod access;
mod acme;
mod acme_on_demand;
mod admin;
mod auth;
mod cache;
mod compress;
mod errors;
mod forward_auth;
mod forwarded;
mod limits;
mod listen;
mod mirror;
mod observe;
mod proxy;
mod proxy_greeting;
mod proxy_health;
mod proxy_queue;
mod proxy_retries;
mod proxy_sticky;
mod proxy_timeouts;
mod resolver;
mod server;

use http::{HeaderName, Method};

use crate::config::section::{section, At, ByName};
use crate::config::values::{
    FilePath, HostPattern, Network, PathPattern, PathPrefix, Regex, Size, Status, Template,
    TextPattern,
};
pub use access::{Access, Hsts, HttpsRedirect, Maintenance};
pub use acme::{Acme, Auto, Challenge, ExternalAccount, SiteTls};
pub use acme_on_demand::OnDemand;
pub use auth::{BasicAuth, Cors};
pub use forward_auth::ForwardAuth;
pub use forwarded::{ForwardedFields, ForwardedMode, TrustedProxies};
pub use limits::{BufferRequest, ConcurrentRequests, RateLimit};
pub use mirror::Mirror;
pub use observe::{AccessLog, RequestId, Tracing, Trust};
pub use proxy::{Balance, Endpoint, Protocol, Proxy, UpstreamTls};
pub use proxy_greeting::ProxyVersion;
pub use proxy_health::{CheckKind, CircuitBreaker, Health, Initially, PassiveHealth};
pub use proxy_queue::Queue;
pub use proxy_retries::Retries;
pub use proxy_sticky::{SameSite, Sticky};
pub use proxy_timeouts::Timeouts;
pub use resolver::Resolver;

pub use admin::Admin;
pub use cache::{Bypass, Cache, CacheKey, CacheStore, Ignored};
pub use compress::{Coding, Compress};
pub use errors::ErrorPage;
pub use listen::{Accept, ClientTimeouts, Keepalive, Listen, ProxyProtocol, Tcp};
pub use server::{Server, ShutdownPolicy};

section! {
    /// The whole file. `include`, a list of files such as `conf.d/*.yaml`, adds what stands in those; lists are joined.
    pub struct Root("the configuration") {
        /// The addresses that clients connect to.
        listen: Vec<Listen>,
        /// The address where people and programs watch and steer the proxy. If unset, there is none.
        admin: Option<Admin> = None,
        /// Automatic certificates, for the sites with `tls: auto`. It may be left out.
        acme: Option<Acme> = None,
        /// The terms on which clients speak TLS, for sites that set no others.
        tls_options: Option<TlsOptions> = None,
        /// The sites, each with its hosts and routes.
        sites: Vec<Site> = Vec::new(),
        /// The proxies in front of this one, whose word about the client is believed.
        trusted_proxies: Option<TrustedProxies> = None,
        /// The treatment of the fields that tell servers of the client.
        forwarded: ForwardedMode = ForwardedMode::Replace,
        /// The settings of the process.
        server: Option<Server> = None,
        /// The servers that are asked for the names of servers. If unset, those of the system.
        resolver: Option<Resolver> = None,
        /// The memory of the cache. It is used by the routes that say so.
        cache: Option<CacheStore> = None,
        /// The access log. If unset, there is none.
        access_log: Option<AccessLog> = None,
        /// Pages of errors, where neither a site nor a route has one for the status.
        errors: Vec<ErrorPage> = Vec::new(),
        /// The header that tells servers the id of each request. If unset, there is none.
        request_id: Option<RequestId> = None,
        /// The passing on of traces. If unset, `traceparent` and `tracestate` pass as any other header does.
        tracing: Option<Tracing> = None,
    }
}

section! {
    /// A site: requests for some hosts, and what is done with them.
    pub struct Site("a site") {
        /// The hosts: names, `*.NAME` for all names below one, or `*` for every other host.
        hosts: Vec<At<HostPattern>> = Vec::new(),
        /// A redirect of requests over HTTP to HTTPS.
        https_redirect: Option<HttpsRedirect> = None,
        /// The order to browsers to use HTTPS alone.
        hsts: Option<Hsts> = None,
        /// A time in which routes answer with 503, but for those with a `maintenance` of their own.
        maintenance: Option<Maintenance> = None,
        /// The addresses that may ask, on routes without an `access` of their own.
        access: Option<Access> = None,
        /// The users that may ask, on routes without a `basic_auth` of their own.
        basic_auth: Option<BasicAuth> = None,
        /// A service that decides about requests, on routes without a `forward_auth` of their own.
        forward_auth: Option<ForwardAuth> = None,
        /// The pages of other origins that may read answers, on routes without a `cors` of their own.
        cors: Option<Cors> = None,
        /// Rates of requests, over all routes together; those of a route count beside them.
        rate_limit: Vec<RateLimit> = Vec::new(),
        /// Numbers of requests at a time, over all routes together; those of a route count beside them.
        concurrent_requests: Vec<ConcurrentRequests> = Vec::new(),
        /// The size of a request body, on routes without a `max_body_size` of their own; 413 above it.
        max_body_size: Option<Size> = None,
        /// The size of the fields of a request, on routes without a `max_header_size` of their own; 431 above it.
        max_header_size: Option<Size> = None,
        /// The number of fields of a request, on routes without a `max_headers` of their own; 431 above it.
        max_headers: Option<u32> = None,
        /// Pages of errors, where the route has none for the status.
        errors: Vec<ErrorPage> = Vec::new(),
        /// The certificates that clients are shown: the first of them whose kind of key the client knows, so that one with
        /// an ECDSA key can stand before one with an RSA key. `auto` has one for each host by ACME.
        tls: SiteTls = SiteTls::Files(Vec::new()),
        /// The terms on which clients speak TLS.
        tls_options: Option<TlsOptions> = None,
        /// The routes. The one whose path and conditions fit best takes a request.
        routes: Vec<Route>,
    }
}

section! {
    /// A certificate and its key, in PEM files.
    pub struct Certificate("a certificate") {
        /// The file of the certificate, followed by those that vouch for it.
        cert: FilePath,
        /// The file of the private key.
        key: FilePath,
    }
}

section! {
    /// A route: requests that fit all of its conditions, and what is done with them: one of `proxy`, `redirect` and `respond`.
    pub struct Route("a route") {
        /// The paths: `/x` alone, `/x/*` with all below it, `*` for a part of a segment, `**` for anything, `~REGEX`. If
        /// unset, every path.
        path: Vec<At<PathPattern>> = Vec::new(),
        /// The methods. If unset, every method.
        method: Vec<Method> = Vec::new(),
        /// Headers that the request must have, with patterns of their values.
        header: ByName<HeaderName, TextPattern> = ByName::default(),
        /// Parameters that the query must have, with patterns of their values.
        query: ByName<String, TextPattern> = ByName::default(),
        /// Cookies that the request must have, with patterns of their values.
        cookie: ByName<String, TextPattern> = ByName::default(),
        /// Addresses or networks of which the client must be one.
        client: Vec<Network> = Vec::new(),
        /// The certificate that the client must have shown.
        tls_client: Option<TlsClient> = None,
        /// The share of requests that this route takes among routes with the same path and conditions: its weight by the
        /// sum of theirs.
        weight: Option<At<u32>> = None,
        /// A time in which requests are answered with 503.
        maintenance: Option<Maintenance> = None,
        /// The addresses that may ask.
        access: Option<Access> = None,
        /// The users that may ask.
        basic_auth: Option<BasicAuth> = None,
        /// A service that decides about requests.
        forward_auth: Option<ForwardAuth> = None,
        /// The pages of other origins that may read answers.
        cors: Option<Cors> = None,
        /// Rates of requests.
        rate_limit: Vec<RateLimit> = Vec::new(),
        /// Numbers of requests at a time.
        concurrent_requests: Vec<ConcurrentRequests> = Vec::new(),
        /// The size of a request body; 413 above it.
        max_body_size: Option<Size> = None,
        /// The size of the names and values of a request's fields; 431 above it.
        max_header_size: Option<Size> = None,
        /// The number of fields of a request; 431 above it.
        max_headers: Option<u32> = None,
        /// The size up to which a request body is read whole before a server is chosen; 413 above it.
        buffer_request: Option<BufferRequest> = None,
        /// The prefix that is taken off the path before it goes upstream.
        strip_prefix: Option<At<PathPrefix>> = None,
        /// The path that goes upstream instead.
        rewrite: Option<Rewrite> = None,
        /// Changes to the headers that go upstream.
        request_headers: Option<HeaderEdits> = None,
        /// Changes to the headers of the response.
        response_headers: Option<HeaderEdits> = None,
        /// Compression of responses. If unset, they pass as they are.
        compress: Option<Compress> = None,
        /// Pages of errors. Of those with the status, the first is taken.
        errors: Vec<ErrorPage> = Vec::new(),
        /// True if the access log has lines of its requests.
        access_log: bool = true,
        /// Other servers that get copies of requests. If unset, there are none.
        mirror: Option<Mirror> = None,
        /// The servers that the request goes to.
        proxy: Option<Proxy> = None,
        /// The place that the client is sent to instead.
        redirect: Option<Redirect> = None,
        /// The answer that is given here.
        respond: Option<Respond> = None,
    }
}

section! {
    /// Another path, and another query if there is a `?` in it.
    pub struct Rewrite("a rewrite", short: to) {
        /// The expression that the whole path must match, in its normal form; other paths stay as they are.
        regex: Option<Regex> = None,
        /// The path, such as `/v2{path}`; with `regex`, `{1}` is what its first group matched.
        to: At<Template>,
    }
}

section! {
    /// Changes to headers: first those to take away, then those to set, then those to add.
    pub struct HeaderEdits("changes to headers") {
        /// The headers to take away.
        remove: Vec<At<HeaderName>> = Vec::new(),
        /// The headers to set, in place of all of the same name.
        set: ByName<HeaderName, At<Template>> = ByName::default(),
        /// The headers to add, beside those of the same name.
        add: ByName<HeaderName, At<Template>> = ByName::default(),
    }
}

section! {
    /// A redirect.
    pub struct Redirect("a redirect", short: to) {
        /// The address, such as `https://{host}{uri}`. `{1}` is what the first group of a `path` that is a regular expression
        /// matched.
        to: At<Template>,
        /// The status: 301, 302, 303, 307 or 308. If unset, 307.
        status: Option<At<Status>> = None,
    }
}

section! {
    /// An answer that is given here.
    pub struct Respond("an answer", short: status) {
        /// The status.
        status: Status = Status(http::StatusCode::OK),
        /// The body.
        body: Option<At<Template>> = None,
        /// The type of the body.
        content_type: String = "text/plain; charset=utf-8".to_owned(),
    }
}

mod tls;

pub use tls::*;
