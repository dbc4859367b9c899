//! One process takes over from another while requests come in.

use super::tools::*;
use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
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

pub fn build_upstream() -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("upstream-0.9.1");
    // A folder of its own: these crates have the names of the ones under test.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("upstream-0.9.1");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--manifest-path"])
        .arg(project.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target)
        .status()
        .unwrap();
    assert!(built.success());
    target.join("debug/upstream-process")
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

/// Left open, the socket would go on queueing connections that nobody accepts.
#[test]
fn a_socket_that_the_new_process_does_not_want_is_closed() {
    const PROXY: &str = env!("CARGO_BIN_EXE_reverse-proxy");
    let origin = Origin::saying("hello");
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let conf = at("conf.yaml");
    let settings = format!("upgrade_sock: {}\nshutdown_drain_seconds: 0\n", at("meet"));
    std::fs::write(&conf, settings).unwrap();
    let (kept, dropped) = (dir.path().join("kept"), dir.path().join("dropped"));
    let more = format!("unix:{}", dropped.display());
    let args = ["--conf", &conf, "--upstream", &origin.address()];
    let mut old = Program::start(PROXY, &kept, &[&args[..], &["--listen", &more]].concat());
    eventually("it listens there too", || {
        UnixStream::connect(&dropped).is_ok()
    });
    let mut new = Program::spawn(PROXY, &kept, &[&args[..], &["--upgrade"]].concat());
    eventually("the new process waits for the sockets", || {
        Path::new(&at("meet")).exists()
    });
    old.signal(libc::SIGQUIT);
    let unused = dropped.display();
    new.wait_for_log(&format!(
        "closed inherited sockets that no service uses: {unused}"
    ));
    assert_eq!(old.wait(), Some(0));
    let e = UnixStream::connect(&dropped).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::ConnectionRefused);
    assert!(new.get("/").ends_with("hello"));
}

/// An operator who sends the signals in the wrong order, or those of another server, must not cause an outage.
#[test]
fn signals_that_cannot_be_acted_upon_do_not_end_the_service() {
    const PROXY: &str = env!("CARGO_BIN_EXE_reverse-proxy");
    let origin = Origin::saying("hello");
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let conf = at("conf.yaml");
    let settings = format!(
        "upgrade_sock: {}\nupgrade_sock_connect_accept_max_retries: 0\n",
        at("meet")
    );
    std::fs::write(&conf, settings).unwrap();
    let args = ["--conf", &conf, "--upstream", &origin.address()];
    let mut proxy = Program::start(PROXY, &dir.path().join("socket"), &args);
    for (signal, log) in [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGQUIT, "goes on serving"),
        (libc::SIGQUIT, "goes on serving"),
    ] {
        proxy.signal(signal);
        proxy.wait_for_log(log);
        assert!(proxy.get("/").ends_with("hello"), "after {log}");
    }
    proxy.signal(libc::SIGTERM);
    assert_eq!(proxy.wait(), Some(0));
}
