//! Places for the certificates of names on demand. Processes with the same storage share them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering as Memory};
use std::sync::Arc;

use super::order::Failure;
use super::storage::{Reserved, Storage};
use crate::plan::acme::Acme;

/// The name of the lock of places; no host begins so.
pub(super) const LOCK: &str = ".places";
/// The number of locks that names share: a file for each name would fill a disk.
const LOCKS: u64 = 64;
/// The seconds after which the storage is looked at again when it was full.
const FULL: i64 = 60;

/// The places of a storage.
pub(super) struct Places {
    pub(super) acme: Arc<Acme>,
    pub(super) storage: Storage,
    /// The largest number of names.
    pub(super) most: usize,
    /// The time until which nobody looks again.
    pub(super) full_until: Arc<AtomicI64>,
}

impl Places {
    /// Tells whether there was none a while ago.
    pub(super) fn are_known_to_be_full(&self, now: i64) -> bool {
        self.full_until.load(Memory::Relaxed) > now
    }

    /// Makes the failure of a name that there is no place for.
    pub(super) fn full(&self) -> Failure {
        let most = self.most;
        Failure::denied(format!(
            "there are {most} certificates on demand, as `max_names` has it"
        ))
    }

    /// Reserves a place for a name. The caller holds the [`LOCK`], and that of the name. It reads a folder, so it blocks.
    ///
    /// # Errors
    ///
    /// When there is no place, or the storage cannot be used.
    pub(super) fn reserve(&self, name: &str, now: i64) -> Result<Reserved, Failure> {
        let mut certified = self.certified()?;
        let mut reserved = self.storage.reserved().map_err(Failure::storage)?;
        // One that is certified meanwhile is counted once.
        reserved.retain(|name| !certified.contains(name));
        if certified.len() + reserved.len() >= self.most {
            // Those that nobody has asked for until their end make room.
            self.remove_expired(&certified, name, now)?;
            certified = self.certified()?;
            if certified.len() + reserved.len() >= self.most {
                return Err(self.note_full(certified.len(), now));
            }
        }
        let place = self.storage.reserve(name).map_err(Failure::storage)?;
        place.ok_or_else(|| Failure::here("another process orders it without its lock"))
    }

    fn certified(&self) -> Result<HashSet<String>, Failure> {
        let all = self.storage.certified(&self.acme.hosts);
        Ok(all.map_err(Failure::storage)?.into_iter().collect())
    }

    /// Removes what has expired. `held` is a name whose lock the caller holds.
    fn remove_expired(&self, names: &HashSet<String>, held: &str, now: i64) -> Result<(), Failure> {
        let held = slot(held);
        for name in names {
            let slot = slot(name);
            let own = if slot == held {
                None
            } else {
                match self
                    .storage
                    .lock(&lock_of(name))
                    .map_err(Failure::storage)?
                {
                    None => continue,
                    lock => lock,
                }
            };
            self.storage.remove_expired(name, now);
            drop(own);
        }
        Ok(())
    }

    fn note_full(&self, certified: usize, now: i64) -> Failure {
        // What is only reserved may be given back.
        if certified >= self.most {
            self.full_until.store(now + FULL, Memory::Relaxed);
            log::warn!(
                "no new name has a certificate on demand: `max_names` is {}",
                self.most
            );
        }
        self.full()
    }
}

/// Returns the name of the lock of a name, which it shares with others.
pub(super) fn lock_of(name: &str) -> String {
    format!(".on-demand-{}", slot(name))
}

/// Returns the number of the lock of a name, which is the same in all processes (FNV-1a).
fn slot(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, b| {
        (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    hash % LOCKS
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;

    use super::super::tests::{acme, pem};
    use super::*;

    fn places(dir: &Path, most: usize) -> Places {
        let acme = Arc::new(acme(dir));
        let storage = Storage::of(&acme);
        storage.prepare().unwrap();
        Places {
            acme,
            storage,
            most,
            full_until: Arc::default(),
        }
    }

    #[test]
    fn names_that_are_ordered_at_the_same_time_count() {
        let dir = TempDir::new().unwrap();
        let places = places(dir.path(), 2);
        let first = places.reserve("a.test", 0).unwrap();
        let second = places.reserve("b.test", 0).unwrap();
        assert!(places.reserve("c.test", 0).is_err());
        // One that fails gives its place back, and nobody waits for a minute.
        drop(first);
        let third = places.reserve("c.test", 0).unwrap();
        // One that succeeds keeps it.
        places
            .storage
            .write_certificate("b.test", &pem("b.test", 2090))
            .unwrap();
        assert!(places.reserve("d.test", 0).is_err(), "it is counted once");
        drop((second, third));
        let last = places.reserve("d.test", 0).unwrap();
        assert!(!places.are_known_to_be_full(0));
        places
            .storage
            .write_certificate("d.test", &pem("d.test", 2090))
            .unwrap();
        drop(last);
        assert!(places.reserve("a.test", 7).is_err());
        assert!(places.are_known_to_be_full(8) && !places.are_known_to_be_full(100));
    }

    #[test]
    fn the_place_of_a_process_that_has_died_is_given_back() {
        let dir = TempDir::new().unwrap();
        let places = places(dir.path(), 1);
        let left = places.storage.folder().join("reserved").join("a.test");
        std::fs::write(&left, "").unwrap();
        let _place = places.reserve("b.test", 0).unwrap();
        assert!(!left.exists());
    }

    /// Another process may be about to put a new certificate there.
    #[test]
    fn an_expired_certificate_is_removed_by_who_holds_the_lock_of_its_name() {
        let dir = TempDir::new().unwrap();
        let places = places(dir.path(), 1);
        let old = pem("old.test", 2002);
        places.storage.write_certificate("old.test", &old).unwrap();
        let now = super::super::now();
        assert_ne!(slot("old.test"), slot("a.test"));
        let held = places.storage.lock(&lock_of("old.test")).unwrap();
        assert!(places.reserve("a.test", now).is_err());
        assert!(places.storage.certificate("old.test").unwrap().is_some());
        drop(held);
        places.reserve("a.test", now).unwrap();
        assert!(places.storage.certificate("old.test").unwrap().is_none());
        // A name that shares the caller's lock needs no other one.
        places.storage.write_certificate("old.test", &old).unwrap();
        let mut all = (0..).map(|n| format!("{n}.test"));
        let same = all.find(|name| slot(name) == slot("old.test")).unwrap();
        let _held = places.storage.lock(&lock_of(&same)).unwrap().unwrap();
        places.reserve(&same, now).unwrap();
    }

    #[test]
    fn locks_are_few() {
        let slots: HashSet<_> = (0..10_000).map(|n| slot(&format!("{n}.a.test"))).collect();
        assert_eq!(slots.len() as u64, LOCKS);
    }
}
