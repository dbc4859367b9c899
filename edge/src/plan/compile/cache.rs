//! Caches of routes.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::caching::Policy;

use super::Compiler;
use crate::config::model::{self, Ignored};
use crate::config::section::Value;
use crate::data::Data;
use crate::plan::cache::{CacheRule, CacheSize, QueryKey};
use crate::plan::condition::Condition;

/// The most requests that are counted before a response is stored.
const MOST_USES: u32 = 100;
/// The least memory: less would hold next to nothing.
const LEAST: usize = 1 << 20;

impl Compiler<'_> {
    /// Compiles the memory of the cache.
    pub(super) fn cache_size(&mut self, root: &model::Root) -> CacheSize {
        let Some(cache) = &root.cache else {
            return CacheSize::default();
        };
        let size = CacheSize {
            memory: cache.memory.bytes(),
            max_object: cache.max_object.bytes(),
        };
        if size.memory < LEAST {
            self.errors
                .at(cache.place, "the `memory` of the cache is less than 1MiB");
        } else if size.max_object > size.memory / 2 {
            self.errors.at(
                cache.place,
                "`max_object` is more than half of the `memory` of the cache",
            );
        }
        size
    }

    /// Compiles the cache of a route, if it has one.
    pub(super) fn cache(&mut self, route: &model::Route) -> Option<Box<CacheRule>> {
        let cache = route.proxy.as_ref()?.cache.as_ref()?;
        if !cache.enabled {
            return None;
        }
        if !(1..=MOST_USES).contains(&cache.min_uses) {
            let message = format!("`min_uses` is none of 1 to {MOST_USES}");
            self.errors.at(cache.place, message);
        }
        let key = cache.key.as_ref();
        if let Some(key) = key {
            if key.ignore_query && !key.query.is_empty() {
                let message = "a key has only one of `query` and `ignore_query`";
                self.errors.at(key.place, message);
            }
        }
        let bypass = cache.bypass.as_ref();
        let bypass = bypass.map(|bypass| Condition::bypass(bypass, &mut self.searches));
        Some(Box::new(CacheRule {
            id: upstream_id(route),
            policy: policy(cache),
            query: match key {
                Some(key) if key.ignore_query => QueryKey::Nothing,
                Some(key) if !key.query.is_empty() => QueryKey::Only(key.query.clone()),
                _ => QueryKey::All,
            },
            headers: key.map_or_else(Vec::new, |key| key.headers.clone()),
            cookies: key.map_or_else(Vec::new, |key| key.cookies.clone()),
            min_uses: cache.min_uses,
            lock: cache.lock,
            purge: cache.purge.clone(),
            bypass: bypass.unwrap_or_default(),
        }))
    }
}

fn policy(cache: &model::Cache) -> Policy {
    let ignores = |what| cache.ignore.contains(&what);
    // A part of a second counts as one: nobody who sets a time means none.
    let seconds = |time: Option<std::time::Duration>| {
        let up = |time: std::time::Duration| time.as_millis().div_ceil(1000);
        time.map_or(0, |time| u32::try_from(up(time)).unwrap_or(u32::MAX))
    };
    let by_status = cache.ttl_by_status.0.iter();
    Policy {
        stale_while_revalidate: seconds(cache.stale_while_revalidate),
        stale_if_error: seconds(cache.stale_if_error),
        lifetime: cache.ttl,
        lifetime_by_status: by_status.map(|(status, ttl)| (status.0, *ttl)).collect(),
        ignore_control: ignores(Ignored::CacheControl),
        ignore_demands: ignores(Ignored::RequestCacheControl),
        strip_set_cookie: ignores(Ignored::SetCookie),
        ..Policy::default()
    }
}

/// Returns a number that differs for routes whose servers, or whose requests to them, may differ. It is the same after a
/// reload that leaves the route as it is.
fn upstream_id(route: &model::Route) -> u64 {
    let mut print = route.print();
    let drop = |data: &mut Data, keys: &[&str]| {
        if let Data::Map(pairs) = data {
            pairs.retain(|(key, _)| !keys.contains(&&**key));
        }
    };
    drop(&mut print, &["weight", "response_headers", "compress"]);
    if let Data::Map(pairs) = &mut print {
        let proxy = pairs.iter_mut().find(|(key, _)| key == "proxy");
        if let Some((_, proxy)) = proxy {
            drop(
                proxy,
                &[
                    "balance",
                    "cache",
                    "circuit_breaker",
                    "hash_by",
                    "passive_health",
                    "slow_start",
                    "timeouts",
                ],
            );
        }
    }
    let mut hasher = DefaultHasher::new();
    print.to_yaml().hash(&mut hasher);
    hasher.finish()
}
