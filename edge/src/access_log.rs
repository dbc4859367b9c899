//! A line for each request, which costs its worker no wait: it goes into a buffer of the worker, and a thread collects
//! the buffers of all of them and writes. What does not fit, because the file or pipe takes nothing, is dropped, and
//! how much is logged.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{sync_channel, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use pingora_proxy::Session;

use crate::calendar::{unix_seconds, Utc};

/// The longest time that a line waits before it is written.
const DELAY: Duration = Duration::from_millis(200);
/// With so many bytes the thread that writes is woken earlier.
const MANY: usize = 64 * 1024;
/// Bytes of one worker that wait to be written.
const MOST: usize = 1024 * 1024;
/// The longest time that the end of the program waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// An access log, in a file or on standard output.
///
/// Lines have the form of Apache's and nginx's "combined", and after it the seconds that the request took, and the
/// address of the upstream:
///
/// ```text
/// 10.1.2.3 - - [27/Nov/2026:13:17:04 +0000] "GET / HTTP/1.1" 200 5 "-" "curl/8.5.0" 0.001 10.0.0.1:9000
/// ```
///
/// A file that is moved away is opened anew under its name within a second, so that it can be rotated.
pub struct AccessLog {
    id: usize,
    /// `None` for standard output.
    path: Option<PathBuf>,
    /// Open from before a daemon becomes another user, who may not make it.
    file: Mutex<Option<File>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// One for each worker.
    buffers: Mutex<Vec<Lines>>,
    dropped: AtomicU64,
    ends: AtomicBool,
    writer: OnceLock<Writer>,
}

struct Writer {
    thread: Thread,
    ended: Mutex<Receiver<()>>,
}

/// The lines of a worker that are not written yet.
type Lines = Arc<Mutex<Vec<u8>>>;

thread_local! {
    /// The buffers of this worker, each with the log that it belongs to.
    static OWN: RefCell<Vec<(usize, Lines)>> = const { RefCell::new(Vec::new()) };
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AccessLog {
    /// A log in the file `path`, to which lines are appended, or on standard output for `-`. It is written once the
    /// service has started.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &str) -> io::Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let path = match path {
            "-" => None,
            // A daemon runs in another directory.
            path => Some(std::path::absolute(path)?),
        };
        let file = path.as_deref().map(append_to).transpose()?;
        Ok(AccessLog {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            path,
            file: Mutex::new(file),
            shared: Arc::default(),
        })
    }

    /// Adds a line.
    pub fn add(&self, line: &Line<'_>) {
        OWN.with_borrow_mut(|own| {
            let known = own.iter().position(|(id, _)| *id == self.id);
            let at = known.unwrap_or_else(|| {
                let buffer = Arc::<Mutex<Vec<u8>>>::default();
                lock(&self.shared.buffers).push(buffer.clone());
                own.push((self.id, buffer));
                own.len() - 1
            });
            // Nobody waits: the other side takes the buffer away whole.
            let mut buffer = lock(&own[at].1);
            if buffer.len() >= MOST {
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let before = buffer.len();
            line.put(&mut buffer);
            if before < MANY && buffer.len() >= MANY {
                if let Some(writer) = self.shared.writer.get() {
                    writer.thread.unpark();
                }
            }
        });
    }

    /// Waits until the last lines are written, but not for long. Lines after that are lost.
    pub fn end(&self) {
        self.shared.ends.store(true, Ordering::Release);
        if let Some(writer) = self.shared.writer.get() {
            writer.thread.unpark();
            // An error says that it takes too long, or that the thread has ended.
            let _ = lock(&writer.ended).recv_timeout(LAST_LINES);
        }
    }
}

