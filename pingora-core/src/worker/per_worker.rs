//! A value for each worker, made when it is first wanted and then found without a lock.

use std::sync::OnceLock;

/// The first segment has this many slots, each further one twice as many as the one before.
const FIRST: usize = 8;
/// Enough segments for as many threads as there can be.
const SEGMENTS: usize = 28;

/// On a cache line of its own, and the next one too, because lines are fetched in pairs.
#[repr(align(128))]
struct Slot<V>(OnceLock<V>);

/// See the module.
pub(crate) struct PerWorker<V> {
    segments: [OnceLock<Box<[Slot<V>]>>; SEGMENTS],
}

/// The segment of a slot, and the place in it.
fn place(index: usize) -> (usize, usize) {
    let n = index + FIRST;
    let segment = (n.ilog2() - FIRST.ilog2()) as usize;
    (segment, n - (FIRST << segment))
}

impl<V> PerWorker<V> {
    pub(crate) fn new() -> Self {
        PerWorker {
            segments: [const { OnceLock::new() }; SEGMENTS],
        }
    }

    /// The value of the calling worker, if it has one.
    pub(crate) fn here(&self) -> Option<&V> {
        self.get(super::current())
    }

    pub(crate) fn get(&self, index: usize) -> Option<&V> {
        let (segment, offset) = place(index);
        self.segments.get(segment)?.get()?[offset].0.get()
    }

    pub(crate) fn get_or_init(&self, index: usize, init: impl FnOnce() -> V) -> &V {
        let (segment, offset) = place(index);
        let slots = self.segments[segment].get_or_init(|| {
            (0..FIRST << segment)
                .map(|_| Slot(OnceLock::new()))
                .collect()
        });
        slots[offset].0.get_or_init(init)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &V> {
        self.segments
            .iter()
            .filter_map(OnceLock::get)
            .flat_map(|slots| slots.iter())
            .filter_map(|slot| slot.0.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_a_place_of_its_own() {
        let mut expected = (0, 0);
        for index in 0..1000 {
            assert_eq!(place(index), expected, "{index}");
            expected.1 += 1;
            if expected.1 == FIRST << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
    }

    #[test]
    fn values_are_made_once() {
        let slots = PerWorker::new();
        assert!(slots.get(20).is_none());
        assert_eq!(*slots.get_or_init(0, || 1), 1);
        assert_eq!(*slots.get_or_init(20, || 2), 2);
        assert_eq!(*slots.get_or_init(20, || 3), 2);
        assert_eq!(slots.get(20), Some(&2));
        assert!(slots.get(21).is_none());
    }
}
