//! The keys of the cache.

use std::time::Duration;

use http::HeaderName;

use crate::config::section::{choice, section, ByName};
use crate::config::values::{Network, Size, Status, TextPattern};

section! {
    /// The memory of the cache, which all routes share.
    pub struct CacheStore("the cache", short: memory) {
        /// The bytes that responses take. What was not used for longest makes room.
        memory: Size = Size(256 << 20),
        /// The size of the largest response that is stored.
        max_object: Size = Size(16 << 20),
    }
}

section! {
    /// Answers from memory where RFC 9111 lets a shared cache do so. What no key says, the response says.
    pub struct Cache("a cache", short: enabled) {
        /// True if it is used.
        enabled: bool = true,
        /// The time for which a response of status 200, 203, 204, 300, 301 or 308 is fresh that says nothing about it.
        ttl: Option<Duration> = None,
        /// The same for single statuses, whatever they are.
        ttl_by_status: ByName<Status, Duration> = ByName::default(),
        /// The time for which a stale response answers while a new one is fetched, where the response says nothing.
        stale_while_revalidate: Option<Duration> = None,
        /// The time for which a stale response answers in place of an error, where the response says nothing.
        stale_if_error: Option<Duration> = None,
        /// The facts that do not count.
        ignore: Vec<Ignored> = Vec::new(),
        /// The parts of a request that tell responses apart, beside those that Vary names.
        key: Option<CacheKey> = None,
        /// Requests that go past the cache: those that have one of these.
        bypass: Option<Bypass> = None,
        /// The requests for the same thing after which its response is stored.
        min_uses: u32 = 1,
        /// The time for which requests wait for what another one fetches, before they go to a server themselves.
        lock: Duration = Duration::from_secs(5),
        /// The addresses that may remove what is stored under a URL, by a request with the method PURGE for it.
        purge: Vec<Network> = Vec::new(),
    }
}

choice! {
    /// Facts that a cache may leave out of account.
    pub enum Ignored("something to ignore") {
        /// Cache-Control and Expires of responses, `private` and `no-store` among them: `ttl` and `ttl_by_status` alone count.
        CacheControl = "cache_control",
        /// Set-Cookie: the response is stored, but without the cookie. Only whoever caused it gets that.
        SetCookie = "set_cookie",
        /// Cache-Control of requests, by which clients have a server asked again.
        RequestCacheControl = "request_cache_control",
    }
}

section! {
    /// The parts of a request that tell responses apart, beside method, host and path.
    pub struct CacheKey("the key of a cache") {
        /// The parameters of the query that count, in this order. If unset, the query counts as it is.
        query: Vec<String> = Vec::new(),
        /// True if nothing of the query counts.
        ignore_query: bool = false,
        /// Headers whose values count.
        headers: Vec<HeaderName> = Vec::new(),
        /// Cookies whose values count.
        cookies: Vec<String> = Vec::new(),
    }
}

section! {
    /// Requests that go past the cache. It neither answers them, nor stores what answers them.
    pub struct Bypass("requests to bypass the cache") {
        /// Headers, with patterns of their values.
        header: ByName<HeaderName, TextPattern> = ByName::default(),
        /// Parameters of the query, with patterns of their values.
        query: ByName<String, TextPattern> = ByName::default(),
        /// Cookies, with patterns of their values.
        cookie: ByName<String, TextPattern> = ByName::default(),
    }
}
