//! What becomes of listening sockets, and of signals that cannot be acted upon.

use super::tools::*;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_reverse-proxy");

/// Left open, the socket would go on queueing connections that nobody accepts.
#[test]
fn a_socket_that_the_new_process_does_not_want_is_closed() {
    let origin = Origin::saying("hello");
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let conf = at("conf.yaml");
    let settings = format!("upgrade_sock: {}\nshutdown_drain_seconds: 0\n", at("meet"));
    std::fs::write(&conf, settings).unwrap();
    let (kept, dropped) = (dir.path().join("kept"), dir.path().join("dropped"));
    let more = format!("unix:{}", dropped.display());
    let args = ["--conf", &conf, "--upstream", &origin.address()];
    let mut old = Program::start(BINARY, &kept, &[&args[..], &["--listen", &more]].concat());
    eventually("it listens there too", || {
        UnixStream::connect(&dropped).is_ok()
    });
    let mut new = Program::spawn(BINARY, &kept, &[&args[..], &["--upgrade"]].concat());
    eventually("the new process waits for the sockets", || {
        Path::new(&at("meet")).exists()
    });
    // Nothing of a server runs in it yet.
    new.signal(libc::SIGHUP);
    new.signal(libc::SIGUSR1);
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
    let mut proxy = Program::start(BINARY, &dir.path().join("socket"), &args);
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