#[async_trait]
impl BackgroundService for AccessLog {
    /// Returns at once; the thread goes on until [`AccessLog::end`].
    async fn start(&self, _shutdown: ShutdownWatch) {
        let (ends, ended) = sync_channel(1);
        let (path, shared) = (self.path.clone(), self.shared.clone());
        let file = lock(&self.file).take();
        let started = std::thread::Builder::new()
            .name("access log".into())
            .spawn(move || {
                write_lines(path.as_deref(), file, &shared);
                let _ = ends.send(());
            });
        match started {
            Ok(handle) => drop(self.shared.writer.set(Writer {
                thread: handle.thread().clone(),
                ended: Mutex::new(ended),
            })),
            Err(e) => log::error!("no access log is written: {e}"),
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn write_lines(path: Option<&Path>, mut file: Option<File>, shared: &Shared) {
    let mut lines = Vec::new();
    loop {
        let ends = shared.ends.load(Ordering::Acquire);
        let buffers = lock(&shared.buffers).clone();
        for buffer in buffers {
            // The worker goes on with the other one of two.
            std::mem::swap(&mut *lock(&buffer), &mut lines);
            if let Err(e) = write_all(path, &mut file, &lines) {
                log::error!("the access log cannot be written: {e}");
                file = None;
            }
            lines.clear();
        }
        match shared.dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            lost => log::warn!(
                "{lost} lines of the access log were dropped, as they were not taken in time"
            ),
        }
        if ends {
            return;
        }
        std::thread::park_timeout(DELAY);
    }
}

fn write_all(path: Option<&Path>, file: &mut Option<File>, lines: &[u8]) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let Some(path) = path else {
        return io::stdout().lock().write_all(lines);
    };
    let there = std::fs::metadata(path)
        .ok()
        .map(|meta| (meta.dev(), meta.ino()));
    let ours = file.as_ref().and_then(|file| file.metadata().ok());
    if there.is_none() || ours.map(|meta| (meta.dev(), meta.ino())) != there {
        match append_to(path) {
            Ok(new) => *file = Some(new),
            // The old one does as long as there is one.
            Err(e) if file.is_none() => return Err(e),
            Err(e) => log::warn!("{} cannot be opened anew: {e}", path.display()),
        }
    }
    match file {
        Some(file) => file.write_all(lines),
        None => Ok(()),
    }
}

/// A request, as an access log tells of it.
pub struct Line<'a> {
    /// The client; `None` over a Unix socket.
    pub client: Option<IpAddr>,
    /// When the request was answered, in seconds since the beginning of 1970.
    pub unix: i64,
    /// Its method.
    pub method: &'a str,
    /// Its target.
    pub target: &'a [u8],
    /// Its version.
    pub version: http::Version,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: usize,
    /// Where the link to it stood, if the client says so.
    pub referer: &'a [u8],
    /// The User-Agent of the client.
    pub user_agent: &'a [u8],
    /// The time that it took.
    pub took: Duration,
    /// The upstream that answered it, or was asked last.
    pub upstream: Option<&'a str>,
}

/// The status of a request whose client left before there was one, as nginx has it.
const CLIENT_LEFT: u16 = 499;

impl<'a> Line<'a> {
    /// The line of a request that has ended.
    pub fn of(session: &'a Session, took: Duration, upstream: Option<&'a str>) -> Self {
        let request = session.req_header();
        let client = session.client_addr().and_then(|addr| addr.as_inet());
        Line {
            client: client.map(|addr| addr.ip().to_canonical()),
            unix: unix_seconds(std::time::SystemTime::now()),
            method: request.method.as_str(),
            target: request.raw_path(),
            version: request.version,
            status: session
                .response_written()
                .map_or(CLIENT_LEFT, |head| head.status.as_u16()),
            bytes: session.body_bytes_sent(),
            referer: session.get_header_bytes(http::header::REFERER),
            user_agent: session.get_header_bytes(http::header::USER_AGENT),
            took,
            upstream,
        }
    }

