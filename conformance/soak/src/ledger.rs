//! The verdict on each request: what may happen to it under which fault, and how often it did.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::faults::{Fault, Faults};

/// The end of a request.
#[derive(Debug)]
pub enum End {
    /// With the right answer, to its last byte.
    Whole,
    /// By the client, which had meant to leave.
    Left,
    /// With a refusal, which was asked for.
    Refused,
    /// With an answer of the proxy's own.
    Status(u16),
    /// With an error in the body, of which all that came was right.
    Cut(String),
    /// With a body that ended in order, and too early.
    Short(u64),
    /// With what was not asked for.
    Wrong(String),
    /// Without an answer.
    Lost(String),
    /// Before it was sent, since the connection was closed without a word.
    NotSent,
    /// With the word that it was not processed: GOAWAY, or a refused stream.
    Announced,
    /// Without a connection.
    NoConnection(String),
    /// After all patience.
    Late,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("the right answer"),
            Self::Left => f.write_str("left by the client"),
            Self::Refused => f.write_str("refused"),
            Self::Status(status) => write!(f, "the proxy answers {status}"),
            Self::Cut(why) => write!(f, "the body is cut: {why}"),
            Self::Short(len) => write!(f, "the body ends after {len} bytes as if it were whole"),
            Self::Wrong(what) => write!(f, "wrong: {what}"),
            Self::Lost(why) => write!(f, "no answer: {why}"),
            Self::NotSent => f.write_str("the connection was closed before without a word"),
            Self::Announced => f.write_str("refused before it was processed"),
            Self::NoConnection(why) => write!(f, "no connection: {why}"),
            Self::Late => f.write_str("no answer within all patience"),
        }
    }
}

/// The facts of a request.
pub struct Asked {
    pub kind: &'static str,
    pub what: String,
    pub from: Instant,
    /// True if it may be sent twice, so that it must survive the end of an origin.
    pub safe: bool,
    /// True if the origin marks the end of the body by that of the connection, so that an early one looks right.
    pub until_close: bool,
    /// When its connection was begun.
    pub connected: Instant,
    /// The time for which its connection had been idle.
    pub idle: Duration,
    /// The origin that answered.
    pub origin: Option<usize>,
}

/// The idle time after which an old process may close a connection unannounced: less than `shutdown_drain_seconds`.
const IDLE: Duration = Duration::from_secs(4);

pub struct Ledger {
    seed: u64,
    begun: Instant,
    counts: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    violations: watch::Sender<Vec<String>>,
}

impl Ledger {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            begun: Instant::now(),
            counts: Mutex::default(),
            violations: watch::channel(Vec::new()).0,
        }
    }

    /// Takes down how a request ended. Returns whether its connection may serve another one.
    pub fn judge(&self, faults: &Faults, asked: &Asked, end: &End) -> bool {
        match excuse(faults, asked, end) {
            Some(verdict) => self.count(asked.kind, verdict),
            None => {
                let Asked {
                    kind,
                    what,
                    idle,
                    origin,
                    from,
                    ..
                } = asked;
                let (idle, took) = (idle.as_secs_f32(), from.elapsed().as_secs_f32());
                let origin = origin.map_or(String::new(), |origin| format!(" by origin {origin}"));
                self.violation(format_args!(
                    "{kind}: {what}: {end}{origin} after {took:.3} s, on a connection that was idle for {idle:.3} s"
                ));
            }
        }
        matches!(end, End::Whole)
    }

    pub fn count(&self, kind: &'static str, verdict: &'static str) {
        *self.counts().entry((kind, verdict)).or_default() += 1;
    }

    /// Notes what must never be.
    pub fn violation(&self, what: fmt::Arguments<'_>) {
        let line = format!(
            "VIOLATION at {:.3} s of seed {}: {what}",
            self.begun.elapsed().as_secs_f32(),
            self.seed
        );
        println!("{line}");
        self.violations
            .send_modify(|violations| violations.push(line));
    }

    pub fn violations(&self) -> watch::Receiver<Vec<String>> {
        self.violations.subscribe()
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, BTreeMap<(&'static str, &'static str), u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A table of all counts.
    pub fn table(&self) -> String {
        let mut table = String::from("| what | verdict | times |\n|---|---|---|\n");
        for ((kind, verdict), count) in self.counts().iter() {
            let _ = writeln!(table, "| {kind} | {verdict} | {count} |");
        }
        table
    }
}

