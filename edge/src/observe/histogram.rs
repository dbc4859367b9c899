//! Histograms of durations, with the same buckets everywhere, so that they can be added up.

use std::time::Duration;

use super::cell::{Cell, Merge};

/// The steps of one decade. From one to the next it is at most a quarter more, which bounds the error of a quantile.
const STEPS: [u64; 13] = [
    100, 125, 150, 175, 200, 250, 300, 350, 400, 500, 600, 700, 800,
];
/// Decades, the first of which begins at 10 µs.
const DECADES: usize = 7;
/// Bounds: up to 100 s.
pub const BOUNDS: usize = STEPS.len() * DECADES + 1;
/// Nanoseconds in the unit of `STEPS`, in the first decade.
const FIRST: u64 = 100;

/// The largest duration of each bucket, in nanoseconds. What is longer goes to one bucket more.
static UP_TO: [u64; BOUNDS] = bounds();
/// The bucket of the shortest duration for each of the ranges of [`range`].
static BUCKETS: [u8; RANGES] = buckets();

/// Eight ranges for each power of two; the last one begins above 100 s.
const RANGES: usize = 37 * 8;

const fn bounds() -> [u64; BOUNDS] {
    let mut all = [0; BOUNDS];
    let (mut index, mut unit) = (0, FIRST);
    while index < BOUNDS {
        all[index] = STEPS[index % STEPS.len()] * unit;
        index += 1;
        if index % STEPS.len() == 0 {
            unit *= 10;
        }
    }
    all
}

/// Returns the range of a duration: the power of two, and the three bits below.
#[inline]
const fn range(nanos: u64) -> usize {
    let power = 63 - (nanos | 8).leading_zeros();
    let range = (power as usize) * 8 + ((nanos >> (power - 3)) & 7) as usize;
    if range < RANGES {
        range
    } else {
        RANGES - 1
    }
}

const fn buckets() -> [u8; RANGES] {
    let mut all = [0; RANGES];
    let mut at = 3 * 8;
    while at < RANGES {
        let (power, eighth) = (at / 8, (at % 8) as u64);
        let least = (8 + eighth) << (power - 3);
        let mut bucket = 0;
        while bucket < BOUNDS && UP_TO[bucket] < least {
            bucket += 1;
        }
        all[at] = bucket as u8;
        at += 1;
    }
    all
}

/// Returns the bucket of a duration.
#[inline]
fn bucket(nanos: u64) -> usize {
    // A range is narrower than the buckets that it touches, so it touches two at most. The last one is above all bounds.
    let first = usize::from(BUCKETS[range(nanos)]);
    let longer = UP_TO.get(first).is_some_and(|bound| nanos > *bound);
    first + usize::from(longer)
}

/// A histogram of one thread.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Cell; BOUNDS + 1],
    /// Nanoseconds.
    sum: Cell,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| Cell::default()),
            sum: Cell::default(),
        }
    }
}

impl Merge for Histogram {
    fn merge(&self, other: &Self) {
        self.buckets.merge(&other.buckets);
        self.sum.merge(&other.sum);
    }
}

impl Histogram {
    /// Counts a duration.
    #[inline]
    pub fn add(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)].add(1);
        self.sum.add(nanos);
    }

    /// Returns what was counted.
    pub fn read(&self) -> Durations {
        Durations {
            buckets: self.buckets.iter().map(Cell::get).collect(),
            nanos: self.sum.get(),
        }
    }
}

/// Durations that were counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// By bucket; empty for none.
    buckets: Vec<u64>,
    nanos: u64,
}

/// Returns the largest duration of each bucket, in seconds. What is longer is in one bucket more.
pub fn seconds() -> impl Iterator<Item = f64> {
    UP_TO.iter().map(|nanos| *nanos as f64 / 1e9)
}

impl Durations {
    /// Returns the buckets that hold any duration: the index of each, and the number.
    pub fn counted(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let all = self.buckets.iter().copied().enumerate();
        all.filter(|(_, count)| *count > 0)
    }

    /// Returns the number of durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns their sum in seconds.
    pub fn seconds(&self) -> f64 {
        self.nanos as f64 / 1e9
    }

