//! Every accept strategy, in processes that follow each other.

use super::tools::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_reverse-proxy");

/// Asks once, on a connection of its own.
fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn no_connection_is_lost(strategy: &str) {
    let (old_origin, new_origin) = (Origin::saying("old"), Origin::saying("new"));
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    let conf = path("conf.yaml");
    let meet = path("meet");
    let settings = format!(
        "upgrade_sock: {}\naccept_mutex_delay_ms: 10\nshutdown_drain_seconds: 0\n",
        meet.display()
    );
    std::fs::write(&conf, settings).unwrap();
    let address = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let (listen, conf) = (address.to_string(), conf.to_str().unwrap().to_owned());
    let start = |origin: &Origin, socket: &str, more: &[&str]| {
        let origin = origin.address();
        let args = [
            &["--conf", &conf, "--accept", strategy, "--threads", "3"][..],
            &["--listen", &listen, "--upstream", &origin],
            more,
        ];
        Program::spawn(BINARY, &path(socket), &args.concat())
    };
    let mut old = start(&old_origin, "a", &[]);
    old.wait_until_it_listens();
    let (by_old, by_new) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let end = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let storm = || {
            while !end.load(Ordering::SeqCst) {
                let answer = ask(address).unwrap_or_else(|e| format!("lost: {e}"));
                match answer.rsplit("\r\n").next() {
                    Some("old") => by_old.fetch_add(1, Ordering::SeqCst),
                    Some("new") => by_new.fetch_add(1, Ordering::SeqCst),
                    _ => panic!("{strategy}: {answer}"),
                };
            }
        };
        let storms: Vec<_> = (0..3).map(|_| threads.spawn(storm)).collect();
        // Also when the test fails: else its clients would go on.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let at_end = End(&end);
        eventually("the old process answers", || {
            by_old.load(Ordering::SeqCst) > 20
        });
        // At a Unix socket of its own, the other one is the old process'.
        let new = start(&new_origin, "b", &["--upgrade"]);
        eventually("the new process waits for the sockets", || meet.exists());
        old.signal(libc::SIGQUIT);
        eventually("the old process ends", || old.has_ended());
        let before = by_new.load(Ordering::SeqCst);
        eventually("the new process answers alone", || {
            by_new.load(Ordering::SeqCst) > before + 20
        });
        drop(at_end);
        for storm in storms {
            storm.join().unwrap();
        }
        drop(new);
    });
    assert_eq!(old.wait(), Some(0));
}

#[test]
fn no_connection_is_lost_when_one_process_follows_another() {
    std::thread::scope(|threads| {
        for strategy in ["shared", "exclusive", "reuseport", "mutex"] {
            threads.spawn(move || no_connection_is_lost(strategy));
        }
    });
}

#[test]
fn a_strategy_that_does_not_exist_is_refused() {
    let (code, _, stderr) = run(BINARY, &["--accept", "best"]);
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains("shared, exclusive, reuseport, mutex"),
        "{stderr}"
    );
}
