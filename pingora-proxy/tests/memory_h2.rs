//! What one side of an exchange does not take costs little memory, however much the other one has of it.
//!
//! Alone in its process, whose memory is what it looks at.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "h2/raw.rs"]
#[allow(dead_code)]
mod raw;

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use tempfile::TempDir;

use common::*;
use raw::*;

const STREAMS: u32 = 100;
/// Bytes by which this process may grow: a small part of what would be held else, and some times what is, of which more or
/// less comes from the system.
const LITTLE: usize = 12 << 20;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_WINDOW: u32 = (1 << 31) - 1;
/// The window of a connection that nobody changed.
const FIRST_WINDOW: u32 = 65_535;

/// Side by side, each test would see the memory of the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|e| e.into_inner())
}

fn setup() -> Setup {
    let mut setup = Setup::default();
    setup.options.h2c = true;
    setup
}

fn proxy_to(peer: Forward) -> Proxy {
    Proxy::start_with(setup(), peer)
}

/// An origin with one page of 1 MiB.
fn pages() -> Nginx {
    let nginx = Nginx::start();
    std::fs::write(nginx.file("index.html"), vec![b'm'; 1 << 20]).unwrap();
    nginx
}

/// A client with open windows.
fn open(proxy: &Proxy) -> Raw {
    let mut raw = Raw::with_settings(proxy, &[(INITIAL_WINDOW_SIZE, MAX_WINDOW)]);
    let more = MAX_WINDOW - FIRST_WINDOW;
    raw.send(WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
    raw
}

/// Some turns of the server, in which it could go on.
fn turns(raw: &mut Raw) {
    for _ in 0..100 {
        raw.send(PING, 0, 0, &[1; 8]);
        raw.read_until(PING, 0);
    }
}

fn gets(raw: &mut Raw) {
    for n in 0..STREAMS {
        raw.request(2 * n + 1, "GET", &[], true);
    }
}

/// By how much `hold` makes this process grow. What it returns stays until that is known. The first time also pays for
/// what a process makes once, and the test for its own part of it; it stays, so that nothing of it is used again.
fn grown<T>(what: &str, mut hold: impl FnMut() -> T) -> (usize, T) {
    let _first = hold();
    let before = resident();
    let held = hold();
    let grown = resident().saturating_sub(before);
    println!("{}: {} KiB", what, grown / 1024);
    (grown, held)
}

/// Reads whole answers of 1 MiB on so many streams: those with numbers that `counts` takes.
fn read_answers(raw: &mut Raw, streams: u32, counts: impl Fn(u32) -> bool) {
    let (mut received, mut ended) = (0, 0);
    while ended < streams {
        let frame = raw.read();
        if frame.kind == DATA && counts(frame.id) {
            received += frame.payload.len();
            ended += u32::from(frame.ends_stream());
        }
        assert!(![RST_STREAM, GOAWAY].contains(&frame.kind), "{frame:?}");
    }
    assert_eq!(received, (streams as usize) << 20);
}

#[test]
fn a_hundred_answers_for_which_the_windows_are_closed() {
    let _alone = alone();
    let nginx = pages();
    let proxy = proxy_to(forward_to(nginx.path()));
    let (grown, mut raw) = grown("answers without windows", || {
        let mut raw = Raw::with_settings(&proxy, &[(INITIAL_WINDOW_SIZE, 0)]);
        gets(&mut raw);
        let mut heads = 0;
        while heads < STREAMS {
            let frame = raw.read();
            assert!(
                ![DATA, RST_STREAM, GOAWAY].contains(&frame.kind),
                "{frame:?}"
            );
            heads += u32::from(frame.kind == HEADERS);
        }
        turns(&mut raw);
        raw
    });
    assert!(grown < LITTLE, "{grown} bytes more in memory");

    // And what was held comes whole.
    raw.send(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    for n in 0..STREAMS {
        raw.send(WINDOW_UPDATE, 0, 2 * n + 1, &(1_u32 << 21).to_be_bytes());
    }
    read_answers(&mut raw, STREAMS, |_| true);
}

/// Opens its windows, and takes nothing from its socket.
#[test]
fn a_hundred_answers_that_stay_in_the_socket() {
    let _alone = alone();
    let nginx = pages();
    let proxy = proxy_to(forward_to(nginx.path()));
    let (grown, mut raw) = grown("answers in the socket", || {
        let mut raw = open(&proxy);
        gets(&mut raw);
        turns(&mut Raw::new(&proxy));
        raw
    });
    assert!(grown < LITTLE, "{grown} bytes more in memory");
    read_answers(&mut raw, STREAMS, |_| true);
}

/// Streams that wait for room in the connection go on when there is some, also after others were given up whose bytes
/// had a part of it.
#[test]
fn every_answer_comes_through_a_small_buffer() {
    let _alone = alone();
    let nginx = pages();
    for (work_stealing, threads) in [(false, 1), (true, 4)] {
        let mut setup = setup();
        setup.options.h2_connection_send_buffer = Some(64 * 1024);
        setup.conf.work_stealing = work_stealing;
        setup.conf.threads = threads;
        let proxy = Proxy::start_with(setup, forward_to(nginx.path()));
        let mut raw = open(&proxy);
        gets(&mut raw);
        turns(&mut Raw::new(&proxy));
        let given_up = |id: u32| id % 4 == 1;
        for id in (1..2 * STREAMS).step_by(2).filter(|id| given_up(*id)) {
            raw.send(RST_STREAM, 0, id, &CANCEL.to_be_bytes());
        }
        read_answers(&mut raw, STREAMS / 2, |id| !given_up(id));
    }
}

/// Sends as much of its bodies as it may to an origin that reads none of them.
fn upload(proxy: &Proxy, streams: u32) -> Raw {
    let mut raw = Raw::new(proxy);
    for n in 0..streams {
        let length = ("content-length", "100000000");
        raw.request(2 * n + 1, "POST", &[length], false);
    }
    let mut windows = vec![raw.stream_window; streams as usize];
    let mut window = FIRST_WINDOW;
    let mut quiet = 0;
    while quiet < 100 {
        for n in 0..streams {
            let own = &mut windows[n as usize];
            while window > 0 && *own > 0 {
                let piece = window.min(*own).min(16 * 1024);
                raw.send(DATA, 0, 2 * n + 1, &vec![b'u'; piece as usize]);
                (window, *own) = (window - piece, *own - piece);
            }
        }
        raw.send(PING, 0, 0, &[1; 8]);
        quiet += 1;
        loop {
            let frame = raw.read();
            assert!(![RST_STREAM, GOAWAY].contains(&frame.kind), "{frame:?}");
            if frame.kind == WINDOW_UPDATE {
                let more = u32::from_be_bytes(frame.payload[..].try_into().unwrap());
                match frame.id {
                    0 => window += more,
                    id => windows[(id / 2) as usize] += more,
                }
                quiet = 0;
            }
            if frame.kind == PING {
                break;
            }
        }
    }
    raw
}

/// Accepts connections, reads nothing from them, and keeps none of what it would have to in memory.
struct Deaf {
    dir: TempDir,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Deaf {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let listener = UnixListener::bind(dir.path().join("origin")).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let ended = ended.clone();
            move || {
                let mut accepted = Vec::new();
                while !ended.load(Ordering::SeqCst) {
                    accepted.push(listener.accept().unwrap());
                }
            }
        });
        Deaf {
            dir,
            ended,
            thread: Some(thread),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("origin")
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = UnixStream::connect(self.path());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[test]
fn bodies_that_stay_in_the_socket() {
    let _alone = alone();
    let origin = Deaf::start();
    let proxy = proxy_to(forward_to(origin.path()));
    // More than fill the window of the connection.
    let (grown, _raw) = grown("bodies", || upload(&proxy, 8));
    assert!(grown < LITTLE, "{grown} bytes more in memory");
}
