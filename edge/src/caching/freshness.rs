//! Freshness and age (RFC 9111 section 4.2).

use http::{header, HeaderMap, HeaderName, HeaderValue};
use pingora_cache::cache_control::{CacheControl, DirectiveKey, InterpretCacheControl};
use pingora_cache::CacheMeta;
use pingora_http::{RequestHeader, ResponseHeader};
use std::time::{Duration, SystemTime};

const SURROGATE_CONTROL: &str = "surrogate-control";

/// The directives of a message: those of Cache-Control, or those of the field that takes its place.
pub(super) struct Directives {
    control: Option<CacheControl>,
    /// Set where Expires counts, which it does beside Cache-Control only.
    with_expires: bool,
    bare_private: bool,
    bare_no_cache: bool,
    /// Lifetimes that are given twice, and are not the same.
    doubtful: [bool; LIFETIMES.len()],
}

const LIFETIMES: [&str; 2] = ["s-maxage", "max-age"];

impl Directives {
    /// Those of a message that has none.
    pub(super) fn none() -> Self {
        Directives {
            control: None,
            with_expires: false,
            bare_private: false,
            bare_no_cache: false,
            doubtful: [false; LIFETIMES.len()],
        }
    }

    pub(super) fn of_request(request: &RequestHeader) -> Self {
        Directives::of(&request.headers, true)
    }

    /// `surrogate`: the name by which Surrogate-Control addresses this cache.
    pub(super) fn of_response(response: &ResponseHeader, surrogate: Option<&str>) -> Self {
        surrogate
            .and_then(|name| targeted(&response.headers, name))
            .unwrap_or_else(|| Directives::of(&response.headers, true))
    }

    fn of(headers: &HeaderMap, with_expires: bool) -> Self {
        let all = || {
            headers
                .get_all(header::CACHE_CONTROL)
                .iter()
                .flat_map(items)
        };
        let bare = |name: &str| all().any(|item| item.eq_ignore_ascii_case(name.as_bytes()));
        let doubtful = |name| {
            let mut values = all().filter_map(|item| value_of(item, name));
            let first = values.next();
            values.any(|value| Some(value) != first)
        };
        Directives {
            control: CacheControl::from_headers_named("cache-control", headers),
            with_expires,
            // The published parser keeps the last of `private, private="x"`.
            bare_private: bare("private"),
            bare_no_cache: bare("no-cache"),
            doubtful: LIFETIMES.map(doubtful),
        }
    }

    fn has(&self, key: &DirectiveKey) -> bool {
        self.control
            .as_ref()
            .is_some_and(|control| control.has_directive(key))
    }

    fn has_named(&self, name: &str) -> bool {
        self.control
            .as_ref()
            .is_some_and(|control| control.has_key(name))
    }

    /// The seconds that a directive says: `None` without it, and `Some(Err)` when it says no number.
    fn seconds(&self, name: &str) -> Option<Result<Duration, ()>> {
        let directives = &self.control.as_ref()?.directives;
        let value = directives.get(&DirectiveKey::from_lowercase(name))?;
        let seconds = value
            .as_ref()
            .and_then(|value| value.parse_as_delta_seconds().ok());
        Some(seconds.map(|s| Duration::from_secs(s.into())).ok_or(()))
    }

    pub(super) fn no_store(&self) -> bool {
        self.has(&DirectiveKey::NoStore)
    }

    pub(super) fn no_cache(&self) -> bool {
        self.bare_no_cache
    }

    pub(super) fn private(&self) -> bool {
        self.bare_private
    }

    pub(super) fn public(&self) -> bool {
        self.has(&DirectiveKey::Public)
    }

    pub(super) fn must_understand(&self) -> bool {
        self.has_named("must-understand")
    }

    pub(super) fn only_if_cached(&self) -> bool {
        self.has(&DirectiveKey::OnlyIfCached)
    }

    pub(super) fn allow_authorized(&self) -> bool {
        self.control
            .as_ref()
            .is_some_and(InterpretCacheControl::allow_caching_authorized_req)
    }

    /// Returns whether a stale response must not be used without asking the origin (RFC 9111 section 4.2.4).
    pub(super) fn forbid_stale(&self) -> bool {
        self.no_cache()
            || self.has(&DirectiveKey::MustRevalidate)
            || self.has(&DirectiveKey::ProxyRevalidate)
            || self.has(&DirectiveKey::SMaxAge)
    }

    pub(super) fn max_age(&self) -> Option<Duration> {
        self.seconds("max-age")?.ok()
    }

    pub(super) fn min_fresh(&self) -> Option<Duration> {
        self.seconds("min-fresh")?.ok()
    }

    /// The most that a response may be stale; without a value, as much as it likes.
    pub(super) fn max_stale(&self) -> Option<Duration> {
        let directives = &self.control.as_ref()?.directives;
        match directives.get(&DirectiveKey::from_lowercase("max-stale"))? {
            None => Some(Duration::MAX),
            Some(value) => value
                .parse_as_delta_seconds()
                .ok()
                .map(|seconds| Duration::from_secs(seconds.into())),
        }
    }

