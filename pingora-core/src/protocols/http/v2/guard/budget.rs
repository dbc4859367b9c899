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
//! | SETTINGS, PING | -2: each is answered; a PING for each write of anything but answers to them is free |
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
/// The cost of a frame that has to be answered.
const ANSWERED: u32 = 2;
/// The bytes of an answer to SETTINGS, and to PING.
const SETTINGS_ACK: usize = 9;
const PING_ACK: usize = 17;
/// The PINGs that may be free at once.
const FREE_PINGS: u32 = 100;

/// The budget of one client.
#[derive(Debug)]
pub(super) struct Budget {
    units: u32,
    written: usize,
    /// The bytes of answers that are to be written.
    answers: usize,
    /// Clients measure their line with each piece of a response that they receive, small ones too.
    free_pings: u32,
    refilled: Instant,
}

impl Budget {
    pub(super) fn new() -> Self {
        Budget {
            units: FULL,
            written: 0,
            answers: 0,
            free_pings: 0,
            refilled: Instant::now(),
        }
    }

    pub(super) fn give(&mut self, units: u32) {
        self.units = self.units.saturating_add(units).min(FULL);
    }

    /// Gives for bytes that were sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        let answers = self.answers.min(bytes);
        self.answers -= answers;
        if bytes > answers {
            self.free_pings = FREE_PINGS.min(self.free_pings + 1);
        }
        self.written += bytes;
        if self.written >= UNIT_BYTES {
            let units = u32::try_from(self.written / UNIT_BYTES).unwrap_or(FULL);
            self.written %= UNIT_BYTES;
            self.give(units);
        }
    }

    /// Takes for SETTINGS that have to be answered.
    ///
    /// # Errors
    /// As [`take`](Budget::take).
    pub(super) fn settings(&mut self) -> Result<(), Reason> {
        self.answers += SETTINGS_ACK;
        self.take(ANSWERED)
    }

    /// Takes for a PING that has to be answered.
    ///
    /// # Errors
    /// As [`take`](Budget::take).
    pub(super) fn ping(&mut self) -> Result<(), Reason> {
        self.answers += PING_ACK;
        match self.free_pings.checked_sub(1) {
            Some(left) => {
                self.free_pings = left;
                Ok(())
            }
            None => self.take(ANSWERED),
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
