//! A part of the storage, under one lock.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use pingora_cache::key::HashBinary;
use pingora_cache::{CacheKey, CacheMeta};
use pingora_core::Result;

use super::entry::{url_of, Entry, Meta, Name};
use super::fill::Fill;
use super::hit::Whole;
use super::hot::{self, Kept};

/// Has a line of memory, and the one that is fetched with it, to itself.
#[repr(align(128))]
pub(super) struct Shard {
    /// The number of purges. A response that was asked for before one may be of a time before it.
    epoch: AtomicU64,
    /// The number of changes under the lock.
    version: AtomicU64,
    slots: RwLock<Slots>,
}

/// The purges that are remembered. With more of them since a response was asked for, it is not stored.
const PURGES: usize = 1024;

/// The entries of one URL, which lie in a row: a client that varies Host, or a field that Vary names, makes as many as it
/// likes, and each is looked at under the lock.
const MOST_OF_URL: usize = 256;

/// What was purged.
enum Purge {
    /// A URL with this hash, or some of what is stored for it.
    Url(u64),
    /// All URLs that begin so.
    Prefix(Arc<[u8]>),
}

impl Purge {
    fn is_of(&self, name: &Name) -> bool {
        match self {
            Self::Url(hash) => name.url_hash() == *hash,
            Self::Prefix(prefix) => name.url().starts_with(prefix),
        }
    }
}

#[derive(Default)]
struct Slots {
    /// By the hash of their URLs.
    entries: HashMap<u64, Vec<Arc<Entry>>, Hashed>,
    fills: HashMap<u64, Vec<Arc<Fill>>, Hashed>,
    /// URLs and ids of entries, oldest first. Some are gone.
    queue: VecDeque<(u64, u64)>,
    len: usize,
    /// The last purges, the oldest first.
    purges: VecDeque<Purge>,
}

type Hashed = BuildHasherDefault<AsItIs>;

/// Takes what is a hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only numbers are hashed.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// What was found under a key.
pub(super) enum Found {
    Entry(Arc<Entry>),
    /// The copy of an entry, which is not counted as one that is read.
    Copy(CacheMeta, Whole),
    Fill(Arc<Fill>),
}

impl Found {
    /// Copies a small entry.
    fn copy(entry: &Entry) -> Result<Self> {
        entry.mark();
        let whole = Whole::copied(entry, entry.body.copy());
        Ok(Self::Copy(entry.meta.copy()?, whole))
    }

    /// Makes a copy of a worker's own copy.
    fn kept(kept: &Kept) -> Self {
        kept.entry.mark();
        Self::Copy(kept.meta(), Whole::copied(&kept.entry, kept.body.clone()))
    }
}

