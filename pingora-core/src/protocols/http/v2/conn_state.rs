//! State shared by the parts of one connection: the guard of its transport, the task that drives it, and its
//! streams.
//!
//! ```text
//!  origin ---> Out of a stream ---> h2 ---> Guard ---> socket
//!                  queued         handed      |
//!                                             +--- blocked: the socket takes nothing
//! ```
//!
//! `h2` bounds what it holds for each stream, not what it holds for all of them. Here the bytes of all streams are
//! counted, and while the socket is blocked and there are more of them than the limit, no stream takes more from its
//! origin. A socket that takes bytes lets every stream go on, so that streams whose windows their client has closed
//! cannot hold up the others, however much of them is queued.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use crate::limits::LIMITS;

/// The state of one connection. Whatever is counted belongs to its worker: no other thread writes it, unless the runtime
/// moves the connection and its streams between threads. Then a count may be off by one piece for a moment.
#[derive(Debug, Default)]
pub(crate) struct ConnState {
    limit: usize,
    /// The endpoint's own time for a request body between two pieces.
    read_timeout: Option<Duration>,
    /// Bytes that streams have taken from their origins and have not handed to `h2`.
    queued: AtomicUsize,
    /// Bytes handed to `h2` and not written yet; of streams that were reset also those that never will be, until the
    /// next time that everything is written.
    handed: AtomicUsize,
    /// True if the socket took less than it was given, the last time.
    blocked: AtomicBool,
    /// The number of times that it took more after that.
    unblocked: AtomicU32,
    /// True if anybody waits.
    awaited: AtomicBool,
    waiting: Mutex<Waiting>,
    /// The field block that the client has begun and not ended, as a number other than that of the one before; or 0.
    field_block: AtomicU32,
    /// The number of frames by which the client may have opened windows.
    opened: AtomicU32,
    /// The number of streams whose application has ended.
    ended: AtomicU32,
    /// The number of requests that turned out to be malformed.
    malformed: AtomicU32,
    /// The time for which the client may take nothing of a response, in milliseconds; 0 stands for the default.
    write_timeout: AtomicU64,
    leaving: AtomicBool,
    /// True if a stream has asked for the end of the connection.
    ending: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Goes up each time that all are woken.
    round: u64,
    streams: Vec<Option<Waker>>,
    driver: Option<Waker>,
}

/// The place of a stream among those that wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    round: u64,
    at: usize,
}

impl ConnState {
    /// `limit`: bytes that may stand between the origins and the socket; with none at all nothing would ever pass.
    pub(crate) fn new(limit: usize) -> Self {
        ConnState {
            limit: limit.max(1),
            ..ConnState::default()
        }
    }

    /// Sets the endpoint's own time for a request body between two pieces.
    pub(crate) fn with_read_timeout(self, read_timeout: Option<Duration>) -> Self {
        ConnState {
            read_timeout,
            ..self
        }
    }

    /// See [`ConnState::with_read_timeout`].
    pub(super) fn read_timeout(&self) -> Option<Duration> {
        self.read_timeout
    }

    /// Counts bytes that a stream has taken from its origin.
    pub(super) fn queued(&self, bytes: usize) {
        self.queued.fetch_add(bytes, Relaxed);
    }

