//! The exchange of the binary, and what a service manager gives and is told.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::tools::*;

fn text(address: SocketAddr, folder: &Path) -> String {
    let sites = "sites:\n  - routes: {respond: {body: served}}\n";
    let upgrade = folder.join("fds").display().to_string();
    format!("listen: {address}\n{sites}server: {{upgrade_sock: '{upgrade}', shutdown_drain_seconds: 1}}\n")
}

pub fn upgrade(edge: &Edge, more: &[&str]) -> Output {
    Command::new(BINARY)
        .env("RUNTIME_DIRECTORY", edge.file().parent().unwrap())
        .args(["upgrade", "-c"])
        .arg(edge.file())
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A process that this one is not the parent of. Dropping it ends it.
pub struct Other(i32);

impl Other {
    /// The one that is said to serve now.
    #[track_caller]
    pub fn of(output: &Output) -> Self {
        let said = said(&output.stdout);
        let id = said
            .strip_prefix("process ")
            .unwrap_or_else(|| panic!("{output:?}"));
        Other(id.split_once(' ').unwrap().0.parse().unwrap())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // SAFETY: kill takes two numbers and touches no memory of this process.
        #[allow(unsafe_code)]
        unsafe {
            libc::kill(self.0, libc::SIGKILL)
        };
    }
}

/// Asks on connections of its own and on a kept one until told to end; every request must be answered.
fn load(address: SocketAddr, ended: &AtomicBool, served: &AtomicUsize) {
    let connect = || Client::of(TcpStream::connect(address).expect("a connection"));
    let mut kept = connect();
    while !ended.load(Ordering::Relaxed) {
        let answer = kept.ask("GET", "a", "/", "");
        assert_eq!((answer.status, &*answer.body), (200, "served"));
        if answer.field("connection") == Some("close") {
            kept = connect();
        }
        let answer = connect().ask("GET", "a", "/", "Connection: close\r\n");
        assert_eq!((answer.status, &*answer.body), (200, "served"));
        served.fetch_add(2, Ordering::Relaxed);
    }
}

#[test]
fn an_upgrade_loses_no_request_and_ends_the_old_process() {
    let dir = tempfile::TempDir::new().unwrap();
    let address = free();
    let mut edge = Edge::start_whole(address, &text(address, dir.path()));
    let (ended, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut others = Vec::new();
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| load(address, &ended, &served));
        }
        let end = SetAtEnd(&ended);
        eventually("it serves", || served.load(Ordering::Relaxed) > 20);
        let first = upgrade(&edge, &["--wait"]);
        assert!(first.status.success(), "{first:?}");
        let lines = said(&first.stdout);
        assert!(
            lines.contains(" finishes its requests and ends\n"),
            "{lines}"
        );
        assert!(lines.ends_with(" has ended\n"), "{lines}");
        others.push(Other::of(&first));
        edge.wait_for_end();
        // The new one is as the old one: it can be exchanged itself.
        let second = upgrade(&edge, &[]);
        assert!(second.status.success(), "{second:?}");
        others.push(Other::of(&second));
        let before = served.load(Ordering::Relaxed);
        eventually("it serves", || served.load(Ordering::Relaxed) > before + 20);
        drop(end);
    });
}

/// Until an old process has finished its requests two would listen there, and a purge could come to the wrong one.
#[test]
fn the_admin_interface_is_that_of_the_new_process_alone() {
    let dir = tempfile::TempDir::new().unwrap();
    let (address, admin) = (free(), free());
    let text = text(address, dir.path()).replace("drain_seconds: 1", "drain_seconds: 600");
    let text = format!("admin: {admin}\n{text}");
    let edge = Edge::start_whole(address, &text);
    // Keeps the old process from ending.
    let mut kept = edge.connect();
    assert_eq!(kept.ask("GET", "a", "/", "").body, "served");
    let output = upgrade(&edge, &[]);
    assert!(output.status.success(), "{output:?}");
    let new = Other::of(&output);
    let status = || {
        let mut client = Client::of(connect_to(admin));
        client
            .ask("GET", "localhost", "/api/status", "Connection: close\r\n")
            .body
    };
    let is_new = |status: String| status.contains(&format!("\"pid\":{},", new.0));
    // Of two that accept, each would get some of so many.
    eventually("the old one is asked no more", || {
        (0..40).all(|_| is_new(status()))
    });
    // It was still there.
    let answer = kept.ask("GET", "a", "/", "");
    assert_eq!(answer.field("connection"), Some("close"));
}

