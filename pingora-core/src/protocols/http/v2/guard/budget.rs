//! The cost of a client's frames, against what it gets done. The clock is looked at only when nothing is left.
//!
//! The `h2` crate has limits of its own for streams reset before they are looked at, resets that the client
//! makes the server send, CONTINUATION, header lists and empty or small DATA. What it has no limit for is
//! weighed here: a frame that costs the server work and gets nothing done takes from a budget, and work that is
//! done, for which the client has to pay too, gives back to it.
//!
//! | what | units |
//! |---|---|
//! | RST_STREAM | -2: a request that was begun for nothing |
//! | SETTINGS, PING | -2: each is answered |
//! | PRIORITY, unknown types | -1 |
//! | a request | +1: half of them may be given up |
//! | a KiB of responses | +1: a client may measure its line while it loads |
//! | 100 ms | +1 |

use h2::Reason;
use tokio::time::Instant;

/// The units that a client may spend at once: a whole window of 100 streams given up, and half as many again.
const FULL: u32 = 300;
/// For how long one unit is given.
const UNIT_MILLIS: u128 = 100;
/// For how many bytes written one unit is given.
const UNIT_BYTES: usize = 1024;

/// The budget of one client.
#[derive(Debug)]
pub(super) struct Budget {
    units: u32,
    written: usize,
    refilled: Instant,
}

impl Budget {
    pub(super) fn new() -> Self {
        Budget {
            units: FULL,
            written: 0,
            refilled: Instant::now(),
        }
    }

    pub(super) fn give(&mut self, units: u32) {
        self.units = self.units.saturating_add(units).min(FULL);
    }

    /// Gives for bytes that were sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written >= UNIT_BYTES {
            let units = u32::try_from(self.written / UNIT_BYTES).unwrap_or(FULL);
            self.written %= UNIT_BYTES;
            self.give(units);
        }
    }

    /// Takes so much.
    ///
    /// # Errors
    /// ENHANCE_YOUR_CALM when there is not so much left.
    pub(super) fn take(&mut self, cost: u32) -> Result<(), Reason> {
        if self.units < cost {
            self.give_for_time();
        }
        match self.units.checked_sub(cost) {
            Some(left) => {
                self.units = left;
                Ok(())
            }
            None => Err(Reason::ENHANCE_YOUR_CALM),
        }
    }

    fn give_for_time(&mut self) {
        let now = Instant::now();
        let since = std::mem::replace(&mut self.refilled, now);
        let units = now.saturating_duration_since(since).as_millis() / UNIT_MILLIS;
        self.give(u32::try_from(units).unwrap_or(FULL));
    }
}
