//! The reloads of a configuration: when and why each was tried, and what came of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use similar::TextDiff;

/// Reloads that are kept.
const KEPT: usize = 50;
/// Bytes of a difference that are kept.
const LONGEST: usize = 64 << 10;
/// The longest time for which the shortest difference is looked for; then any will do.
const SEARCH: Duration = Duration::from_millis(200);
/// Lines around a change.
const AROUND: usize = 3;

/// A reload, or the start.
#[derive(Clone, Debug)]
pub struct Reload {
    /// Its number, from 1. The start is the first.
    pub number: u64,
    /// The time at which it ended.
    pub time: SystemTime,
    /// The event that asked for it, such as `SIGHUP`.
    pub trigger: &'static str,
    /// The time from the first read of a file to the end.
    pub took: Duration,
    /// The result.
    pub outcome: Outcome,
}

/// The result of a reload.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The configuration serves.
    Taken {
        /// The difference of the effective configuration to the one before, as a unified diff without secrets; empty
        /// when there is none.
        diff: String,
    },
    /// The configuration before serves on.
    Refused {
        /// Each error, with its place.
        problems: Vec<String>,
    },
}

impl Outcome {
    /// Tells whether the configuration was taken.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Taken { .. })
    }
}

/// The last reloads.
#[derive(Debug, Default)]
pub struct History(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    last: VecDeque<Arc<Reload>>,
    taken: u64,
    refused: u64,
}

impl History {
    /// Adds what came of a reload that took so long, and forgets the oldest.
    pub(super) fn add(
        &self,
        trigger: &'static str,
        took: Duration,
        outcome: Outcome,
    ) -> Arc<Reload> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if outcome.is_taken() {
            kept.taken += 1;
        } else {
            kept.refused += 1;
        }
        let reload = Arc::new(Reload {
            number: kept.taken + kept.refused,
            time: SystemTime::now(),
            trigger,
            took,
            outcome,
        });
        kept.last.push_front(reload.clone());
        kept.last.truncate(KEPT);
        reload
    }

    /// Returns the last reloads, the latest first.
    pub fn last(&self) -> Vec<Arc<Reload>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last.iter().cloned().collect()
    }

    /// Counts the configurations that were taken, the first among them, and those that were refused.
    pub fn counts(&self) -> (u64, u64) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.taken, kept.refused)
    }
}

/// Returns the difference of two texts as a unified diff, cut off when it is very long.
pub(super) fn difference(before: &str, after: &str) -> String {
    let diff = TextDiff::configure()
        .timeout(SEARCH)
        .diff_lines(before, after);
    let mut text = String::new();
    for hunk in diff.unified_diff().context_radius(AROUND).iter_hunks() {
        text.push_str(&hunk.to_string());
        // One hunk may be the whole of it.
        if let Some((end, _)) = text.char_indices().find(|(at, _)| *at > LONGEST) {
            text.truncate(end);
            text.push_str("\n... and more\n");
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_what_changes_and_three_lines_around_it() {
        let before = "a\nb\nc\nd\ne\nf\ng\nh\n";
        let after = "a\nb\nc\nd\nE\nf\ng\nh\n";
        let expected = "@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+E\n f\n g\n h\n";
        assert_eq!(difference(before, after), expected);
        assert_eq!(difference(before, before), "");
    }

    #[test]
    fn a_long_difference_is_cut_off() {
        let after: String = (0..100_000).map(|n| format!("line {n} ä\n")).collect();
        let text = difference("", &after);
        assert!(
            (LONGEST..LONGEST + 100).contains(&text.len()),
            "{}",
            text.len()
        );
        let many: String = (0..40_000).map(|n| format!("{n}\n")).collect();
        let every_tenth = (0..40_000).map(|n| match n % 10 {
            0 => "changed\n".to_owned(),
            _ => format!("{n}\n"),
        });
        let text = difference(&many, &every_tenth.collect::<String>());
        assert!(text.len() < LONGEST + 1000, "{}", text.len());
        assert!(text.ends_with("... and more\n"));
    }

    #[test]
    fn the_oldest_are_forgotten_and_still_counted() {
        let history = History::default();
        for n in 0..KEPT + 10 {
            let outcome = if n % 2 == 0 {
                Outcome::Taken {
                    diff: String::new(),
                }
            } else {
                Outcome::Refused {
                    problems: vec![n.to_string()],
                }
            };
            history.add("test", Duration::ZERO, outcome);
        }
        let last = history.last();
        assert_eq!(last.len(), KEPT);
        assert_eq!(last[0].number, 60);
        assert_eq!(history.counts(), (30, 30));
    }
}
