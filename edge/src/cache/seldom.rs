//! What is seldom stored: responses that may not be, and those that were asked for too seldom.
//!
//! Both are tables of a fixed size, by the hash of the key. Two keys that share a place forget each other, which costs no
//! more than a wait or a request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::LazyLock;

use pingora_cache::admission::{AdmissionPolicy, Decision};
use pingora_cache::key::CacheHashKey;
use pingora_cache::predictor::CacheablePredictor;
use pingora_cache::{CacheKey, NoCacheReason};

/// Places in a table.
const PLACES: usize = 16 * 1024;

struct Table(Box<[AtomicU64]>);

impl Table {
    fn new() -> Self {
        Self((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }

    /// Returns the place of a key, and the key's mark there: never 0, with the lowest bits free.
    fn place(&self, key: &CacheKey) -> (&AtomicU64, u64) {
        let [.., a, b, c, d, e, f, g, h] = key.primary_bin();
        let hash = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        (&self.0[hash as usize % PLACES], hash | 1 << 63)
    }
}

/// The bits of a mark that are of a key; the others count.
const MARK: u64 = !0xff;

/// Remembers keys whose last response could not be stored, so that requests for them do not wait for one another.
struct Uncacheable(Table);

/// Returns the memory of keys whose responses cannot be stored.
pub(super) fn uncacheable() -> &'static (dyn CacheablePredictor + Sync) {
    static KEYS: LazyLock<Uncacheable> = LazyLock::new(|| Uncacheable(Table::new()));
    &*KEYS
}

impl CacheablePredictor for Uncacheable {
    fn cacheable_prediction(&self, key: &CacheKey) -> bool {
        let (place, mark) = self.0.place(key);
        place.load(Ordering::Relaxed) != mark
    }

    fn mark_cacheable(&self, key: &CacheKey) -> bool {
        let (place, mark) = self.0.place(key);
        let marked = place.compare_exchange(mark, 0, Ordering::Relaxed, Ordering::Relaxed);
        marked.is_ok()
    }

    fn mark_uncacheable(&self, key: &CacheKey, reason: NoCacheReason) -> Option<bool> {
        if !lasts(reason) {
            return None;
        }
        let (place, mark) = self.0.place(key);
        Some(place.swap(mark, Ordering::Relaxed) != mark)
    }
}

/// Tells whether the next response is likely to be as this one. What a single request caused says nothing: a client
/// could turn the cache off for others.
fn lasts(reason: NoCacheReason) -> bool {
    match reason {
        NoCacheReason::OriginNotCache | NoCacheReason::ResponseTooLarge => true,
        NoCacheReason::Custom(why) => LASTING.contains(&why),
        _ => false,
    }
}

/// Reasons of the policy that are the response's own.
const LASTING: [&str; 4] = [
    "no-store",
    "private",
    "Vary: *",
    "no freshness and no validator",
];

/// Counts requests for what is not stored.
struct After {
    uses: u32,
    seen: &'static Table,
}

/// Returns a policy that stores a response at the `uses`th request for it.
pub(super) fn after(uses: u32) -> &'static (dyn AdmissionPolicy + 'static) {
    static SEEN: LazyLock<Table> = LazyLock::new(Table::new);
    static POLICIES: LazyLock<Box<[After]>> = LazyLock::new(|| {
        let policy = |uses| After { uses, seen: &SEEN };
        (0..=100).map(policy).collect()
    });
    &POLICIES[(uses as usize).min(POLICIES.len() - 1)]
}

impl AdmissionPolicy for After {
    fn observe(&self, key: &CacheKey) -> Decision {
        let (place, mark) = self.seen.place(key);
        let now = place.load(Ordering::Relaxed);
        let before = if now & MARK == mark & MARK {
            now & !MARK
        } else {
            0
        };
        // Two requests at once may count as one.
        let observed = before + 1;
        place.store(mark & MARK | observed.min(0xff), Ordering::Relaxed);
        // At most 255.
        let observed = observed as u32;
        if observed < self.uses {
            Decision::Defer { observed }
        } else {
            Decision::Ready { observed }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_counted_for_each_key() {
        let policy = after(3);
        let (a, b) = (CacheKey::new("uses a", ""), CacheKey::new("uses b", ""));
        assert!(policy.observe(&a).is_deferred());
        assert!(policy.observe(&b).is_deferred());
        assert!(policy.observe(&a).is_deferred());
        assert!(!policy.observe(&a).is_deferred());
        assert!(!policy.observe(&a).is_deferred());
        assert!(policy.observe(&b).is_deferred());
    }

    #[test]
    fn what_a_request_caused_is_not_remembered() {
        let keys = uncacheable();
        let key = CacheKey::new("uncacheable", "");
        let authorized = NoCacheReason::Custom("a response to Authorization");
        assert_eq!(keys.mark_uncacheable(&key, authorized), None);
        assert!(keys.cacheable_prediction(&key));
        let private = NoCacheReason::Custom("private");
        assert_eq!(keys.mark_uncacheable(&key, private), Some(true));
        assert_eq!(keys.mark_uncacheable(&key, private), Some(false));
        assert!(!keys.cacheable_prediction(&key));
        assert!(keys.mark_cacheable(&key));
        assert!(keys.cacheable_prediction(&key));
    }
}