impl Shard {
    pub(super) const fn new() -> Self {
        let slots = RwLock::new(Slots {
            entries: HashMap::with_hasher(BuildHasherDefault::new()),
            fills: HashMap::with_hasher(BuildHasherDefault::new()),
            queue: VecDeque::new(),
            len: 0,
            purges: VecDeque::new(),
        });
        Self {
            epoch: AtomicU64::new(0),
            version: AtomicU64::new(0),
            slots,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Slots> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Slots> {
        let slots = self.lock();
        self.version.fetch_add(1, Ordering::Release);
        slots
    }

    /// Takes the lock for what changes nothing that is found.
    fn lock(&self) -> RwLockWriteGuard<'_, Slots> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of changes so far.
    #[inline]
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Returns what is stored under a key. A fill comes before an older entry, and one with the `tag` before all.
    ///
    /// # Errors
    ///
    /// Those of a header that cannot be copied.
    pub(super) fn find(
        &'static self,
        hash: &HashBinary,
        key: &CacheKey,
        tag: Option<&[u8]>,
    ) -> Result<Option<Found>> {
        if tag.is_none() {
            if let Some(found) = hot::read(self, hash, key, Found::kept) {
                return Ok(Some(found));
            }
        }
        let url = url_of(hash);
        let slots = self.read();
        if !slots.fills.is_empty() {
            let fills = slots.fills.get(&url);
            let mut fills = fills.into_iter().flatten().rev();
            let found = fills.find(|fill| match tag {
                Some(tag) => fill.tag.as_bytes() == tag,
                None => !fill.is_purged() && fill.name.is_of(hash, key),
            });
            if let Some(fill) = found {
                return Ok(Some(Found::Fill(fill.clone())));
            }
        }
        if tag.is_some() {
            return Ok(None);
        }
        let mut entries = slots.entries.get(&url).into_iter().flatten();
        let Some(entry) = entries.find(|entry| entry.name.is_of(hash, key)) else {
            return Ok(None);
        };
        if entry.body.small().is_some() {
            hot::note(self, self.version(), hash, entry);
            return Found::copy(entry).map(Some);
        }
        entry.mark();
        Ok(Some(Found::Entry(entry.clone())))
    }

    /// Returns the number of purges so far.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Has a fill be found. One that was asked for in an earlier epoch is not stored if it was purged since.
    pub(super) fn begin(&self, fill: Arc<Fill>, asked: Option<u64>) {
        let url = fill.name.url_hash();
        let mut slots = self.write();
        let purges = asked.map_or(0, |asked| self.epoch().saturating_sub(asked));
        let purges = usize::try_from(purges).unwrap_or(usize::MAX);
        let mut last = slots.purges.iter().rev().take(purges);
        if purges > slots.purges.len() || last.any(|purge| purge.is_of(&fill.name)) {
            fill.purge();
        }
        slots.fills.entry(url).or_default().push(fill);
    }

    /// Begins an epoch.
    fn note(&self, slots: &mut Slots, purge: Purge) {
        if slots.purges.len() == PURGES {
            slots.purges.pop_front();
        }
        slots.purges.push_back(purge);
        self.epoch.fetch_add(1, Ordering::Release);
    }

    pub(super) fn end(&self, fill: &Arc<Fill>) {
        let url = fill.name.url_hash();
        let mut slots = self.write();
        if let Some(fills) = slots.fills.get_mut(&url) {
            fills.retain(|other| !Arc::ptr_eq(other, fill));
            if fills.is_empty() {
                slots.fills.remove(&url);
            }
        }
    }

    /// Puts an entry in, and returns the one whose place it takes: that of the same name, or the oldest of a URL that has as
    /// many as it may.
    pub(super) fn insert(&self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let url = entry.name.url_hash();
        let mut slots = self.write();
        slots.queue.push_back((url, entry.id));
        let entries = slots
            .entries
            .entry(url)
            .or_insert_with(|| Vec::with_capacity(1));
        let same = entries.iter().position(|other| other.name == entry.name);
        let replaced = match same.or_else(|| superfluous(entries)) {
            Some(at) => Some(std::mem::replace(&mut entries[at], entry)),
            None => {
                entries.push(entry);
                slots.len += 1;
                None
            }
        };
        slots.tidy();
        replaced
    }

    /// Puts another meta in place of that of the first entry of a URL for which `meta` gives one, with the size of the entry
    /// then. Returns the size before and after.
    pub(super) fn replace(
        &self,
        url: u64,
        meta: impl Fn(&Entry) -> Option<Result<(Meta, usize)>>,
    ) -> Result<Option<(usize, usize)>> {
        let mut slots = self.write();
        let entries = slots.entries.get_mut(&url);
        for entry in entries.into_iter().flatten() {
            if let Some(replaced) = meta(entry) {
                let (meta, size) = replaced?;
                let before = entry.size;
                *entry = Arc::new(Entry {
                    id: entry.id,
                    name: entry.name.clone(),
                    meta,
                    body: entry.body.clone(),
                    size,
                    used: AtomicBool::new(true),
                });
                return Ok(Some((before, size)));
            }
        }
        Ok(None)
    }

    /// Removes the entries of a URL whose names fit. Fills of such a name are not stored.
    pub(super) fn remove(&self, url: u64, fits: impl Fn(&Name) -> bool) -> Vec<Arc<Entry>> {
        let mut slots = self.lock();
        self.note(&mut slots, Purge::Url(url));
        // As it is for most that is changed by POST.
        if !slots.entries.contains_key(&url) && !slots.fills.contains_key(&url) {
            return Vec::new();
        }
        self.version.fetch_add(1, Ordering::Release);
        for fill in slots.fills.get(&url).into_iter().flatten() {
            if fits(&fill.name) {
                fill.purge();
            }
        }
        let mut removed = Vec::new();
        if let Some(entries) = slots.entries.get_mut(&url) {
            take(entries, &fits, &mut removed);
            if entries.is_empty() {
                slots.entries.remove(&url);
            }
        }
        slots.len -= removed.len();
        slots.tidy();
        removed
    }

    /// As [`Self::remove`], of all URLs that begin with `prefix`.
    pub(super) fn remove_all(&self, prefix: &Arc<[u8]>) -> Vec<Arc<Entry>> {
        let fits = |name: &Name| name.url().starts_with(prefix);
        let mut slots = self.write();
        self.note(&mut slots, Purge::Prefix(prefix.clone()));
        for fill in slots.fills.values().flatten() {
            if fits(&fill.name) {
                fill.purge();
            }
        }
        let mut removed = Vec::new();
        slots.entries.retain(|_, entries| {
            take(entries, fits, &mut removed);
            !entries.is_empty()
        });
        slots.len -= removed.len();
        slots.tidy();
        removed
    }

    /// Gives the oldest entry its turn: it goes, unless it was used since the last one and is not `forced`.
    pub(super) fn turn(&self, forced: bool) -> Turn {
        let mut slots = self.write();
        while let Some((url, id)) = slots.queue.pop_front() {
            let Some(entries) = slots.entries.get_mut(&url) else {
                continue;
            };
            let Some(at) = entries.iter().position(|entry| entry.id == id) else {
                continue;
            };
            if entries[at].used.swap(false, Ordering::Relaxed) && !forced {
                slots.queue.push_back((url, id));
                return Turn::Spared;
            }
            let entry = entries.swap_remove(at);
            if entries.is_empty() {
                slots.entries.remove(&url);
            }
            slots.len -= 1;
            return Turn::Evicted(entry);
        }
        Turn::Empty
    }
}

/// What came of an entry's turn.
pub(super) enum Turn {
    /// There is none.
    Empty,
    /// It was used, and goes round once more.
    Spared,
    /// It has made room.
    Evicted(Arc<Entry>),
}

/// Returns the place of the oldest entry of a URL that has as many as it may, one that was not used if there is one.
fn superfluous(entries: &[Arc<Entry>]) -> Option<usize> {
    let rank = |(_, entry): &(usize, &Arc<Entry>)| (entry.used.load(Ordering::Relaxed), entry.id);
    let full = entries.len() >= MOST_OF_URL;
    let oldest = full.then(|| entries.iter().enumerate().min_by_key(rank));
    oldest.flatten().map(|(at, _)| at)
}

fn take(entries: &mut Vec<Arc<Entry>>, fits: impl Fn(&Name) -> bool, out: &mut Vec<Arc<Entry>>) {
    entries.retain(|entry| {
        let fits = fits(&entry.name);
        if fits {
            out.push(entry.clone());
        }
        !fits
    });
}

impl Slots {
    /// Keeps what is gone from filling the queue.
    fn tidy(&mut self) {
        if self.queue.len() > 64 + 2 * self.len {
            let live: HashSet<u64, Hashed> =
                (self.entries.values().flatten().map(|entry| entry.id)).collect();
            self.queue.retain(|(_, id)| live.contains(id));
        }
    }
}
