//! A caching policy by RFC 9111 for a shared cache: which requests and responses take part, how long a response is
//! fresh, which variant a request selects, and what an unsafe request makes invalid.
//!
//! [`Policy`] answers the questions that the cache phases of `ProxyHttp` ask; `src/bin/cache.rs` shows where each
//! answer goes.

mod freshness;
mod key;
#[cfg(test)]
mod tests;
mod variance;

pub use freshness::{current_age, initial_age};
pub use key::{at_origin, invalidated, key};
pub use variance::variance;

use freshness::Directives;
use http::{header, HeaderName, Method, StatusCode};
use pingora_cache::{CacheMeta, ForcedFreshness, NoCacheReason, RespCacheable};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use std::time::{Duration, SystemTime};

/// The choices that RFC 9111 leaves to an operator.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The share of the time since Last-Modified for which a response that says nothing is taken for fresh, in percent
    /// (RFC 9111 section 4.2.2). 0 turns the heuristic off.
    pub heuristic_percent: u32,
    /// The longest time for which the heuristic takes a response for fresh.
    pub heuristic_limit: Duration,
    /// Seconds for which a stale response answers while a new one is fetched, where the origin says nothing
    /// (RFC 5861 section 3).
    pub stale_while_revalidate: u32,
    /// Seconds for which a stale response answers in place of an error, where the origin says nothing (RFC 5861
    /// section 4).
    pub stale_if_error: u32,
    /// Stores a response with Set-Cookie, whose cookie all who ask are then given. RFC 9111 section 7.3 leaves
    /// that to Cache-Control; origins often set a cookie for one client and forget to say so.
    pub store_set_cookie: bool,
    /// The name by which an origin addresses this cache in Surrogate-Control, which then takes the place of
    /// Cache-Control and Expires. `None` ignores that field.
    pub surrogate: Option<&'static str>,
    /// Stores a response with Set-Cookie without that field: only whoever caused it gets the cookie.
    pub strip_set_cookie: bool,
    /// The lifetime of a response of a status that is cached without much thought (200, 203, 204, 300, 301, 308) and says
    /// nothing about it.
    pub lifetime: Option<Duration>,
    /// The same for single statuses, before `lifetime`.
    pub lifetime_by_status: Vec<(StatusCode, Duration)>,
    /// Takes a response as if it had neither Cache-Control nor Expires.
    pub ignore_control: bool,
    /// Takes a request as if it had no Cache-Control.
    pub ignore_demands: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            heuristic_percent: 10,
            heuristic_limit: Duration::from_secs(24 * 60 * 60),
            stale_while_revalidate: 0,
            stale_if_error: 0,
            store_set_cookie: false,
            surrogate: None,
            strip_set_cookie: false,
            lifetime: None,
            lifetime_by_status: Vec::new(),
            ignore_control: false,
            ignore_demands: false,
        }
    }
}

/// Fields of a 304 that describe the content that it does not carry, and fields of which a stored response keeps its
/// own because it was selected by them (RFC 9111 section 3.2).
const KEPT_BY_A_304: [HeaderName; 6] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    HeaderName::from_static("content-md5"),
    header::CONTENT_RANGE,
    header::ETAG,
    header::VARY,
];

/// Fields that concern the connection to this proxy (RFC 9111 section 3.1).
const NEVER_STORED: [HeaderName; 4] = [
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
];

impl Policy {
    /// Returns whether a request may be answered from the cache, and fill it.
    ///
    /// A GET with content is not: the content could select the response, and is not in the key. Over HTTP/2 no field need
    /// tell of it: the session has to be asked too (`is_body_empty`).
    pub fn uses_cache(&self, request: &RequestHeader) -> bool {
        let headers = &request.headers;
        let has_content = headers.contains_key(header::TRANSFER_ENCODING)
            || headers
                .get(header::CONTENT_LENGTH)
                .is_some_and(|length| length != "0");
        matches!(request.method, Method::GET | Method::HEAD)
            && !has_content
            && !headers.contains_key(header::UPGRADE)
            && (self.ignore_demands
                || !headers.contains_key(header::CACHE_CONTROL)
                || !Directives::of_request(request).no_store())
    }

    /// Returns whether a request wants nothing but a stored response, and a 504 otherwise (RFC 9111 section 5.2.1.7).
    pub fn only_if_cached(&self, request: &RequestHeader) -> bool {
        matches!(request.method, Method::GET | Method::HEAD)
            && !self.ignore_demands
            && request.headers.contains_key(header::CACHE_CONTROL)
            && Directives::of_request(request).only_if_cached()
    }

    /// Decides about a response to a request for which [`Policy::uses_cache`] holds (RFC 9111 section 3).
    pub fn response(
        &self,
        request: &RequestHeader,
        response: &ResponseHeader,
        now: SystemTime,
    ) -> RespCacheable {
        match self.meta(request, response, now) {
            Ok(meta) => RespCacheable::Cacheable(meta),
            Err(why) => RespCacheable::Uncacheable(NoCacheReason::Custom(why)),
        }
    }

    fn meta(
        &self,
        request: &RequestHeader,
        response: &ResponseHeader,
        now: SystemTime,
    ) -> Result<CacheMeta, &'static str> {
        let directives = if self.ignore_control {
            Directives::none()
        } else {
            Directives::of_response(response, self.surrogate)
        };
        self.may_store(request, response, &directives)?;
        let lifetime = directives
            .lifetime(response, now)
            .or_else(|| self.told_lifetime(response.status))
            .or_else(|| self.heuristic(response, &directives, now))
            .ok_or("no freshness and no validator")?;
        let age = initial_age(response, now);
        let (while_revalidate, if_error) = if directives.forbid_stale() {
            (0, 0)
        } else {
            (
                directives
                    .stale_while_revalidate()
                    .unwrap_or(self.stale_while_revalidate),
                directives.stale_if_error().unwrap_or(self.stale_if_error),
            )
        };

