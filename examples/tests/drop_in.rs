//! A project that uses the published facade is built against the crates of this repository by
//! nothing but its patch lines, and serves.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/drop-in");
const OURS: [&str; 3] = ["pingora-core", "pingora-http", "pingora-proxy"];

#[test]
fn the_lock_file_names_no_second_copy_of_the_crates() {
    let lock = std::fs::read_to_string(Path::new(PROJECT).join("Cargo.lock")).unwrap();
    let packages: Vec<_> = lock
        .split("[[package]]")
        .map(|package| (field(package, "name"), field(package, "source")))
        .collect();
    for ours in OURS {
        let copies: Vec<_> = packages
            .iter()
            .filter(|(name, _)| *name == Some(ours))
            .collect();
        assert_eq!(
            copies,
            [&(Some(ours), None)],
            "one copy, and not from a registry"
        );
    }
    // All else of the family is the published one.
    for published in [
        "pingora",
        "pingora-cache",
        "pingora-load-balancing",
        "pingora-prometheus",
    ] {
        assert!(packages
            .iter()
            .any(|(name, source)| *name == Some(published) && source.is_some()));
    }
}

fn field<'a>(package: &'a str, name: &str) -> Option<&'a str> {
    let line = package
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))?;
    Some(line.trim_matches('"'))
}

#[test]
fn it_balances_between_the_upstreams_that_are_healthy() {
    let (first, second) = (Upstream::start("first"), Upstream::start("second"));
    let program = Running::start([&first, &second]);
    let socket = &program.socket;

    let mut seen = [false; 2];
    eventually("both upstreams answer", || {
        match get(socket, "/") {
            answer if answer.ends_with("first") => seen[0] = true,
            answer if answer.ends_with("second") => seen[1] = true,
            answer => panic!("{answer}"),
        }
        seen == [true; 2]
    });
    assert!(get(socket, "/")
        .to_ascii_lowercase()
        .contains("x-served-by: drop-in"));

    first.stop();
    let mut in_a_row = 0;
    eventually("the health check finds out which one is gone", || {
        in_a_row = if get(socket, "/").ends_with("second") {
            in_a_row + 1
        } else {
            0
        };
        in_a_row == 4
    });
}

#[test]
fn it_caches_and_tells_so_in_its_metrics() {
    let upstreams = [Upstream::start("first"), Upstream::start("second")];
    let program = Running::start([&upstreams[0], &upstreams[1]]);
    let first = get(&program.socket, "/cached/a");
    let (_, stored) = first.split_once("\r\n\r\n").unwrap();
    // The balancer would ask each in turn.
    for _ in 0..3 {
        let answer = get(&program.socket, "/cached/a");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, stored);
        assert!(head.to_ascii_lowercase().contains("\r\nage: "), "{head}");
    }
    get(&program.socket, "/");
    eventually("the last request is counted", || {
        let metrics = get(&program.metrics, "/metrics");
        [
            "{cache=\"hit\"} 3",
            "{cache=\"miss\"} 1",
            "{cache=\"off\"} 1",
        ]
        .iter()
        .all(|count| metrics.contains(&format!("requests_total{count}")))
    });
}

#[test]
fn its_unit_tests_script_a_connection() {
    cargo(&["test"]);
}

fn build() -> PathBuf {
    cargo(&["build", "--all-targets"]).join("debug/drop-in")
}

/// Runs a command of cargo on the project, in the folder that this test was built into and as that was: what both need is
/// built once.
fn cargo(command: &[&str]) -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_gateway"));
    let target = built.ancestors().nth(2).unwrap();
    let status = Command::new(env!("CARGO"))
        .args(command)
        .args(["--locked", "--manifest-path"])
        .arg(Path::new(PROJECT).join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .status()
        .unwrap();
    assert!(
        status.success(),
        "see above; after a change of dependencies update its lock file"
    );
    target.to_path_buf()
}

/// A server that answers everything with its name.
struct Upstream {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Upstream {
    fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stopped = stopped.clone();
            move || serve(&listener, name, &stopped)
        });
        Upstream {
            address,
            stopped,
            thread,
        }
    }

    fn stop(self) {
        self.stopped.store(true, Ordering::SeqCst);
        drop(std::net::TcpStream::connect(self.address));
        self.thread.join().unwrap();
    }
}

fn serve(listener: &TcpListener, name: &str, stopped: &AtomicBool) {
    for stream in listener.incoming() {
        if stopped.load(Ordering::SeqCst) {
            return;
        }
        let mut stream = stream.unwrap();
        let mut request = [0; 4096];
        // A health check connects and says nothing.
        if matches!(stream.read(&mut request), Ok(size) if size > 0) {
            let length = name.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{name}"
            );
        }
    }
}

fn get(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Far above what a slow machine needs: reached only when the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "did not happen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The program, which ends with the test, whatever its outcome.
struct Running {
    child: Child,
    socket: PathBuf,
    metrics: PathBuf,
    _dir: tempfile::TempDir,
}

impl Running {
    fn start(upstreams: [&Upstream; 2]) -> Self {
        let binary = build();
        let dir = tempfile::TempDir::new().unwrap();
        let (socket, metrics) = (dir.path().join("s"), dir.path().join("m"));
        let child = Command::new(binary)
            .args([&socket, &metrics])
            .args(upstreams.map(|upstream| upstream.address.to_string()))
            .spawn()
            .unwrap();
        let mut program = Running {
            child,
            socket,
            metrics,
            _dir: dir,
        };
        eventually("it listens", || {
            assert_eq!(program.child.try_wait().unwrap(), None, "it ended");
            [&program.socket, &program.metrics]
                .iter()
                .all(|socket| UnixStream::connect(socket).is_ok())
        });
        program
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
