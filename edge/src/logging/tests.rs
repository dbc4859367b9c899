#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Condvar, Mutex};

use super::*;

fn line(level: Level, message: &str) -> Line {
    let record = Record::builder()
        .level(level)
        .target("here")
        .args(format_args!(""))
        .build();
    let mut line = Line::new("TIME", &record);
    let _ = write!(Tame(&mut line.text), "{message}");
    line
}

/// What is written of lines that come at these times, in seconds.
fn written(lines: impl IntoIterator<Item = (u64, Line)>) -> Vec<String> {
    let (mut kinds, mut all) = (Kinds::default(), Vec::new());
    for (second, line) in lines {
        let now = Duration::from_secs(second);
        kinds.sum_up(now, &mut |text| all.push(text.to_owned()));
        if kinds.is_written(&line, now) {
            all.push(line.text);
        }
    }
    kinds.sum_up(Duration::MAX, &mut |text| all.push(text.to_owned()));
    all
}

fn ports(level: Level, count: usize) -> Vec<(u64, Line)> {
    let one = |port| {
        (
            0,
            line(level, &format!("cannot reach 10.0.0.1:{port} at all")),
        )
    };
    (0..count).map(one).collect()
}

#[test]
fn the_first_lines_of_a_kind_are_written_and_the_others_summed_up() {
    for level in [Level::Error, Level::Warn, Level::Info] {
        let all = written(ports(level, 1000));
        assert_eq!(all.len(), 6, "{all:?}");
        let sum = format!("{level:<5} here] 995 more like this: cannot reach ...");
        assert!(all[5].ends_with(&sum), "{}", all[5]);
        assert_eq!(written(ports(level, 5)).len(), 5);
    }
    assert_eq!(written(ports(Level::Debug, 1000)).len(), 1000);
}

#[test]
fn kinds_are_told_apart_by_level_and_beginning() {
    let mut lines = ports(Level::Error, 10);
    lines.extend(ports(Level::Warn, 10));
    lines.extend((0..10).map(|n| (0, line(Level::Warn, &format!("something else {n}")))));
    let all = written(lines);
    assert_eq!(all.len(), 3 * 6, "{all:?}");
}

#[test]
fn after_a_while_lines_are_written_again() {
    let lines = |second| {
        ports(Level::Error, 10)
            .into_iter()
            .map(move |(_, line)| (second, line))
    };
    let all = written(lines(0).chain(lines(9)).chain(lines(10)));
    let sums: Vec<_> = all
        .iter()
        .filter(|text| text.contains("more like this"))
        .collect();
    assert_eq!(all.len(), 5 + 1 + 5 + 1, "{all:?}");
    assert!(sums[0].contains(" 15 more"), "{}", sums[0]);
    assert!(sums[1].contains(" 5 more"), "{}", sums[1]);
}

#[test]
fn many_kinds_take_little_memory_and_are_all_written() {
    let words = (0..10_000).map(|n: u32| (0, line(Level::Warn, &letters(n))));
    assert_eq!(written(words).len(), 10_000);
}

fn letters(n: u32) -> String {
    n.to_string()
        .bytes()
        .map(|digit| char::from(digit - b'0' + b'a'))
        .collect()
}

#[test]
fn what_a_client_sends_stays_on_its_line() {
    let line = line(Level::Warn, "GET /a\r\n[forged] \x1b[2J\u{9b}");
    assert_eq!(
        line.text,
        "[TIME WARN  here] GET /a\\r\\n[forged] \\u{1b}[2J\\u{9b}"
    );
    let long = "é".repeat(LONGEST);
    let text = Line::new(
        "TIME",
        &Record::builder().args(format_args!("{long}")).build(),
    )
    .text;
    assert!(
        text.len() <= LONGEST + 3 && text.ends_with("..."),
        "{}",
        text.len()
    );
}

/// True if it is open, and what was written.
type Written = (bool, Vec<u8>);

/// A pipe that is full until somebody reads.
#[derive(Clone, Default)]
struct Pipe(Arc<(Mutex<Written>, Condvar)>);

impl Pipe {
    fn read(&self) {
        self.0 .0.lock().unwrap().0 = true;
        self.0 .1.notify_all();
    }

    fn text(&self) -> String {
        String::from_utf8(self.0 .0.lock().unwrap().1.clone()).unwrap()
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let (state, changed) = &*self.0;
        let mut state = changed
            .wait_while(state.lock().unwrap(), |state| !state.0)
            .unwrap();
        state.1.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn who_logs_does_not_wait_for_who_reads_and_what_is_lost_is_said() {
    let logger: &Logger = Box::leak(Box::new(Logger {
        filter: env_logger::Builder::new()
            .filter_level(log::LevelFilter::Debug)
            .build(),
        queue: OnceLock::new(),
        dropped: AtomicU64::new(0),
    }));
    let pipe = Pipe::default();
    let (queue, lines) = sync_channel(10);
    assert!(logger.queue.set(queue).is_ok());
    let mut out = pipe.clone();
    std::thread::spawn(move || write_lines(&lines, &mut out, &logger.dropped));
    let log = |message: &str| {
        logger.log(
            &Record::builder()
                .level(Level::Debug)
                .args(format_args!("{message}"))
                .build(),
        );
    };
    for _ in 0..100 {
        log("a line");
    }
    // Ten in the queue, and one that the thread may hold.
    let dropped = logger.dropped.load(Ordering::Relaxed);
    assert!((89..=90).contains(&dropped), "{dropped}");
    // Neither does the end of the program wait for ever.
    logger.flush();
    pipe.read();
    let end = Instant::now() + Duration::from_secs(60);
    let said = format!("{dropped} lines were dropped");
    while !pipe.text().contains(&said) {
        assert!(Instant::now() < end, "{}", pipe.text());
        std::thread::yield_now();
    }
    logger.flush();
    let text = pipe.text();
    assert_eq!(text.lines().count() as u64, 100 - dropped + 1, "{text}");
}