    /// Returns the duration in seconds that this share of all is not longer than, exact to a quarter: for 0.99, that of
    /// the slowest hundredth. `None` when there are none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        let rank = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
        let mut below = 0;
        for (index, n) in self.buckets.iter().enumerate() {
            if below + n >= rank {
                let from = index.checked_sub(1).map_or(0, |before| UP_TO[before]);
                let to = UP_TO.get(index).copied().unwrap_or(from);
                // As if they were spread evenly over their bucket.
                let part = (rank - below) as f64 / *n as f64;
                return Some((from as f64 + (to - from) as f64 * part) / 1e9);
            }
            below += n;
        }
        None
    }

    /// Returns the number of durations that are not longer than each of `bounds`, in nanoseconds, which must be bounds of
    /// buckets in their order.
    pub fn up_to<'a>(&'a self, bounds: &'a [u64]) -> impl Iterator<Item = u64> + use<'a> {
        let mut buckets = UP_TO.iter().zip(&self.buckets).peekable();
        let mut sum = 0;
        bounds.iter().map(move |bound| {
            while let Some((_, n)) = buckets.next_if(|(up_to, _)| *up_to <= bound) {
                sum += n;
            }
            sum
        })
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        if self.buckets.is_empty() {
            self.buckets = vec![0; other.buckets.len()];
        }
        for (own, other) in self.buckets.iter_mut().zip(&other.buckets) {
            *own += other;
        }
        self.nanos = self.nanos.wrapping_add(other.nanos);
    }

    /// Takes away those that were counted before. A count that has begun anew stays as it is.
    pub fn since(&mut self, before: &Self) {
        if self.count() < before.count() {
            return;
        }
        for (own, before) in self.buckets.iter_mut().zip(&before.buckets) {
            *own = own.saturating_sub(*before);
        }
        self.nanos = self.nanos.wrapping_sub(before.nanos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_bucket_whose_bound_is_not_below_it() {
        let straight = |nanos| UP_TO.partition_point(|bound| *bound < nanos);
        let mut around: Vec<u64> = (0..64).map(|power| 1 << power).collect();
        around.extend(UP_TO);
        for nanos in around {
            for nanos in nanos.saturating_sub(1)..=nanos.saturating_add(1) {
                assert_eq!(bucket(nanos), straight(nanos), "{nanos}");
            }
        }
        let mut nanos = 0u64;
        while nanos < 200_000_000_000 {
            assert_eq!(bucket(nanos), straight(nanos), "{nanos}");
            nanos += nanos / 97 + 1;
        }
        assert_eq!(bucket(u64::MAX), BOUNDS);
        assert_eq!((UP_TO[0], UP_TO[BOUNDS - 1]), (10_000, 100_000_000_000));
    }

    #[test]
    fn quantiles_are_exact_to_a_quarter() {
        let histogram = Histogram::default();
        for n in 1..=10_000u64 {
            histogram.add(Duration::from_micros(n * 10));
        }
        let all = histogram.read();
        assert_eq!(all.count(), 10_000);
        assert!((all.seconds() - 500.05).abs() < 1e-6, "{}", all.seconds());
        for (share, is) in [(0.5, 0.05), (0.9, 0.09), (0.99, 0.099), (0.0, 10e-6)] {
            let found = all.quantile(share).unwrap();
            assert!(found > is * 0.8 && found < is * 1.25, "{share}: {found}");
        }
        assert_eq!(Durations::default().quantile(0.5), None);
    }

    #[test]
    fn sums_and_differences_are_those_of_the_durations() {
        let (one, other) = (Histogram::default(), Histogram::default());
        one.add(Duration::from_millis(5));
        other.add(Duration::from_millis(50));
        other.add(Duration::from_secs(500));
        let mut both = one.read();
        both.add(&other.read());
        let bounds = [5_000_000, 10_000_000, 50_000_000, 100_000_000_000];
        assert_eq!(both.up_to(&bounds).collect::<Vec<_>>(), [1, 1, 2, 2]);
        let mut sum = Durations::default();
        sum.add(&both);
        sum.since(&one.read());
        assert_eq!(sum, other.read());
        let mut anew = one.read();
        anew.since(&both);
        assert_eq!(anew, one.read());
    }
}
