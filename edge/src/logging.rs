//! A log on standard error that no worker waits for.
//!
//! A line is put into a queue of limited length, from which a thread writes. When nobody reads standard error, the
//! queue fills, further lines are dropped, and how many is said as soon as there is room. Of lines of one kind the
//! first few of each ten seconds are written, and the others counted; see [`Kinds`].

mod kinds;
pub mod tail;
#[cfg(test)]
mod tests;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use log::{Level, Log, Metadata, Record};
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use pingora_core::services::ServiceReadyNotifier;

use crate::calendar::Utc;
pub use kinds::Kinds;

/// Lines that wait to be written.
const QUEUE: usize = 4096;
/// Bytes of a line that are kept.
const LONGEST: usize = 4096;
/// The longest time that the end of the program waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Logs to standard error from now on: warnings and errors, or what the environment variable `RUST_LOG` asks for.
/// Panics are logged as errors.
///
/// Until a [`LogWriter`] has started, lines are written at once.
pub fn init() {
    let filter = env_logger::Env::default().default_filter_or("warn");
    let filter = env_logger::Builder::from_env(filter).build();
    let most = filter.filter();
    let logger = LOGGER.get_or_init(|| Logger {
        filter,
        queue: OnceLock::new(),
        dropped: AtomicU64::new(0),
    });
    if log::set_logger(logger).is_err() {
        return;
    }
    log::set_max_level(most);
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !log::log_enabled!(Level::Error) {
            return default(panic);
        }
        let trace = Backtrace::capture();
        match trace.status() {
            BacktraceStatus::Captured => log::error!("{panic}\n{trace}"),
            _ => log::error!("{panic}"),
        }
    }));
}

/// Waits until the lines that were logged are written, but not for long.
pub fn flush() {
    log::logger().flush();
}

struct Logger {
    /// Knows what `RUST_LOG` asks for, and writes nothing.
    filter: env_logger::Logger,
    queue: OnceLock<SyncSender<Message>>,
    dropped: AtomicU64,
}

enum Message {
    Line(Line),
    /// To be answered when all lines before it are written.
    Flush(SyncSender<()>),
}

/// A line of the log.
#[derive(Clone, Debug)]
pub struct Line {
    level: Level,
    text: String,
    /// Where the message begins, after the time and the like.
    message: usize,
}

impl Line {
    fn new(time: impl std::fmt::Display, record: &Record<'_>) -> Self {
        let (level, target) = (record.level(), record.target());
        let mut text = format!("[{time} {level:<5} {target}] ");
        let message = text.len();
        // Writing to a string does not fail; a `Display` that does has written what there is.
        let _ = write!(Tame(&mut text), "{}", record.args());
        if text.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or(0));
            text.push_str("...");
        }
        Line {
            level,
            text,
            message,
        }
    }
}

/// Has a message stay on its line and do nothing to a terminal, whatever a client has put into it.
struct Tame<'a>(&'a mut String);

impl std::fmt::Write for Tame<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if !text.contains(char::is_control) {
            self.0.push_str(text);
            return Ok(());
        }
        for c in text.chars() {
            match c.is_control() {
                true => self.0.extend(c.escape_default()),
                false => self.0.push(c),
            }
        }
        Ok(())
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.matches(record) {
            return;
        }
        let line = Line::new(Utc::now(), record);
        match self.queue.get() {
            // Nobody is left to be told when standard error is closed.
            None => {
                tail::add(&line.text);
                drop(writeln!(std::io::stderr(), "{}", line.text));
            }
            Some(queue) if queue.try_send(Message::Line(line)).is_ok() => {}
            Some(_) => drop(self.dropped.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn flush(&self) {
        let Some(queue) = self.queue.get() else {
            return;
        };
        let (written, wait) = sync_channel(1);
        let ends = Instant::now() + LAST_LINES;
        let mut flush = Message::Flush(written);
        // A queue that is full has the most to lose; its thread takes from it meanwhile.
        while let Err(TrySendError::Full(unsent)) = queue.try_send(flush) {
            if Instant::now() >= ends {
                return;
            }
            flush = unsent;
            std::thread::sleep(Duration::from_millis(1));
        }
        // An error says that it takes too long.
        let _ = wait.recv_timeout(ends.saturating_duration_since(Instant::now()));
    }
}

/// Starts the thread that writes the log, as a service of a server: a daemon forks before its services start, and a
/// thread that was there before would be left behind.
pub struct LogWriter;

#[async_trait]
impl BackgroundService for LogWriter {
    /// Returns at once; the thread goes on until the process ends. Services that depend on this one log by it from the
    /// start, and wait for nobody who reads.
    async fn start_with_ready_notifier(
        &self,
        _shutdown: ShutdownWatch,
        ready: ServiceReadyNotifier,
    ) {
        start_writing();
        ready.notify_ready();
    }
}

fn start_writing() {
    let Some(logger) = LOGGER.get() else { return };
    let (queue, lines) = sync_channel(QUEUE);
    let started = std::thread::Builder::new()
        .name("log".into())
        .spawn(move || write_lines(&lines, &mut std::io::stderr(), &logger.dropped));
    match started {
        // Set once: a server starts its services once.
        Ok(_) => drop(logger.queue.set(queue)),
        Err(e) => log::warn!("the log is written by those who log: {e}"),
    }
}

fn write_lines(lines: &Receiver<Message>, out: &mut impl Write, dropped: &AtomicU64) {
    let started = Instant::now();
    let now = || started.elapsed();
    let mut kinds = Kinds::default();
    // Errors say that nobody is left to be told.
    let mut put = |text: &str| {
        tail::add(text);
        drop(out.write_all(format!("{text}\n").as_bytes()));
    };
    loop {
        let message = match kinds.due() {
            None => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => lines.recv_timeout(due.saturating_sub(now())),
        };
        kinds.sum_up(now(), &mut put);
        match message {
            Ok(Message::Line(line)) => {
                if kinds.is_written(&line, now()) {
                    put(&line.text);
                }
            }
            Ok(Message::Flush(written)) => {
                kinds.sum_up(Duration::MAX, &mut put);
                // Who has asked may not wait any longer.
                let _ = written.try_send(());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if dropped.load(Ordering::Relaxed) > 0 {
            let lost = dropped.swap(0, Ordering::Relaxed);
            let time = Utc::now();
            put(&format!(
                "[{time} WARN  log] {lost} lines were dropped, as they were not read in time"
            ));
        }
    }
}