/// Returns why a request may end so; `None` when it may not.
fn excuse(faults: &Faults, asked: &Asked, end: &End) -> Option<&'static str> {
    let felt = |wanted: &dyn Fn(Fault) -> bool| faults.since(asked.from, wanted);
    let its_origin = || {
        let fault = asked
            .origin
            .map(|origin| move |fault: Fault| fault.is_of(origin));
        fault.is_some_and(|fault| felt(&fault))
    };
    // Of an old process, or of one that was exchanged while the connection was made.
    let exchanged = || faults.since(asked.connected, |fault| fault == Fault::Upgrade);
    match end {
        End::Whole => Some("right"),
        End::Left => Some("left by the client"),
        End::Refused => Some("refused"),
        End::Wrong(_) => None,
        End::Announced if exchanged() => Some("announced, asked again"),
        _ if felt(&|fault| fault == Fault::Descriptors) => Some("failed for lack of descriptors"),
        End::Lost(_) | End::NotSent if asked.idle > IDLE && exchanged() => {
            Some("met the end of an idle connection")
        }
        End::Status(502..=504) if !asked.safe && felt(&Fault::is_of_an_origin) => {
            Some("failed with its origin, not to be sent twice")
        }
        End::Cut(_) if its_origin() => Some("cut by its origin"),
        End::Short(_) if asked.until_close && its_origin() => Some("ended by its origin"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Asked {
        Asked {
            kind: "test",
            what: String::new(),
            from: Instant::now(),
            safe: true,
            until_close: false,
            connected: Instant::now(),
            idle: Duration::ZERO,
            origin: Some(1),
        }
    }

    #[test]
    fn nothing_but_a_right_answer_goes_without_a_fault() {
        let faults = Faults::default();
        assert!(excuse(&faults, &asked(), &End::Whole).is_some());
        let lost = || String::from("lost");
        for end in [
            End::Status(502),
            End::Cut(lost()),
            End::Short(1),
            End::Lost(lost()),
            End::NotSent,
            End::Announced,
            End::NoConnection(lost()),
            End::Late,
            End::Wrong(lost()),
        ] {
            assert_eq!(excuse(&faults, &asked(), &end), None, "{end:?}");
        }
    }

    #[test]
    fn a_fault_excuses_what_it_can_cause_and_no_more() {
        let faults = Faults::default();
        faults.begin(Fault::Down(1));
        assert_eq!(excuse(&faults, &asked(), &End::Status(502)), None);
        let unsafe_one = Asked {
            safe: false,
            ..asked()
        };
        assert!(excuse(&faults, &unsafe_one, &End::Status(502)).is_some());
        assert!(excuse(&faults, &asked(), &End::Cut(String::new())).is_some());
        assert_eq!(excuse(&faults, &asked(), &End::Short(1)), None);
        let other = Asked {
            origin: Some(2),
            ..asked()
        };
        assert_eq!(excuse(&faults, &other, &End::Cut(String::new())), None);
        faults.end(Fault::Down(1));
        assert_eq!(excuse(&faults, &asked(), &End::Cut(String::new())), None);
    }

    #[test]
    fn connections_end_with_the_process_that_has_them() {
        let faults = Faults::default();
        let kept = Asked {
            idle: IDLE * 2,
            ..asked()
        };
        assert_eq!(excuse(&faults, &kept, &End::NotSent), None);
        faults.begin(Fault::Upgrade);
        faults.end(Fault::Upgrade);
        let new = Asked {
            idle: IDLE * 2,
            ..asked()
        };
        for end in [End::Announced, End::NotSent] {
            assert!(excuse(&faults, &kept, &end).is_some(), "{end:?}");
            assert_eq!(excuse(&faults, &new, &end), None, "{end:?}");
        }
        let busy = Asked {
            idle: Duration::ZERO,
            ..kept
        };
        assert_eq!(excuse(&faults, &busy, &End::NotSent), None);
    }

    #[test]
    fn wrong_bytes_have_no_excuse() {
        let faults = Faults::default();
        faults.begin(Fault::Descriptors);
        assert_eq!(excuse(&faults, &asked(), &End::Wrong(String::new())), None);
        assert!(excuse(&faults, &asked(), &End::Late).is_some());
    }
}
