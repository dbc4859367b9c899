//! Lines that say the same again and again.

use std::collections::HashMap;
use std::time::Duration;

use log::Level;

use super::Line;
use crate::calendar::Utc;

/// Lines of a kind that are written in one period.
const WRITTEN: u64 = 5;
/// From the first line of a kind to when the others are summed up.
const PERIOD: Duration = Duration::from_secs(10);
/// Kinds that are told apart at once.
const MOST: usize = 256;
/// Bytes of a message that make its kind.
const SAME: usize = 64;

/// Counts lines of the same kind: of one level, and with the same beginning of the message up to the first digit. What
/// varies is mostly a number: an address, a port, a time.
///
/// Lines for those who debug are all written.
#[derive(Default)]
pub struct Kinds {
    seen: HashMap<(Level, String), Seen>,
}

struct Seen {
    due: Duration,
    lines: u64,
    /// What stands before the message, without the time.
    head: String,
}

impl Kinds {
    /// True if a line that comes at the time `now` is to be written; if not, it is counted.
    pub(super) fn is_written(&mut self, line: &Line, now: Duration) -> bool {
        if line.level > Level::Info {
            return true;
        }
        let kind = (line.level, beginning(&line.text[line.message..]).to_owned());
        if let Some(seen) = self.seen.get_mut(&kind) {
            seen.lines += 1;
            return seen.lines <= WRITTEN;
        }
        if self.seen.len() < MOST {
            let head = &line.text[..line.message];
            let head = head.split_once(' ').map_or("", |(_, rest)| rest);
            let seen = Seen {
                due: now.saturating_add(PERIOD),
                lines: 1,
                head: head.to_owned(),
            };
            self.seen.insert(kind, seen);
        }
        true
    }

    /// When the next kind is to be summed up; `None` while no lines are counted.
    pub(super) fn due(&self) -> Option<Duration> {
        self.seen.values().map(|seen| seen.due).min()
    }

    /// Tells how many lines of each kind whose time is over by `now` were not written, and begins anew.
    pub(super) fn sum_up(&mut self, now: Duration, put: &mut impl FnMut(&str)) {
        if self.due().is_none_or(|due| due > now) {
            return;
        }
        let time = Utc::now();
        self.seen.retain(|(_, beginning), seen| {
            let over = seen.due <= now;
            if let (true, more @ 1..) = (over, seen.lines.saturating_sub(WRITTEN)) {
                let head = &seen.head;
                put(&format!(
                    "[{time} {head}{more} more like this: {beginning}..."
                ));
            }
            !over
        });
    }
}

fn beginning(message: &str) -> &str {
    let end = message.find(|c: char| c.is_ascii_digit());
    let end = end.unwrap_or(message.len()).min(SAME);
    let end = (0..=end).rev().find(|at| message.is_char_boundary(*at));
    &message[..end.unwrap_or(0)]
}