        let mut header = response.clone();
        directives.strip_private(&mut header);
        if self.strip_set_cookie {
            header.remove_header(&header::SET_COOKIE);
        }
        for name in &NEVER_STORED {
            header.remove_header(name);
        }
        let fresh_until = freshness::until(now, lifetime, age);
        Ok(CacheMeta::new(
            fresh_until,
            now,
            while_revalidate,
            if_error,
            header,
        ))
    }

    /// Says why a response must not be stored, whatever its freshness.
    fn may_store(
        &self,
        request: &RequestHeader,
        response: &ResponseHeader,
        directives: &Directives,
    ) -> Result<(), &'static str> {
        let understood = is_understood(response.status);
        if !matches!(response.status.as_u16(), 200..=599)
            || matches!(
                response.status,
                StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
            )
        {
            return Err("a status that is no whole response");
        }
        if directives.must_understand() {
            // It takes the place of no-store for whoever knows the status (RFC 9111 section 5.2.2.3).
            if !understood {
                return Err("must-understand with an unknown status");
            }
        } else if directives.no_store() {
            return Err("no-store");
        }
        if directives.private() {
            return Err("private");
        }
        if request.headers.contains_key(header::AUTHORIZATION) && !directives.allow_authorized() {
            return Err("a response to Authorization");
        }
        let cookies = self.store_set_cookie || self.strip_set_cookie;
        if response.headers.contains_key(header::SET_COOKIE) && !cookies {
            return Err("Set-Cookie");
        }
        if variance::varies_by_anything(response) {
            return Err("Vary: *");
        }
        Ok(())
    }

    /// The lifetime that the operator gives to responses of a status.
    fn told_lifetime(&self, status: StatusCode) -> Option<Duration> {
        let mut by_status = self.lifetime_by_status.iter();
        if let Some((_, lifetime)) = by_status.find(|(one, _)| *one == status) {
            return Some(*lifetime);
        }
        let usual = matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308);
        self.lifetime.filter(|_| usual)
    }

    /// The lifetime of a response without an explicit one: `None` when it must not be stored without.
    fn heuristic(
        &self,
        response: &ResponseHeader,
        directives: &Directives,
        now: SystemTime,
    ) -> Option<Duration> {
        if !(directives.public() || is_heuristically_cacheable(response.status)) {
            return None;
        }
        let modified = freshness::date(response, &header::LAST_MODIFIED);
        match modified {
            Some(modified) => {
                let date = freshness::date(response, &header::DATE).unwrap_or(now);
                let unchanged = date.duration_since(modified).unwrap_or_default();
                let share = unchanged.saturating_mul(self.heuristic_percent) / 100;
                Some(share.min(self.heuristic_limit))
            }
            // Stale at once, and good for revalidation.
            None if response.headers.contains_key(header::ETAG) => Some(Duration::ZERO),
            None => None,
        }
    }

    /// Returns what the directives of a request make of a stored response (RFC 9111 section 5.2.1): `None` leaves it
    /// as it is.
    pub fn demand(
        &self,
        request: &RequestHeader,
        meta: &CacheMeta,
        is_fresh: bool,
        now: SystemTime,
    ) -> Option<ForcedFreshness> {
        if self.ignore_demands || !request.headers.contains_key(header::CACHE_CONTROL) {
            return None;
        }
        let wanted = Directives::of_request(request);
        let too_old = wanted
            .max_age()
            .is_some_and(|limit| current_age(meta, now) > limit);
        if wanted.no_cache() || too_old {
            return Some(ForcedFreshness::ForceExpired);
        }
        if is_fresh {
            let left = meta.fresh_until().duration_since(now).unwrap_or_default();
            let too_short = wanted.min_fresh().is_some_and(|least| left < least);
            return too_short.then_some(ForcedFreshness::ForceExpired);
        }
        let stale_for = now.duration_since(meta.fresh_until()).unwrap_or_default();
        let accepted = wanted.max_stale().is_some_and(|limit| stale_for <= limit);
        let stored = Directives::of_response(meta.response_header(), self.surrogate);
        (accepted && !stored.forbid_stale()).then_some(ForcedFreshness::ForceFresh)
    }
}

/// Brings a stored header up to date by the 304 that confirmed it (RFC 9111 section 3.2). `stored` is the header that
/// was stored before.
///
/// # Errors
///
/// When the header would have too many fields.
pub fn update(stored: &ResponseHeader, not_modified: &ResponseHeader) -> Result<ResponseHeader> {
    let mut header = stored.clone();
    // The age that was stored is that of the response that was; the 304 is new.
    header.remove_header(&header::AGE);
    for name in not_modified.headers.keys() {
        if KEPT_BY_A_304.contains(name) {
            continue;
        }
        header.remove_header(name);
        for value in not_modified.headers.get_all(name) {
            header.append_header(name.clone(), value)?;
        }
    }
    Ok(header)
}

/// Statuses whose caching requirements this policy knows.
fn is_understood(status: StatusCode) -> bool {
    is_heuristically_cacheable(status)
        || matches!(status.as_u16(), 201 | 202 | 302 | 303 | 307 | 400..=403 | 500 | 502..=504)
}

/// Statuses that RFC 9110 section 15.1 defines as heuristically cacheable.
fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}