    /// Counts bytes of those that a stream has handed to `h2`.
    pub(super) fn handed_over(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Relaxed);
        self.handed.fetch_add(bytes, Relaxed);
    }

    /// Counts bytes of those that a stream has given up.
    pub(super) fn dropped(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Relaxed);
    }

    /// Counts bytes that the socket took, of data and of all else.
    pub(super) fn written(&self, bytes: usize) {
        let handed = self.handed.load(Relaxed);
        self.handed.store(handed.saturating_sub(bytes), Relaxed);
    }

    /// Notes whether the socket took all that it was given.
    pub(super) fn set_blocked(&self, blocked: bool) {
        let before = self.blocked.load(Relaxed);
        self.blocked.store(blocked, Relaxed);
        if before && !blocked {
            // It takes bytes in their order, those of responses among them.
            let unblocked = self.unblocked.load(Relaxed);
            self.unblocked.store(unblocked.wrapping_add(1), Relaxed);
        }
    }

    fn held(&self) -> usize {
        self.queued
            .load(Relaxed)
            .saturating_add(self.handed.load(Relaxed))
    }

    /// Returns whether no stream may take more from its origin. What was handed over leaves before long if the socket
    /// takes it; what is queued may wait for windows, and must not stop the others.
    fn is_full(&self) -> bool {
        let leaving = if self.blocked.load(Relaxed) {
            self.held()
        } else {
            self.handed.load(Relaxed)
        };
        leaving >= self.limit
    }

    /// Returns whether streams had better take little at a time.
    pub(super) fn is_crowded(&self) -> bool {
        self.held() >= self.limit / 2
    }

    /// Waits until a stream may take more from its origin. `place` is its own, and kept between the polls.
    pub(super) fn poll_room(&self, place: &mut Option<Place>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_full() {
            self.leave(place);
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock();
        // Whoever makes room wakes under the lock: what it has changed before is seen here, or it finds the waker.
        if !self.is_full() {
            return Poll::Ready(());
        }
        match place {
            Some(Place { round, at }) if *round == waiting.round => {
                waiting.streams[*at] = Some(cx.waker().clone());
            }
            _ => {
                *place = Some(Place {
                    round: waiting.round,
                    at: waiting.streams.len(),
                });
                waiting.streams.push(Some(cx.waker().clone()));
                self.awaited.store(true, Relaxed);
                // On another thread it may have looked a moment ago, and not have seen this one.
                if let Some(driver) = &waiting.driver {
                    driver.wake_by_ref();
                }
            }
        }
        Poll::Pending
    }

    /// Ends a stream's wait.
    pub(super) fn leave(&self, place: &mut Option<Place>) {
        if let Some(Place { round, at }) = place.take() {
            let mut waiting = self.waiting.lock();
            if waiting.round == round {
                waiting.streams[at] = None;
            }
        }
    }

    /// Says whom to wake when a stream begins to wait.
    pub(crate) fn set_driver(&self, driver: &Waker) {
        self.waiting.lock().driver = Some(driver.clone());
    }

    /// After a poll of the connection that has to wait: `h2` has written all that it can, unless the socket is blocked.
    pub(crate) fn settle(&self) {
        let blocked = self.blocked.load(Relaxed);
        if !blocked {
            self.handed.store(0, Relaxed);
        }
        if self.awaited.load(Relaxed) && (!blocked || self.held() <= self.limit / 2) {
            self.wake_all();
        }
    }

    fn wake_all(&self) {
        let mut waiting = self.waiting.lock();
        self.awaited.store(false, Relaxed);
        waiting.round += 1;
        let streams = std::mem::take(&mut waiting.streams);
        drop(waiting);
        for stream in streams.into_iter().flatten() {
            stream.wake();
        }
    }

    /// Notes the field block that is open; 0 stands for none.
    pub(super) fn set_field_block(&self, number: u32) {
        self.field_block.store(number, Relaxed);
    }

    /// The field block that the client has begun and not ended.
    pub(crate) fn field_block(&self) -> u32 {
        self.field_block.load(Relaxed)
    }

    /// Notes how often the client may have opened windows.
    pub(super) fn set_opened(&self, frames: u32) {
        self.opened.store(frames, Relaxed);
    }

    /// How often the client may have let more of its responses come, by opening windows or by reading from a socket that was
    /// full, or an application has left one to the connection: a number that changes with each time.
    pub(crate) fn progress(&self) -> u32 {
        let by_client = self
            .opened
            .load(Relaxed)
            .wrapping_add(self.unblocked.load(Relaxed));
        by_client.wrapping_add(self.ended())
    }

    /// Notes that the application of a stream has ended, and the time that the client has for the rest of the response.
    pub(super) fn note_end(&self, write_timeout: Option<Duration>) {
        let timeout = write_timeout.map_or(0, |timeout| timeout.as_millis().max(1));
        let timeout = u64::try_from(timeout).unwrap_or(u64::MAX);
        self.write_timeout.store(timeout, Relaxed);
        self.ended.fetch_add(1, Relaxed);
    }

    /// Counts a request that is malformed, as its head shows or what follows it.
    pub(crate) fn note_malformed(&self) {
        self.malformed.fetch_add(1, Relaxed);
    }

    /// The number of requests that were malformed.
    pub(crate) fn malformed(&self) -> u32 {
        self.malformed.load(Relaxed)
    }

    /// The number of streams whose application has ended, from 0 again after the last number.
    pub(crate) fn ended(&self) -> u32 {
        self.ended.load(Relaxed)
    }

    /// The time for which the client may take nothing of what it has not taken yet: that of the last response.
    pub(crate) fn write_timeout(&self) -> Duration {
        match self.write_timeout.load(Relaxed) {
            0 => LIMITS.client_write,
            timeout => Duration::from_millis(timeout),
        }
    }

    /// Asks the task that drives the connection to end it once its streams are done.
    pub(super) fn ask_end(&self) {
        if self.ending.load(Relaxed) || self.ending.swap(true, Relaxed) {
            return;
        }
        if let Some(driver) = &self.waiting.lock().driver {
            driver.wake_by_ref();
        }
    }

    /// Returns whether a stream has asked for the end of the connection.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Relaxed)
    }

    /// Tells the streams that the server shuts down.
    pub(crate) fn set_leaving(&self) {
        self.leaving.store(true, Relaxed);
    }

    /// Returns whether the server shuts down.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed)
    }
}

#[cfg(test)]
mod tests;
