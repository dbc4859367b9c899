//! One process takes over from another while requests come in.

use super::tools::*;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{mpsc, Mutex};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_graceful-upgrade");

#[test]
fn a_new_process_takes_over_while_the_old_one_finishes() {
    take_over(|scene| {
        let args = [
            "--upgrade-sock",
            scene.meet(),
            "--grace-period",
            "1",
            "--upstream",
        ];
        Program::spawn(
            BINARY,
            &scene.socket,
            &[&args[..], &[&scene.slow.address()]].concat(),
        )
    });
}

/// Builds upstream's crates, which takes minutes: `cargo test -- --ignored` runs it.
#[test]
#[ignore = "builds upstream's crates"]
fn a_new_process_takes_over_from_one_of_upstreams_own() {
    let binary = build_upstream();
    take_over(|scene| {
        let slow = scene.slow.address();
        let socket = scene.socket.to_str().unwrap();
        let args = [socket, scene.meet(), slow.trim_start_matches("unix:")];
        Program::spawn_as_written(binary.to_str().unwrap(), &scene.socket, &args)
    });
}

/// Where the two processes meet.
struct Scene {
    _dir: TempDir,
    meet: PathBuf,
    /// Where they listen, one after the other.
    socket: PathBuf,
    /// The origin of the old one. It answers `/slow` when the test says so.
    slow: Origin,
}

impl Scene {
    /// The socket over which listening sockets are passed.
    fn meet(&self) -> &str {
        self.meet.to_str().unwrap()
    }
}

/// Starts the old process, lets a new one take over while a request of the old one is under way
/// and others come in all the time, and sees to it that all are answered.
fn take_over(start_old: impl FnOnce(&Scene) -> Program) {
    let (asked, was_asked) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let slow = Origin::start(move |mut stream, head| {
        if !head.starts_with("GET /slow ") {
            return answer(&mut stream, "old");
        }
        asked.send(()).unwrap();
        released.lock().unwrap().recv().unwrap();
        answer(&mut stream, "whole");
    });
    let fresh = Origin::saying("new");
    let dir = TempDir::new().unwrap();
    let (socket, meet) = (dir.path().join("s"), dir.path().join("meet"));
    let scene = Scene {
        _dir: dir,
        meet,
        socket,
        slow,
    };
    let mut old = start_old(&scene);
    old.wait_until_it_listens();

    let mut under_way = old.connect();
    under_way
        .write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    was_asked.recv().unwrap();

    let args = [
        "--upgrade-sock",
        scene.meet(),
        "--upgrade",
        "--upstream",
        &fresh.address(),
    ];
    let new = Program::spawn(BINARY, &scene.socket, &args);
    eventually("the new process waits for the sockets", || {
        scene.meet.exists()
    });
    old.signal(libc::SIGQUIT);

    let of = |program: &Program, answer: &str| {
        let tag = format!("x-served-by: {}\r\n", program.pid());
        answer.to_ascii_lowercase().contains(&tag)
    };
    let new_answers = |old: &Program| {
        let answer = new.get("/");
        let by_new = of(&new, &answer) && answer.ends_with("\r\n\r\nnew");
        let by_old = of(old, &answer) && answer.ends_with("\r\n\r\nold");
        assert!(by_new || by_old, "lost: {answer:?}");
        by_new
    };
    eventually("the new process answers", || new_answers(&old));
    release.send(()).unwrap();
    let slow = read_to_end(under_way);
    assert!(of(&old, &slow) && slow.ends_with("\r\n\r\nwhole"), "{slow}");
    eventually("the old process ends", || {
        new_answers(&old);
        old.has_ended()
    });
    assert_eq!(old.wait(), Some(0));
    assert!(new_answers(&old));
}