    fn put(&self, to: &mut Vec<u8>) {
        // Writing to memory does not fail.
        let _ = match self.client {
            Some(ip) => write!(to, "{ip}"),
            None => write!(to, "-"),
        };
        let _ = write!(to, " - - [{}] \"", Utc::at(self.unix).common_log());
        escape(self.method.as_bytes(), to);
        to.push(b' ');
        escape(self.target, to);
        let (status, bytes) = (self.status, self.bytes);
        let _ = write!(to, " {:?}\" {status} {bytes} ", self.version);
        quote(self.referer, to);
        to.push(b' ');
        quote(self.user_agent, to);
        let (seconds, millis) = (self.took.as_secs(), self.took.subsec_millis());
        let _ = writeln!(
            to,
            " {seconds}.{millis:03} {}",
            self.upstream.unwrap_or("-")
        );
    }
}

fn quote(value: &[u8], to: &mut Vec<u8>) {
    to.push(b'"');
    escape(if value.is_empty() { b"-" } else { value }, to);
    to.push(b'"');
}

/// Writes what cannot end a field or a line, as nginx does.
fn escape(value: &[u8], to: &mut Vec<u8>) {
    for &byte in value {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => {
                let _ = write!(to, "\\x{byte:02X}");
            }
            _ => to.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn line<'a>() -> Line<'a> {
        Line {
            client: Some(IpAddr::from([10, 1, 2, 3])),
            unix: 1_795_785_424,
            method: "GET",
            target: b"/a",
            version: http::Version::HTTP_11,
            status: 200,
            bytes: 5,
            referer: b"",
            user_agent: b"curl/8.5.0",
            took: Duration::from_micros(1_234_567),
            upstream: Some("10.0.0.1:9000"),
        }
    }

    fn text(line: &Line<'_>) -> String {
        let mut text = Vec::new();
        line.put(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_line_has_the_combined_form() {
        assert_eq!(
            text(&line()),
            "10.1.2.3 - - [27/Nov/2026:13:17:04 +0000] \"GET /a HTTP/1.1\" 200 5 \"-\" \
             \"curl/8.5.0\" 1.234 10.0.0.1:9000\n"
        );
        let local = Line {
            client: None,
            upstream: None,
            version: http::Version::HTTP_2,
            ..line()
        };
        let text = text(&local);
        assert!(text.starts_with("- - - ["), "{text}");
        assert!(
            text.contains(" HTTP/2.0\" ") && text.ends_with(" 1.234 -\n"),
            "{text}"
        );
    }

    #[test]
    fn what_a_client_sends_does_not_leave_its_field() {
        let evil = Line {
            target: b"/\"\r\n\\\xff",
            user_agent: b"a\" b",
            ..line()
        };
        let text = text(&evil);
        assert!(
            text.contains("\"GET /\\x22\\x0D\\x0A\\x5C\\xFF HTTP/1.1\""),
            "{text}"
        );
        assert!(text.contains("\"a\\x22 b\""), "{text}");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("log");
        let mut file = None;
        write_all(Some(&path), &mut file, b"1\n").unwrap();
        write_all(Some(&path), &mut file, b"2\n").unwrap();
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        write_all(Some(&path), &mut file, b"3\n").unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!((read("old"), read("log")), ("1\n2\n".into(), "3\n".into()));
    }

    #[tokio::test]
    async fn lines_of_all_threads_are_there_at_the_end() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("log");
        let log = AccessLog::open(path.to_str().unwrap()).unwrap();
        let (_stop, watch) = tokio::sync::watch::channel(false);
        log.start(watch).await;
        std::thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| (0..1000).for_each(|_| log.add(&line())));
            }
        });
        log.end();
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written.lines().count(), 3000);
        assert!(written.lines().all(|l| l.ends_with(" 10.0.0.1:9000")));
    }

    /// Nobody writes, as when the file or pipe takes nothing.
    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let log = AccessLog::open("-").unwrap();
        let size = text(&line()).len();
        let (fit, more) = (MOST.div_ceil(size), 7);
        for _ in 0..fit + more {
            log.add(&line());
        }
        assert_eq!(log.shared.dropped.load(Ordering::Relaxed), more as u64);
        let waiting = lock(&lock(&log.shared.buffers)[0]).len();
        assert_eq!(waiting, fit * size);
    }
}
