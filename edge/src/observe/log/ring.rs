//! Lines on their way from a worker to the thread that writes them.
//!
//! One thread puts lines in, one takes them out, and neither waits: each stores a position that the other one loads. A
//! line is a word with its length, and its bytes in whole words.

use std::sync::atomic::{AtomicU64, Ordering};

/// Words of a ring: 1 MiB.
const WORDS: usize = 128 * 1024;
const WORD: usize = 8;

/// A position that one thread stores, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Position(AtomicU64);

/// The lines of one worker that are not written yet.
#[derive(Debug)]
pub(super) struct Ring {
    words: Box<[AtomicU64]>,
    /// Words that were put in. The worker stores it.
    put: Position,
    /// Words that were taken out. The other side stores it.
    taken: Position,
    /// Lines that found no room. The worker stores it.
    dropped: Position,
}

impl Default for Ring {
    fn default() -> Self {
        Self {
            words: (0..WORDS).map(|_| AtomicU64::new(0)).collect(),
            put: Position::default(),
            taken: Position::default(),
            dropped: Position::default(),
        }
    }
}

impl Ring {
    /// Puts a line in, by the one thread that may. Returns the bytes that are in it before and after; `None` when it has
    /// no room.
    pub(super) fn put(&self, line: &[u8]) -> Option<(u64, u64)> {
        let put = self.put.0.load(Ordering::Relaxed);
        let before = put.wrapping_sub(self.taken.0.load(Ordering::Acquire));
        let needed = 1 + line.len().div_ceil(WORD) as u64;
        if before + needed > WORDS as u64 {
            let dropped = self.dropped.0.load(Ordering::Relaxed);
            self.dropped.0.store(dropped + 1, Ordering::Relaxed);
            return None;
        }
        let mut at = put;
        let mut word = |value: u64| {
            self.words[at as usize % WORDS].store(value, Ordering::Relaxed);
            at = at.wrapping_add(1);
        };
        word(line.len() as u64);
        let mut chunks = line.chunks_exact(WORD);
        for chunk in &mut chunks {
            word(number(chunk));
        }
        if !chunks.remainder().is_empty() {
            word(number(chunks.remainder()));
        }
        self.put.0.store(at, Ordering::Release);
        let bytes = WORD as u64;
        Some((before * bytes, (before + needed) * bytes))
    }

    /// Takes all lines out, by the one thread that may: appends each to what is there, and calls `line` behind it.
    pub(super) fn take(&self, to: &mut Vec<u8>, mut line: impl FnMut(&mut Vec<u8>)) {
        let put = self.put.0.load(Ordering::Acquire);
        let mut at = self.taken.0.load(Ordering::Relaxed);
        while at != put {
            let first = at as usize % WORDS;
            let length = self.words[first].load(Ordering::Relaxed) as usize;
            let words = length.div_ceil(WORD);
            let begin = to.len();
            to.reserve(words * WORD);
            let (early, late) = self.words.split_at(first + 1);
            for word in late.iter().chain(early).take(words) {
                to.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
            }
            to.truncate(begin + length);
            at = at.wrapping_add(1 + words as u64);
            line(to);
            // The room of each line is given back at once.
            self.taken.0.store(at, Ordering::Release);
        }
    }

    /// Returns the number of lines that found no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.0.load(Ordering::Relaxed)
    }
}

/// Returns up to eight bytes as a word.
#[inline]
fn number(bytes: &[u8]) -> u64 {
    let mut word = [0; WORD];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(ring: &Ring) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let mut bytes = b"before".to_vec();
        ring.take(&mut bytes, |line| lines.push(line.drain(6..).collect()));
        assert_eq!(bytes, b"before");
        lines
    }

    #[test]
    fn lines_of_any_length_come_out_as_they_went_in() {
        let ring = Ring::default();
        let lines: Vec<Vec<u8>> = (0..40).map(|n| vec![n; usize::from(n)]).collect();
        // More often than it has room for all of them at once.
        for _ in 0..2000 {
            for line in &lines {
                assert!(ring.put(line).is_some());
            }
            assert_eq!(all(&ring), lines);
        }
        assert_eq!(ring.dropped(), 0);
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let ring = Ring::default();
        let line = [b'x'; 56];
        let fit = WORDS / 8;
        for n in 0..fit + 3 {
            assert_eq!(ring.put(&line).is_some(), n < fit);
        }
        assert_eq!((all(&ring).len(), ring.dropped()), (fit, 3));
        assert_eq!(ring.put(&line), Some((0, 64)));
        assert_eq!(ring.put(&vec![0; 2 << 20]), None, "longer than the ring");
    }

    #[test]
    fn two_threads_lose_nothing() {
        const LINES: u64 = 50_000;
        let ring = Ring::default();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for n in 0..LINES {
                    while ring.put(&n.to_ne_bytes()).is_none() {
                        std::thread::yield_now();
                    }
                }
            });
            let mut next = 0u64;
            while next < LINES {
                ring.take(&mut Vec::new(), |line| {
                    assert_eq!(line[..], next.to_ne_bytes());
                    line.clear();
                    next += 1;
                });
                std::thread::yield_now();
            }
        });
    }
}