/// The old process has accepted the connection, and nobody else can answer on it.
#[test]
fn what_the_admin_interface_has_accepted_is_answered_by_the_old_process() {
    let dir = tempfile::TempDir::new().unwrap();
    let (address, admin) = (free(), free());
    let edge = Edge::start_whole(
        address,
        &format!("admin: {admin}\n{}", text(address, dir.path())),
    );
    let mut accepted = Client::of(connect_to(admin));
    let ask = |client: &mut Client| client.ask("GET", "localhost", "/healthz", "");
    assert_eq!(ask(&mut accepted).status, 200);
    let begun = Instant::now();
    let output = upgrade(&edge, &[]);
    assert!(output.status.success(), "{output:?}");
    let _new = Other::of(&output);
    // It keeps idle connections for five seconds.
    if begun.elapsed() < Duration::from_secs(4) {
        let answer = ask(&mut accepted);
        assert_eq!(answer.field("connection"), Some("close"));
    }
}

/// While a process waits for the sockets nothing of a server runs in it.
#[test]
fn signals_that_come_before_it_serves_are_acted_upon_then() {
    let dir = tempfile::TempDir::new().unwrap();
    let address = free();
    let text = text(address, dir.path());
    let mut old = Edge::start_whole(address, &text);
    let mut command = Command::new(BINARY);
    command.arg("--upgrade");
    let mut new = Edge::start_by(command, address, &text);
    eventually("it waits for the sockets", || {
        dir.path().join("fds").exists()
    });
    new.reopen_logs();
    new.hang_up();
    old.hand_over();
    new.wait_for_log("SIGHUP: the configuration is taken");
    old.wait_for_end();
    assert_eq!(new.get("a", "/").body, "served");
}

