//! Numbers by a seed: the choices of a client, and the bytes of every body.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

/// Scatters the bits of a number (the end of SplitMix64).
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A sequence of numbers that a seed determines.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The sequence of one of those who share a seed.
    pub fn of(seed: u64, name: &str, index: usize) -> Self {
        let name = name.bytes().fold(0, |sum, byte| mix(sum ^ u64::from(byte)));
        Self(mix(seed ^ name).wrapping_add(mix(index as u64 + 1)))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub fn between(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    pub fn index(&mut self, len: usize) -> usize {
        self.between(0..len as u64) as usize
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.between(0..100) < percent
    }

    pub fn pause(&mut self, milliseconds: Range<u64>) -> Duration {
        Duration::from_millis(self.between(milliseconds))
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.index(last + 1);
            items.swap(last, other);
        }
    }
}

/// Fills in the bytes that the body of a seed has from an offset on.
pub fn fill(seed: u64, offset: u64, out: &mut [u8]) {
    let (mut at, mut out) = (offset, out);
    while !out.is_empty() {
        let word = mix(seed.wrapping_add((at / 8 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let word = &word.to_le_bytes()[(at % 8) as usize..];
        let len = word.len().min(out.len());
        let (now, rest) = out.split_at_mut(len);
        now.copy_from_slice(&word[..len]);
        at += len as u64;
        out = rest;
    }
}

/// Returns those bytes.
pub fn piece(seed: u64, offset: u64, len: usize) -> Bytes {
    let mut piece = vec![0; len];
    fill(seed, offset, &mut piece);
    piece.into()
}

/// Compares what came with the body of a seed, piece by piece.
pub struct Checked {
    seed: u64,
    pub len: u64,
    expected: Vec<u8>,
}

impl Checked {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            len: 0,
            expected: Vec::new(),
        }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    ///
    /// The offset of the first byte that is wrong.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), u64> {
        self.expected.resize(piece.len(), 0);
        fill(self.seed, self.len, &mut self.expected);
        if let Some(wrong) = piece.iter().zip(&self.expected).position(|(a, b)| a != b) {
            return Err(self.len + wrong as u64);
        }
        self.len += piece.len() as u64;
        Ok(())
    }
}

/// A sum over bytes (FNV-1a), by which an origin says what was uploaded.
#[derive(Clone, Copy)]
pub struct Sum(pub u64);

impl Sum {
    pub const NONE: Self = Self(0xcbf2_9ce4_8422_2325);

    pub fn add(self, bytes: &[u8]) -> Self {
        let add = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(bytes.iter().fold(self.0, add))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_the_same_however_it_is_cut() {
        let whole = piece(7, 0, 1000);
        for at in 0..40 {
            assert_eq!(piece(7, at, 500), whole[at as usize..][..500]);
        }
    }

    #[test]
    fn a_wrong_byte_is_found() {
        let mut body = piece(7, 0, 1000).to_vec();
        body[777] ^= 1;
        let mut checked = Checked::new(7);
        assert_eq!(checked.take(&body[..500]), Ok(()));
        assert_eq!(checked.take(&body[500..]), Err(777));
        assert_eq!(Checked::new(8).take(&piece(7, 0, 100)), Err(0));
    }
}
