//! The last lines of a log, for those who look at it from elsewhere.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a line that are kept.
const LONGEST: usize = 1024;

static ERRORS: Mutex<Tail> = Mutex::new(Tail::new(500));

/// The last lines of a log.
#[derive(Debug)]
pub struct Tail {
    lines: VecDeque<Written>,
    last: u64,
    kept: usize,
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

impl Tail {
    /// Keeps so many lines.
    pub const fn new(kept: usize) -> Self {
        Tail {
            lines: VecDeque::new(),
            last: 0,
            kept,
        }
    }

    /// Keeps a line, of which a long one is cut off.
    pub fn add(&mut self, text: &str) {
        let mut longest = (0..=text.len().min(LONGEST)).rev();
        let end = longest.find(|at| text.is_char_boundary(*at));
        let text = text.get(..end.unwrap_or(0)).unwrap_or(text).to_owned();
        self.last += 1;
        let number = self.last;
        self.lines.push_back(Written { number, text });
        if self.lines.len() > self.kept {
            self.lines.pop_front();
        }
    }

    /// Counts lines that would not be kept anyway.
    pub fn skip(&mut self, count: usize) {
        self.last += count as u64;
    }

    /// Returns the lines after the one with this number, as far as they are kept, and the number of the last line.
    pub fn after(&self, number: u64) -> (Vec<Written>, u64) {
        // A number of another log is no number of this one.
        let number = if number > self.last { 0 } else { number };
        let lines = self.lines.iter().filter(|line| line.number > number);
        (lines.cloned().collect(), self.last)
    }
}

fn errors() -> MutexGuard<'static, Tail> {
    ERRORS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a line of the log of errors. It is for those who write lines, and not for those who log them: it takes a lock.
pub fn add(text: &str) {
    errors().add(text);
}

/// Returns the lines of the log of errors after the one with this number, and the number of the last line.
pub fn after(number: u64) -> (Vec<Written>, u64) {
    errors().after(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_numbers_and_the_oldest_go() {
        let mut tail = Tail::new(500);
        for n in 0..505 {
            tail.add(&format!("[2026-01-01T00:00:00Z WARN  tail] line {n}"));
        }
        let (all, last) = tail.after(0);
        assert_eq!((all.len(), all[0].number, last), (500, 6, 505));
        let (newest, again) = tail.after(last - 1);
        assert_eq!((newest[0].number, again), (505, 505));
        assert_eq!(tail.after(u64::MAX).0.len(), 500);
        tail.add(&"ä".repeat(LONGEST));
        let (long, _) = tail.after(again);
        assert_eq!(long[0].text.len(), LONGEST);
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
