//! The place that lines go to, and the thread that writes them.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{sync_channel, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{fcntl, FcntlArg, OFlag};

use super::ring::Ring;
use crate::config::values::LogTarget;
use crate::logging::tail::{Tail, Written};
use crate::program::check_writable;

/// The longest time that a line waits before it is written.
const DELAY: Duration = Duration::from_millis(200);
/// With so many bytes of a worker the thread that writes is woken earlier.
const MANY: u64 = 64 * 1024;
/// Lines that are kept for who wants to see the last ones.
const KEPT: usize = 500;
/// The longest time that the end of the program waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// A file or standard output, to which lines are appended by a thread of its own. A worker that adds a line waits for
/// nobody; lines that are not taken in time are dropped and counted.
///
/// A file that is moved away is opened anew under its name before the next line is written.
#[derive(Debug)]
pub(crate) struct Sink {
    id: u64,
    target: LogTarget,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: LogTarget,
    /// Open from before a line comes, so that a file that cannot be opened is refused with the configuration.
    file: Mutex<Option<File>>,
    /// One for each worker.
    rings: Mutex<Vec<Arc<Ring>>>,
    last: Mutex<Tail>,
    /// Lines that could not be written.
    lost: AtomicU64,
    reopens: AtomicBool,
    ends: AtomicBool,
    writer: OnceLock<Writer>,
}

#[derive(Debug)]
struct Writer {
    thread: Thread,
    ended: Mutex<Receiver<()>>,
}

