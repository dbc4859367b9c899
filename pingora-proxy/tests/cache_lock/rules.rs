//! What must hold at each step of a run, and at its end.

use pingora_cache::lock::LockStatus;
use pingora_cache::{CacheMeta, CachePhase, NoCacheReason};

use crate::app::UNUSABLE;
use crate::origin::Answer;
use crate::world::{Met, State};

const UNUSABLE_FILL: CachePhase = CachePhase::Disabled(NoCacheReason::Custom(UNUSABLE));

/// The place of a response of the origin in the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// It is not stored, or not yet.
    None,
    Open,
    Stored,
    Discarded,
    /// It was stored, and is purged.
    Purged,
}

impl State {
    pub fn permit_granted(&mut self) {
        self.permits += 1;
        if self.permits > 1 + self.aged {
            self.fail("two writers at once");
        }
    }

    /// The lock is about to be given back: what others find from now on must be there, and all else be gone.
    pub fn permit_returned(&mut self, status: LockStatus) {
        self.permits -= 1;
        let begun = self.scenario.streams && status == LockStatus::Done;
        let mut own = self
            .answers
            .iter()
            .filter(|answer| answer.asker == self.running);
        if !begun && own.any(|answer| answer.fill == Fill::Open) {
            self.fail("the lock is given back before what was stored in part is gone");
        }
    }

    /// A wait is over.
    pub fn waited(&mut self, status: LockStatus) {
        self.note(format!("has waited: {status:?}"));
        match status {
            LockStatus::AgeTimeout => self.aged += 1,
            LockStatus::Dangling => self.fail("a write permit was dropped"),
            _ => {}
        }
        let met = self.met();
        met.is_waiting = false;
        met.waits.push(status);
    }

    /// Begins to store the last response that was sent to whoever has its turn. Returns its number.
    pub fn fill_begins(&mut self) -> usize {
        let running = self.running;
        let is_locked = |asker: usize| !self.met[asker].no_lock;
        let open = self
            .answers
            .iter()
            .filter(|answer| answer.fill == Fill::Open);
        let others = open.filter(|answer| is_locked(answer.asker)).count();
        // What can be read while it is stored holds no lock, and is not in the way when it is purged.
        if others > self.aged && is_locked(running) && !self.scenario.streams {
            self.fail("two fills at once");
        }
        let last = self
            .answers
            .iter()
            .rposition(|answer| answer.asker == running);
        let last = last.expect("who stores a response has asked for it");
        self.answers[last].fill = Fill::Open;
        last
    }

    /// A lookup has found a response.
    pub fn found(&mut self, meta: &CacheMeta) {
        let number = meta.headers().get(Answer::NUMBER);
        let number: Option<usize> = number.and_then(|number| number.to_str().ok()?.parse().ok());
        let Some(number) = number else {
            self.note("finds what is stale");
            return;
        };
        self.note(format!("finds response {number}"));
        match self.answers[number].fill {
            Fill::Open | Fill::Stored => {}
            Fill::None | Fill::Discarded | Fill::Purged => self.fail("finds what is not there"),
        }
    }

    pub fn stored(&mut self, number: usize) {
        self.answers[number].fill = Fill::Stored;
        self.is_purged = false;
    }

    /// What is stored is about to be purged.
    pub fn purged(&mut self) {
        self.is_purged = true;
        for answer in &mut self.answers {
            match answer.fill {
                Fill::Stored => answer.fill = Fill::Purged,
                Fill::Open => answer.purged = true,
                Fill::None | Fill::Discarded | Fill::Purged => {}
            }
        }
    }

    /// A request is over: it has looked up again after each wait, as often as it may, and else gone upstream without
    /// the cache.
    pub fn check_waits(&mut self) {
        let met = &self.met[self.running];
        let Some(last) = met.waits.last() else {
            return;
        };
        let most = self.scenario.max_retries();
        let retries = met
            .waits
            .iter()
            .filter(|status| looks_up_again(status))
            .count();
        let given_up = retries < met.waits.len();
        let reason = if given_up {
            // Its outcome has the status of the lock that it comes near.
            let unusable = self.scenario.unusable && met.upstream == Some(UNUSABLE_FILL);
            match last {
                LockStatus::GiveUp if unusable => Some(NoCacheReason::Custom(UNUSABLE)),
                LockStatus::GiveUp => Some(NoCacheReason::CacheLockGiveUp),
                _ => Some(NoCacheReason::CacheLockTimeout),
            }
        } else {
            (retries > most).then_some(NoCacheReason::CacheLockRetryLimit)
        };
        let upstream = reason.map(CachePhase::Disabled).or(met.upstream);
        let is_last = !given_up || !looks_up_again(last) && retries + 1 == met.waits.len();
        if met.upstream != upstream || !is_last || met.lookups != 1 + retries.min(most) {
            let told = format!("goes on otherwise than as {upstream:?}: {met:?}");
            self.fail(told);
            return;
        }
        let end = Met::end(*last, met.upstream);
        self.ends.insert(end);
    }

    /// All requests are over.
    pub fn check_end(&mut self) {
        if self.permits > 0 {
            self.fail("a write permit was not given back");
        }
        if self.answers.iter().any(|answer| answer.fill == Fill::Open) {
            self.fail("a fill has not ended");
        }
    }

    /// A client has been sent `response`, and waits for no more. One that nothing went wrong for has all of it.
    pub fn check_response(&mut self, client: usize, response: &str) {
        (self.turn, self.running) = (client, client);
        let body = match response.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => body,
            _ => "",
        };
        if body.len() != Answer::LENGTH {
            if self.faults == 0 {
                self.fail(format!("is not answered by all there is: {response:?}"));
            }
            return;
        }
        let Some(number) = Answer::number(body) else {
            if self.scenario.stale.is_none() {
                self.fail(format!("is answered by what was never stored: {body}"));
            }
            return;
        };
        let answer = &self.answers[number];
        let stored = matches!(answer.fill, Fill::Stored | Fill::Purged);
        // Who reads a response while it is stored may have had all of it when the storage failed.
        let may = stored || self.scenario.streams || answer.asker == client;
        if !answer.is_sent() || !may {
            self.fail(format!("is answered by what was discarded: {body}"));
        }
    }
}

fn looks_up_again(status: &LockStatus) -> bool {
    use LockStatus::*;
    matches!(status, Done | TransientError | Dangling | AgeTimeout)
}

impl Met {
    /// The end of a request after a wait: `Done: Hit`.
    fn end(last: LockStatus, upstream: Option<CachePhase>) -> String {
        match upstream {
            None => format!("{last:?}: Hit"),
            Some(CachePhase::Disabled(reason)) => format!("{last:?}: {reason:?}"),
            Some(phase) => format!("{last:?}: {phase:?}"),
        }
    }
}
