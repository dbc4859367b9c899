//! Every accept strategy, in processes that follow each other.

use super::tools::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
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

/// Starts a new process at this address, which is to take over over this path, and to pass requests to this origin.
type StartNew<'a> = &'a dyn Fn(&Scene, &Origin) -> Program;

struct Scene {
    dir: TempDir,
    address: SocketAddr,
    strategy: &'static str,
    conf: String,
}

impl Scene {
    fn new(strategy: &'static str) -> Self {
        let dir = TempDir::new().unwrap();
        let conf = dir.path().join("conf.yaml");
        let settings = format!(
            "upgrade_sock: {}\naccept_mutex_delay_ms: 10\nshutdown_drain_seconds: 0\n",
            dir.path().join("meet").display()
        );
        std::fs::write(&conf, settings).unwrap();
        Scene {
            address: free(),
            conf: conf.to_str().unwrap().to_owned(),
            dir,
            strategy,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A process of ours, which listens at a Unix socket of this name too.
    fn ours(&self, origin: &Origin, socket: &str, more: &[&str]) -> Program {
        let (origin, listen) = (origin.address(), self.address.to_string());
        let args = [
            &["--conf", &self.conf, "--accept", self.strategy][..],
            &["--threads", "3", "--listen", &listen],
            &["--upstream", &origin],
            more,
        ];
        Program::spawn(BINARY, &self.path(socket), &args.concat())
    }
}

fn no_connection_is_lost(strategy: &'static str, start_new: StartNew) {
    let (old_origin, new_origin) = (Origin::saying("old"), Origin::saying("new"));
    let scene = Scene::new(strategy);
    let address = scene.address;
    let mut old = scene.ours(&old_origin, "a", &[]);
    old.wait_until_it_listens();
    wait_for_listener(address);
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
        let new = start_new(&scene, &new_origin);
        eventually("the new process waits for the sockets", || {
            scene.path("meet").exists()
        });
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

fn with_each(start_new: impl Fn(&Scene, &Origin) -> Program + Sync) {
    std::thread::scope(|threads| {
        for strategy in ["shared", "exclusive", "reuseport", "mutex"] {
            let start_new = &start_new;
            threads.spawn(move || no_connection_is_lost(strategy, start_new));
        }
    });
}

#[test]
fn no_connection_is_lost_when_one_process_follows_another() {
    // At a Unix socket of its own: the other one stays the old process'.
    with_each(|scene, origin| scene.ours(origin, "b", &["--upgrade"]));
}

/// It knows of one socket for each address. Builds upstream's crates, which takes minutes.
#[test]
#[ignore = "builds upstream's crates"]
fn no_connection_is_lost_when_one_of_upstreams_own_follows() {
    let binary = build_upstream();
    with_each(|scene, origin| {
        let (listen, meet) = (scene.address.to_string(), scene.path("meet"));
        let origin = origin.address();
        let origin = origin.trim_start_matches("unix:");
        let args = [&listen, meet.to_str().unwrap(), origin, "--upgrade"];
        Program::spawn_as_written(binary.to_str().unwrap(), &scene.path("b"), &args)
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