thread_local! {
    /// The rings of this worker, each with the sink that it belongs to.
    static OWN: RefCell<Vec<(u64, Arc<Ring>)>> = const { RefCell::new(Vec::new()) };
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink {
    /// Opens a file, or standard output. Nothing is written before [`start`](Self::start).
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub(crate) fn open(target: &LogTarget) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let file = match target {
            LogTarget::Stdout => None,
            LogTarget::File(path) => Some(append_to(path)?),
        };
        Ok(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            target: target.clone(),
            shared: Arc::new(Shared {
                target: target.clone(),
                file: Mutex::new(file),
                rings: Mutex::default(),
                last: Mutex::new(Tail::new(KEPT)),
                lost: AtomicU64::new(0),
                reopens: AtomicBool::new(false),
                ends: AtomicBool::new(false),
                writer: OnceLock::new(),
            }),
        })
    }

    /// Looks whether it could be opened, and makes no file.
    ///
    /// # Errors
    ///
    /// When it could not.
    pub(crate) fn check(target: &LogTarget) -> io::Result<()> {
        let LogTarget::File(path) = target else {
            return Ok(());
        };
        match open(path, OpenOptions::new().append(true)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                check_writable(path).map_err(io::Error::other)
            }
            opened => opened.map(drop),
        }
    }

    /// Returns the place.
    pub(crate) fn target(&self) -> &LogTarget {
        &self.target
    }

    /// Begins to write, if that has not begun.
    pub(crate) fn start(&self) {
        if self.shared.writer.get().is_some() {
            return;
        }
        let (ends, ended) = sync_channel(1);
        let shared = self.shared.clone();
        let started = std::thread::Builder::new()
            .name("access log".into())
            .spawn(move || {
                shared.write();
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

    /// Adds a line, without its end.
    pub(crate) fn add(&self, line: &[u8]) {
        OWN.with_borrow_mut(|own| {
            let known = own.iter().position(|(id, _)| *id == self.id);
            let at = known.unwrap_or_else(|| self.add_ring(own));
            if let Some((before, after)) = own[at].1.put(line) {
                if before < MANY && after >= MANY {
                    self.shared.wake();
                }
            }
        });
    }

    #[cold]
    fn add_ring(&self, own: &mut Vec<(u64, Arc<Ring>)>) -> usize {
        // Those of sinks that are gone are held by nobody else.
        own.retain(|(_, ring)| Arc::strong_count(ring) > 1);
        let ring = Arc::<Ring>::default();
        lock(&self.shared.rings).push(ring.clone());
        own.push((self.id, ring));
        own.len() - 1
    }

    /// Has the file be opened anew under its name, at once.
    pub(crate) fn reopen(&self) {
        self.shared.reopens.store(true, Ordering::Release);
        self.shared.wake();
    }

    /// Returns the lines after the one with this number, as far as they are kept, and the number of the last line.
    pub(crate) fn after(&self, number: u64) -> (Vec<Written>, u64) {
        lock(&self.shared.last).after(number)
    }

    /// Returns the number of lines that were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped()
    }

    /// Waits until the last lines are written, but not for long. Lines after that are lost.
    pub(crate) fn end(&self) {
        self.shared.ends.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(writer) = self.shared.writer.get() {
            // An error says that it takes too long, or that the thread has ended.
            let _ = lock(&writer.ended).recv_timeout(LAST_LINES);
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Release);
        self.shared.wake();
    }
}

impl Shared {
    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.thread.unpark();
        }
    }

    fn dropped(&self) -> u64 {
        let full: u64 = lock(&self.rings).iter().map(|ring| ring.dropped()).sum();
        full + self.lost.load(Ordering::Relaxed)
    }

    /// Writes what comes, until the end.
    fn write(&self) {
        let (mut lines, mut line_ends, mut told) = (Vec::new(), Vec::new(), 0);
        loop {
            let ends = self.ends.load(Ordering::Acquire);
            if self.reopens.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            // A copy, as a worker that comes anew would wait for the list.
            let rings = lock(&self.rings).clone();
            for ring in rings {
                ring.take(&mut lines, |lines| {
                    line_ends.push(lines.len());
                    lines.push(b'\n');
                });
                self.keep(&lines, &line_ends);
                if let Err(e) = self.write_all(&lines) {
                    self.lost
                        .fetch_add(line_ends.len() as u64, Ordering::Relaxed);
                    log::error!("the access log cannot be written: {e}");
                }
                lines.clear();
                line_ends.clear();
            }
            let dropped = self.dropped();
            if dropped > told {
                let more = dropped - told;
                log::warn!("{more} lines of the access log were dropped");
                told = dropped;
            }
            if ends {
                return;
            }
            std::thread::park_timeout(DELAY);
        }
    }

    /// Keeps the last lines, which end there, each before one byte more.
    fn keep(&self, lines: &[u8], ends: &[usize]) {
        if lines.is_empty() {
            return;
        }
        let mut last = lock(&self.last);
        let (skipped, kept) = ends.split_at(ends.len().saturating_sub(KEPT));
        last.skip(skipped.len());
        let mut start = skipped.last().map_or(0, |end| end + 1);
        for &end in kept {
            let line = &lines[start..end];
            match std::str::from_utf8(line) {
                Ok(line) => last.add(line),
                Err(_) => last.add(&String::from_utf8_lossy(line)),
            }
            start = end + 1;
        }
    }

    fn reopen(&self) {
        if let LogTarget::File(path) = &self.target {
            match append_to(path) {
                Ok(new) => *lock(&self.file) = Some(new),
                // The old one does.
                Err(e) => log::error!("{} cannot be opened anew: {e}", path.display()),
            }
        }
    }

    fn write_all(&self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let LogTarget::File(path) = &self.target else {
            let mut out = io::stdout().lock();
            return out.write_all(lines).and_then(|()| out.flush());
        };
        let there = std::fs::metadata(path).ok();
        let there = there.map(|meta| (meta.dev(), meta.ino()));
        let mut file = lock(&self.file);
        let ours = file.as_ref().and_then(|file| file.metadata().ok());
        if there.is_none() || ours.map(|meta| (meta.dev(), meta.ino())) != there {
            match append_to(path) {
                Ok(new) => *file = Some(new),
                // The old one does as long as there is one.
                Err(e) if file.is_none() => return Err(e),
                Err(e) => log::warn!("{} cannot be opened anew: {e}", path.display()),
            }
        }
        match &mut *file {
            Some(file) => file.write_all(lines),
            None => Ok(()),
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().append(true).create(true))
}

