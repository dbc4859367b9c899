//! The last lines that were written, for those who look at the log from elsewhere.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines that are kept.
const KEPT: usize = 500;
/// Bytes of a line that are kept.
const LONGEST: usize = 1024;

static TAIL: Mutex<Tail> = Mutex::new(Tail {
    lines: VecDeque::new(),
    last: 0,
});

struct Tail {
    lines: VecDeque<Written>,
    last: u64,
}

/// A line that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its number, from 1.
    pub number: u64,
    /// The line, with its time, level and source.
    pub text: String,
}

impl Written {
    /// Returns its level, such as `WARN`; empty for a line that has none.
    pub fn level(&self) -> &str {
        let level = self.text.split(' ').nth(1).unwrap_or_default();
        let known = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&level);
        if known && self.text.starts_with('[') {
            level
        } else {
            ""
        }
    }
}

fn tail() -> MutexGuard<'static, Tail> {
    TAIL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a line. It is for those who write lines, and not for those who log them: it takes a lock.
pub fn add(text: &str) {
    let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at));
    let text = text.get(..end.unwrap_or(0)).unwrap_or(text).to_owned();
    let mut tail = tail();
    tail.last += 1;
    let number = tail.last;
    tail.lines.push_back(Written { number, text });
    if tail.lines.len() > KEPT {
        tail.lines.pop_front();
    }
}

/// Returns the lines after the one with this number, as far as they are kept, and the number of the last line.
pub fn after(number: u64) -> (Vec<Written>, u64) {
    let tail = tail();
    // A number of another process is no number of ours.
    let number = if number > tail.last { 0 } else { number };
    let lines = tail.lines.iter().filter(|line| line.number > number);
    (lines.cloned().collect(), tail.last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_numbers_and_the_oldest_go() {
        for n in 0..KEPT + 5 {
            add(&format!("[2026-01-01T00:00:00Z WARN  tail] line {n}"));
        }
        let (all, last) = after(0);
        assert_eq!(all.len(), KEPT);
        assert!(all.iter().any(|line| line.level() == "WARN"));
        let (newest, again) = after(last - 1);
        assert_eq!(newest.last().unwrap().number, again);
        assert_eq!(after(u64::MAX).0.len(), KEPT);
        add(&"ä".repeat(LONGEST));
        let (long, _) = after(again);
        assert!(long.iter().all(|line| line.text.len() <= LONGEST));
    }

    #[test]
    fn a_line_without_a_level_has_none() {
        let line = |text: &str| Written {
            number: 1,
            text: text.into(),
        };
        assert_eq!(line("[now ERROR x] y").level(), "ERROR");
        assert_eq!(line("a WARN b").level(), "");
        assert_eq!(line("").level(), "");
    }
}