#[test]
fn an_upgrade_that_fails_leaves_the_old_process_serving() {
    let dir = tempfile::TempDir::new().unwrap();
    let address = free();
    let edge = Edge::start_whole(address, &text(address, dir.path()));
    let serves = || assert_eq!(edge.get("a", "/").body, "served");
    // The new process is told of a file that is wrong.
    let bad = dir.path().join("bad.yaml");
    std::fs::write(&bad, "listen: 1\n").unwrap();
    let bad = bad.display().to_string();
    eventually("it can be asked", || {
        let output = upgrade(&edge, &["--", "-c", &bad]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let why = said(&output.stderr);
        !why.contains("is there to upgrade") && {
            assert!(
                why.contains("no upgrade: the new process does not start"),
                "{why}"
            );
            assert!(why.contains("`1` is not an address"), "{why}");
            assert!(
                why.contains(&format!("process {} serves on", edge.id())),
                "{why}"
            );
            true
        }
    });
    serves();
    // It takes the sockets, and then cannot listen at one more.
    let half = dir.path().join("half.yaml");
    let more = format!("listen: ['{address}', 'unix:/no/such/folder/sock']");
    let more = text(address, dir.path()).replace(&format!("listen: {address}"), &more);
    std::fs::write(&half, more).unwrap();
    let half = half.display().to_string();
    let output = upgrade(&edge, &["--", "-c", &half]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let why = said(&output.stderr);
    assert!(why.contains("ended before it served"), "{why}");
    (0..20).for_each(|_| serves());
    // A configuration that is wrong is refused before anybody is asked.
    edge.write_whole("listen: 2\n");
    let output = upgrade(&edge, &[]);
    assert!(
        said(&output.stderr).contains("`2` is not an address"),
        "{output:?}"
    );
    serves();
    // And now a good one.
    edge.write_whole(&text(address, dir.path()));
    let output = upgrade(&edge, &[]);
    assert!(output.status.success(), "{output:?}");
    let _other = Other::of(&output);
    serves();
}

/// The admin interface is none of the addresses of the sites, but the process ends without it.
#[test]
fn a_new_process_serves_when_its_admin_interface_does() {
    let dir = tempfile::TempDir::new().unwrap();
    let address = free();
    let edge = Edge::start_whole(address, &text(address, dir.path()));
    assert_eq!(edge.get("a", "/").body, "served");
    let bad = dir.path().join("bad.yaml");
    let more = format!(
        "admin: 'unix:/no/such/folder/sock'\n{}",
        text(address, dir.path())
    );
    std::fs::write(&bad, more).unwrap();
    let output = upgrade_once_asked(&edge, &["--", "-c", &bad.display().to_string()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let why = said(&output.stderr);
    assert!(why.contains("ended before it served"), "{why}");
    (0..20).for_each(|_| assert_eq!(edge.get("a", "/").body, "served"));
}

/// The process that failed gave up an address, and the next one did not.
#[test]
fn an_upgrade_that_failed_is_of_no_consequence_to_the_next_one() {
    let dir = tempfile::TempDir::new().unwrap();
    let (address, other) = (free(), free());
    let listen = |addresses: &str| {
        let text = text(address, dir.path());
        text.replace(
            &format!("listen: {address}"),
            &format!("listen: [{addresses}]"),
        )
    };
    let good = listen(&format!("'{address}', '{other}'"));
    let mut edge = Edge::start_whole(address, &good);
    let bad = dir.path().join("bad.yaml");
    let half = listen(&format!("'{address}', 'unix:/no/such/folder/sock'"));
    std::fs::write(&bad, half).unwrap();
    let output = upgrade_once_asked(&edge, &["--", "-c", &bad.display().to_string()]);
    assert!(
        said(&output.stderr).contains("ended before it served"),
        "{output:?}"
    );
    let serves = |at| {
        let mut client = Client::of(connect_to(at));
        assert_eq!(
            client.ask("GET", "a", "/", "Connection: close\r\n").body,
            "served"
        );
    };
    [address, other].into_iter().for_each(serves);
    let output = upgrade(&edge, &[]);
    assert!(output.status.success(), "{output:?}");
    let _new = Other::of(&output);
    edge.wait_for_end();
    [address, other].into_iter().for_each(serves);
}

/// Asks for an upgrade when the process can be asked.
fn upgrade_once_asked(edge: &Edge, more: &[&str]) -> Output {
    let mut output = None;
    eventually("it can be asked", || {
        let asked = upgrade(edge, more);
        let there = !said(&asked.stderr).contains("is there to upgrade");
        output = there.then_some(asked);
        there
    });
    output.unwrap()
}

/// Such as a daemon, which the old process cannot end: it is not the process that was started.
#[test]
fn one_that_serves_too_late_ends() {
    let dir = tempfile::TempDir::new().unwrap();
    let address = free();
    let edge = Edge::start_whole(address, &text(address, dir.path()));
    let (mut old, its) = UnixStream::pair().unwrap();
    let mut new = Command::new(BINARY);
    new.env("REVERSE_PROXY_UPGRADE", "1")
        .env("RUNTIME_DIRECTORY", dir.path())
        .arg("-c")
        .arg(edge.file())
        .stdin(Stdio::from(OwnedFd::from(its)))
        .stdout(Stdio::null());
    let mut new = Ended(new.spawn().unwrap());
    eventually("it waits for the sockets", || {
        dir.path().join("fds").exists()
    });
    old.write_all(b"given up\n").unwrap();
    edge.hand_over();
    eventually("it ends", || new.0.try_wait().unwrap().is_some());
}

/// A process that its drop ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_upgrade_needs_a_process() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("edge.yaml");
    std::fs::write(&file, text(free(), dir.path())).unwrap();
    let output = Command::new(BINARY)
        .args(["upgrade", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let why = said(&output.stderr);
    assert!(why.contains("no process that runs"), "{why}");
}

/// Reads what a service manager is told as it comes: a socket holds ten lines, and what finds no place in it is lost.
fn listen(manager: UnixDatagram) -> mpsc::Receiver<String> {
    let (tell, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 1024];
        while let Ok(n) = manager.recv(&mut bytes) {
            if tell.send(said(&bytes[..n])).is_err() {
                return;
            }
        }
    });
    heard
}

#[test]
fn a_service_manager_is_told_what_happens() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("notify");
    let heard = listen(UnixDatagram::bind(&path).unwrap());
    let told = |wanted: &str| {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let lines = heard.recv_timeout(left);
            let lines = lines.unwrap_or_else(|e| panic!("{wanted}: {e}"));
            if lines.lines().any(|line| line.starts_with(wanted)) {
                return lines;
            }
        }
    };
    let mut command = Command::new(BINARY);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "2000000");
    let address = free();
    let mut edge = Edge::start_by(command, address, &text(address, dir.path()));
    let ready = told("READY=1");
    assert!(
        ready.contains(&format!("MAINPID={}\n", edge.id())),
        "{ready}"
    );
    // The first one comes at once.
    told("WATCHDOG=1");
    told("WATCHDOG=1");
    edge.hang_up();
    let reloading = told("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    let ready = told("READY=1");
    assert!(ready.contains("STATUS=Serving\n"), "{ready}");
    edge.write_whole("listen: 1\n");
    edge.hang_up();
    let refused = told("READY=1");
    assert!(
        refused.contains("the last configuration was refused"),
        "{refused}"
    );
    edge.write_whole(&text(address, dir.path()));
    // In an upgrade the new process is the main one; nobody says that the service stops.
    let output = upgrade(&edge, &["--wait"]);
    let other = Other::of(&output);
    let mut heard = String::new();
    while !heard.contains(&format!("MAINPID={}\n", other.0)) {
        heard = told("");
        assert!(!heard.contains("STOPPING=1"), "{heard}");
    }
    edge.wait_for_end();
    // SAFETY: as above.
    #[allow(unsafe_code)]
    unsafe {
        libc::kill(other.0, libc::SIGTERM)
    };
    told("STOPPING=1");
}

/// The first socket is one that `listen` names, the second one is not.
#[test]
fn sockets_of_a_service_manager_are_listened_on() {
    let dir = tempfile::TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, unknown) = (listener.local_addr().unwrap(), other.local_addr().unwrap());
    let mut command = Command::new("sh");
    let script =
        "exec 3<&0 4<&1 0</dev/null 1>/dev/null; LISTEN_FDS=2 LISTEN_PID=$$ exec \"$0\" \"$@\"";
    command
        .args(["-c", script, BINARY])
        .stdin(Stdio::from(OwnedFd::from(listener)));
    let out = OwnedFd::from(other);
    let mut edge = Edge::start_passing(command, out, address, &text(address, dir.path()));
    edge.wait_for_log(&format!("`listen` does not name {unknown}"));
    assert_eq!(edge.get("a", "/").body, "served");
    eventually("the other one is closed", || {
        TcpStream::connect(unknown).is_err()
    });
}

/// The service manager keeps them, and connections wait there while the process restarts.
#[test]
fn sockets_of_a_service_manager_outlive_the_process() {
    let dir = tempfile::TempDir::new().unwrap();
    let kept = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = kept.local_addr().unwrap();
    for _ in 0..2 {
        let listener = kept.try_clone().unwrap();
        let mut command = Command::new("sh");
        let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
        command
            .args(["-c", script, BINARY])
            .stdin(Stdio::from(OwnedFd::from(listener)));
        // It waits for the process.
        let waits = TcpStream::connect(address).unwrap();
        let mut edge = Edge::start_by(command, address, &text(address, dir.path()));
        assert_eq!(Client::of(waits).ask("GET", "a", "/", "").body, "served");
        assert_eq!(edge.get("a", "/").body, "served");
        edge.terminate();
        edge.wait_for_end();
    }
    let client = TcpStream::connect_timeout(&address, Duration::from_secs(60)).unwrap();
    kept.set_nonblocking(false).unwrap();
    while kept.accept().unwrap().1 != client.local_addr().unwrap() {}
}
