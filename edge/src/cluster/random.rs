//! Random numbers for choices, a generator for each worker.

use std::hash::{BuildHasher, RandomState};

/// A generator (xorshift64*) that nobody can seed. It is quick, and not for secrets.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        // Hashers are seeded by the system. Zero would stay zero.
        Self(RandomState::new().hash_one(0u8) | 1)
    }
}

impl Random {
    /// Makes a generator whose numbers are the same each time.
    #[cfg(test)]
    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Returns the next number.
    #[inline]
    pub(crate) fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        // The upper half is the better one.
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32
    }

    /// Returns a number below `end`, which is above 0.
    #[inline]
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        let point = u64::from(self.next()) << 32 | u64::from(self.next());
        // The product of two numbers of 64 bits.
        ((u128::from(point) * u128::from(end)) >> 64) as u64
    }
}