    pub(super) fn stale_while_revalidate(&self) -> Option<u32> {
        let control = self.control.as_ref()?;
        control.stale_while_revalidate().ok().flatten()
    }

    pub(super) fn stale_if_error(&self) -> Option<u32> {
        let control = self.control.as_ref()?;
        control.stale_if_error().ok().flatten()
    }

    /// The explicit lifetime (RFC 9111 section 4.2.1); one that cannot be read, or is given in two ways, is over.
    pub(super) fn lifetime(&self, response: &ResponseHeader, now: SystemTime) -> Option<Duration> {
        if self.no_cache() {
            return Some(Duration::ZERO);
        }
        for (name, doubtful) in LIFETIMES.iter().zip(self.doubtful) {
            if let Some(seconds) = self.seconds(name) {
                return Some(seconds.ok().filter(|_| !doubtful).unwrap_or_default());
            }
        }
        if !self.with_expires || !response.headers.contains_key(header::EXPIRES) {
            return None;
        }
        let base = date(response, &header::DATE).unwrap_or(now);
        let lifetime =
            date(response, &header::EXPIRES).and_then(|expires| expires.duration_since(base).ok());
        Some(lifetime.unwrap_or_default())
    }

    /// Removes the fields that `private` and `no-cache` name.
    pub(super) fn strip_private(&self, header: &mut ResponseHeader) {
        if let Some(control) = &self.control {
            control.strip_private_headers(header);
        }
    }
}

/// Items of a list as far as its commas go, those within quotes too: good for what has no value.
fn items(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let items = line.as_bytes().split(|b| matches!(b, b',' | b';'));
    items.map(<[u8]>::trim_ascii)
}

/// The value of an item, if it has this name.
fn value_of<'i>(item: &'i [u8], name: &str) -> Option<&'i [u8]> {
    let (start, rest) = item.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b"=")?;
    start.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
}

/// The directives of Surrogate-Control that are for everyone or for `name`: `None` when none of them is about caching.
fn targeted(headers: &HeaderMap, name: &str) -> Option<Directives> {
    const KNOWN: [&str; 5] = ["max-age", "no-store", "no-cache", "private", "public"];
    let mut wanted = Vec::new();
    for line in headers.get_all(SURROGATE_CONTROL) {
        for item in line.to_str().ok()?.split(',') {
            let (directive, target) = match item.split_once(';') {
                Some((directive, target)) => (directive.trim(), target.trim()),
                None => (item.trim(), name),
            };
            if target == name {
                wanted.push(directive);
            }
        }
    }
    let known = |directive: &&str| {
        let name = directive.split('=').next().unwrap_or_default().trim();
        KNOWN.iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    if !wanted.iter().any(known) {
        return None;
    }
    let mut control = HeaderMap::new();
    let value = HeaderValue::from_str(&wanted.join(", ")).ok()?;
    control.insert(header::CACHE_CONTROL, value);
    Some(Directives::of(&control, false))
}

/// The date in a field that is given once.
pub(super) fn date(response: &ResponseHeader, name: &HeaderName) -> Option<SystemTime> {
    let mut values = response.headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// Returns the age that a response has when it arrives (RFC 9111 section 4.2.3).
pub fn initial_age(response: &ResponseHeader, now: SystemTime) -> Duration {
    let apparent = date(response, &header::DATE).and_then(|date| now.duration_since(date).ok());
    age_value(response).max(apparent.unwrap_or_default())
}

/// The value of Age. Of a list the first member counts (RFC 9111 section 5.1). What is no number, and a field that was
/// sent twice, also when somebody has joined the two lines by a comma and a space, makes the response as old as can be:
/// a cache may always ask its origin.
fn age_value(response: &ResponseHeader) -> Duration {
    let mut lines = response.headers.get_all(header::AGE).iter();
    let Some(line) = lines.next() else {
        return Duration::ZERO;
    };
    let seconds = match line.to_str() {
        Ok(text) if lines.next().is_none() && !text.contains(", ") => {
            let first = text.split(',').next().unwrap_or_default().trim();
            let is_number = first.bytes().all(|byte| byte.is_ascii_digit());
            first.parse::<u32>().ok().filter(|_| is_number)
        }
        _ => None,
    };
    Duration::from_secs(seconds.unwrap_or(u32::MAX).into())
}

/// The time until which a response is fresh that has this age now.
pub(super) fn until(now: SystemTime, lifetime: Duration, age: Duration) -> SystemTime {
    let until = match lifetime.checked_sub(age) {
        Some(left) if !left.is_zero() => now.checked_add(left),
        // The cache compares by the second, and takes one that ends now for fresh.
        _ => now.checked_sub((age - lifetime).max(Duration::from_secs(1))),
    };
    until.unwrap_or(now)
}

/// Returns the present age of a stored response (RFC 9111 section 4.2.3).
pub fn current_age(meta: &CacheMeta, now: SystemTime) -> Duration {
    let stored = meta.epoch();
    let resident = now.duration_since(stored).unwrap_or_default();
    initial_age(meta.response_header(), stored).saturating_add(resident)
}