/// Opens a file without waiting, as the open of a pipe waits for a reader. Writes wait for theirs.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let opened = options.custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = opened.map_err(|e| {
        let is_pipe = || path.metadata().is_ok_and(|of| of.file_type().is_fifo());
        if e.raw_os_error() == Some(Errno::ENXIO as i32) && is_pipe() {
            return io::Error::other("it is a pipe that nobody reads");
        }
        e
    })?;
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(dir: &tempfile::TempDir) -> Sink {
        Sink::open(&LogTarget::File(dir.path().join("log"))).unwrap()
    }

    fn read(dir: &tempfile::TempDir, name: &str) -> String {
        std::fs::read_to_string(dir.path().join(name)).unwrap()
    }

    #[test]
    fn lines_of_all_threads_are_there_at_the_end() {
        let dir = tempfile::TempDir::new().unwrap();
        let sink = sink(&dir);
        sink.start();
        std::thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| (0..1000).for_each(|_| sink.add(b"a line")));
            }
        });
        sink.end();
        assert_eq!(read(&dir, "log"), "a line\n".repeat(3000));
        assert_eq!((sink.dropped(), sink.after(0).1), (0, 3000));
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let dir = tempfile::TempDir::new().unwrap();
        let sink = sink(&dir);
        sink.shared.write_all(b"1\n").unwrap();
        sink.shared.write_all(b"2\n").unwrap();
        std::fs::rename(dir.path().join("log"), dir.path().join("old")).unwrap();
        sink.shared.write_all(b"3\n").unwrap();
        assert_eq!(
            (&*read(&dir, "old"), &*read(&dir, "log")),
            ("1\n2\n", "3\n")
        );
        std::fs::rename(dir.path().join("log"), dir.path().join("old")).unwrap();
        sink.shared.reopen();
        assert_eq!(read(&dir, "log"), "");
    }

    #[test]
    fn a_pipe_without_a_reader_is_no_place_and_nobody_waits_for_one() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let target = LogTarget::File(path.clone());
        for refused in [Sink::check(&target), Sink::open(&target).map(drop)] {
            let why = refused.unwrap_err().to_string();
            assert_eq!(why, "it is a pipe that nobody reads");
        }
        let mut reader = OpenOptions::new();
        reader.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
        let mut reader = reader.open(path).unwrap();
        Sink::check(&target).unwrap();
        let sink = Sink::open(&target).unwrap();
        sink.shared.write_all(b"a line\n").unwrap();
        let mut got = [0; 7];
        io::Read::read_exact(&mut reader, &mut got).unwrap();
        assert_eq!(&got, b"a line\n");
        let file = lock(&sink.shared.file);
        let flags = fcntl(file.as_ref().unwrap(), FcntlArg::F_GETFL).unwrap();
        assert!(!OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK));
    }

    #[test]
    fn the_last_lines_are_kept() {
        let dir = tempfile::TempDir::new().unwrap();
        let sink = sink(&dir);
        sink.shared.keep(b"first\nsec\xffond\n", &[5, 13]);
        sink.shared.keep(b"last\n", &[4]);
        let (last, number) = sink.after(1);
        let last: Vec<_> = last.into_iter().map(|line| line.text).collect();
        assert_eq!(
            (last.as_slice(), number),
            (
                ["sec\u{fffd}ond".to_owned(), "last".to_owned()].as_slice(),
                3
            )
        );
        let (many, ends) = ("x\n".repeat(KEPT + 1), (0..=KEPT).map(|n| 2 * n + 1));
        sink.shared.keep(many.as_bytes(), &ends.collect::<Vec<_>>());
        let (last, number) = sink.after(0);
        assert_eq!((last.len(), number), (KEPT, KEPT as u64 + 4));
        assert!(last.iter().all(|line| line.text == "x"));
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let full = Sink::open(&LogTarget::File("/dev/full".into())).unwrap();
        full.add(b"a");
        full.add(b"b");
        full.start();
        full.end();
        assert_eq!(full.dropped(), 2);
    }
}
