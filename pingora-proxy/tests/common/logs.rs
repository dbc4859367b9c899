//! The log of a test process: its lines, and a look at whether one says something twice.

use std::sync::{Mutex, Once};

use log::{LevelFilter, Log, Metadata, Record};

use super::eventually;

struct Lines;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target().starts_with("pingora")
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let line = format!("{} {}", record.level(), record.args());
            LINES.lock().unwrap().push(line);
        }
    }

    fn flush(&self) {}
}

/// Begins to keep the lines that the process logs.
pub fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Lines).expect("no other logger");
        log::set_max_level(LevelFilter::Info);
    });
}

/// The first line with these words, which may still be on its way.
pub fn line_with(words: &str) -> String {
    let mut found = None;
    eventually("a line of the log", || {
        let lines = LINES.lock().unwrap();
        found = lines.iter().find(|line| line.contains(words)).cloned();
        found.is_some()
    });
    found.unwrap_or_default()
}

/// What an error's chain in `line` says twice: a context or a cause that another one contains.
pub fn said_twice(line: &str) -> Option<String> {
    let (chain, _) = line.split_once(", status: ").unwrap_or((line, ""));
    let said: Vec<String> = chain
        .split(" cause: ")
        .flat_map(|part| part.split(" context: "))
        .map(|part| part.trim().to_lowercase())
        .filter(|part| !part.is_empty())
        .collect();
    let twice = |(at, part): (usize, &String)| {
        let others = said.iter().enumerate().filter(|(other, _)| *other != at);
        others
            .map(|(_, other)| other)
            .find(|other| other.contains(part.as_str()))
            .map(|_| part.clone())
    };
    said.iter().enumerate().find_map(twice)
}
