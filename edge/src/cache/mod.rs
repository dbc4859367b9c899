//! Answers from memory: the storage, what it is asked by, and its purge.
//!
//! The framework's cache phases, which `app` drives, use one storage for all routes of the process. A route that has no
//! cache does not come here.

mod key;
mod seldom;
mod store;

use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use pingora_cache::lock::{CacheKeyLockImpl, CacheLock};
use pingora_cache::{CacheOptionOverrides, HttpCache};

use crate::plan::cache::{CacheRule, CacheSize};
use crate::plan::Plan;
pub use key::Key;
pub(crate) use key::{Extra as KeyExtra, Parts as KeyParts};
pub(crate) use store::Asked;
pub use store::{Figures, Store};

/// The time after which a request no longer waits for a fill that has not got its header.
const LOCK_AGE: Duration = Duration::from_secs(60);

/// The storage of the process. It outlives generations, and `HttpCache` asks it to live as long as the process.
static STORE: OnceLock<Store> = OnceLock::new();

/// Has requests for the same thing wait for the one that fetches it.
static LOCK: LazyLock<Box<CacheKeyLockImpl>> = LazyLock::new(|| CacheLock::new_boxed(LOCK_AGE));

/// Gives the storage the size that a plan says, and makes it if the plan uses it.
pub(crate) fn apply(plan: &Plan) {
    let limit = plan.cache.memory;
    match STORE.get() {
        Some(store) => store.set_limit(limit),
        None if plan.caches() => store().set_limit(limit),
        None => {}
    }
}

fn store() -> &'static Store {
    STORE.get_or_init(|| Store::new(CacheSize::default().memory))
}

/// Turns the cache on for a request.
pub(crate) fn enable(cache: &mut HttpCache, rule: &CacheRule, size: &CacheSize) {
    let mut overrides = CacheOptionOverrides::default();
    overrides.wait_timeout = Some(rule.lock);
    let predictor = seldom::uncacheable();
    cache.enable(
        store(),
        None,
        Some(predictor),
        Some(LOCK.as_ref()),
        Some(overrides),
    );
    cache.set_max_file_size_bytes(size.max_object);
    if rule.min_uses > 1 {
        cache.set_admission_policy(seldom::after(rule.min_uses));
    }
}

/// Returns the size of the storage; nothing where no route has used it.
pub fn figures() -> Figures {
    STORE.get().map(Store::figures).unwrap_or_default()
}

/// Removes what is stored for an address, `http://HOST/PATH?QUERY` or `HOST/PATH?QUERY`, in all its variants. Returns the
/// number of responses.
///
/// # Errors
///
/// The reason why it is no address of a site, in a line.
pub fn purge(plan: &Plan, address: &str) -> Result<usize, String> {
    let urls = plan.cached_urls(address)?;
    Ok(urls.iter().map(|url| purge_url(url)).sum())
}

/// Removes what is stored for all addresses that begin with `prefix`, `HOST/PATH`. Returns the number of responses. It
/// looks at every entry: it takes about 100 ns for each.
///
/// # Errors
///
/// The reason why it is no beginning of an address of a site, in a line.
pub fn purge_prefix(plan: &Plan, prefix: &str) -> Result<usize, String> {
    let prefix = plan.cached_prefix(prefix)?;
    let store = STORE.get();
    Ok(store.map_or(0, |store| store.purge_prefix(&prefix)))
}

/// Returns the epoch in which a response for a URL is asked for now.
pub(crate) fn epoch(url: &[u8]) -> Asked {
    let store = STORE.get();
    Asked(store.map_or(0, |store| store.epoch(key::url_hash(url))))
}

/// Removes what is stored for a URL.
pub(crate) fn purge_url(url: &[u8]) -> usize {
    let store = STORE.get();
    store.map_or(0, |store| store.purge_url(key::url_hash(url), url))
}
