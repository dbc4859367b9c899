//! What a client's frames cost, against what it gets done. No I/O; the clock is only looked at when the
//! budget is used up.
//!
//! The `h2` crate has limits of its own for streams reset before they are looked at, resets that the client
//! makes the server send, CONTINUATION, header lists and empty or small DATA. What it has no limit for is
//! weighed here: a frame that costs the server work and gets nothing done takes from a budget, and work that is
//! done, for which the client has to pay too, gives back to it.
//!
//! | frame | budget |
//! |---|---|
//! | RST_STREAM | -2: a request that was begun for nothing |
//! | SETTINGS, PING | -2: each is answered |
//! | PRIORITY, unknown types | -1 |
//! | HEADERS | +1: half of the requests may be given up |
//! | a KiB of responses | +1: a client may measure its line while it loads |
//! | 100 ms | +1 |

use h2::Reason;
use tokio::time::Instant;

/// What a client may spend at once: a whole window of 100 streams given up, and half as many again.
const BUDGET: u32 = 300;
/// For how long one unit is given.
const UNIT_MILLIS: u128 = 100;
/// For how many bytes written one unit is given.
const UNIT_BYTES: usize = 1024;

/// The length of a frame's head.
const HEAD: usize = 9;
/// The length of what a client sends before its first frame (RFC 9113 section 3.4).
const PREFACE: usize = 24;

const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const LAST_KNOWN: u8 = 0x9;
const ACK: u8 = 0x1;

/// Follows the frames of one connection.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes until the next frame begins.
    skip: usize,
    head: [u8; HEAD],
    /// How much of the head is there.
    have: usize,
    budget: u32,
    written: usize,
    refilled: Instant,
}

impl Default for Frames {
    fn default() -> Self {
        Frames {
            skip: PREFACE,
            head: [0; HEAD],
            have: 0,
            budget: BUDGET,
            written: 0,
            refilled: Instant::now(),
        }
    }
}

impl Frames {
    /// Counts what was received.
    ///
    /// # Errors
    /// The reason to give when the client has used up its budget.
    pub(super) fn received(&mut self, mut bytes: &[u8]) -> Result<(), Reason> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let n = (HEAD - self.have).min(bytes.len());
            if n == 0 {
                return Ok(());
            }
            self.head[self.have..self.have + n].copy_from_slice(&bytes[..n]);
            self.have += n;
            bytes = &bytes[n..];
            if self.have == HEAD {
                self.have = 0;
                let [a, b, c, kind, flags, ..] = self.head;
                self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
                self.weigh(kind, flags)?;
            }
        }
    }

    /// Counts what was sent.
    pub(super) fn sent(&mut self, n: usize) {
        self.written += n;
        if self.written >= UNIT_BYTES {
            let units = u32::try_from(self.written / UNIT_BYTES).unwrap_or(BUDGET);
            self.written %= UNIT_BYTES;
            self.give(units);
        }
    }

    fn give(&mut self, units: u32) {
        self.budget = self.budget.saturating_add(units).min(BUDGET);
    }

    fn weigh(&mut self, kind: u8, flags: u8) -> Result<(), Reason> {
        let cost = match kind {
            HEADERS => {
                self.give(1);
                return Ok(());
            }
            RST_STREAM => 2,
            SETTINGS | PING if flags & ACK == 0 => 2,
            PRIORITY => 1,
            kind if kind > LAST_KNOWN => 1,
            _ => return Ok(()),
        };
        if self.budget < cost {
            self.give_for_time();
        }
        match self.budget.checked_sub(cost) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => Err(super::super::server::TOO_MUCH),
        }
    }

    fn give_for_time(&mut self) {
        let now = Instant::now();
        let since = std::mem::replace(&mut self.refilled, now);
        let units = now.saturating_duration_since(since).as_millis() / UNIT_MILLIS;
        self.give(u32::try_from(units).unwrap_or(BUDGET));
    }
}

#[cfg(test)]
mod tests;
