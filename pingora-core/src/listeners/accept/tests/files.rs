//! Limits of open files, and locks between processes: in processes of their own.

use std::process::{Child, Command, Stdio};

use nix::sys::resource::{getrlimit, setrlimit, Resource};

use super::*;
use crate::listeners::accept::across::{traveller, FileLock};
use crate::listeners::accept::word::Across;

/// Tells a test that it is the child, and what it is to do.
const CHILD: &str = "ACCEPT_TEST_CHILD";

/// Runs this test of the program once more, as a child with a task.
fn child(test: &str, task: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env(CHILD, task)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn task() -> Option<String> {
    std::env::var(CHILD).ok()
}

#[test]
fn a_process_that_can_open_no_more_files_does_not_spin() {
    if let Some(strategy) = task() {
        return out_of_files(strategy.parse().unwrap());
    }
    let test =
        "listeners::accept::tests::files::a_process_that_can_open_no_more_files_does_not_spin";
    for strategy in AcceptStrategy::ALL {
        let output = child(test, strategy.name()).wait_with_output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{strategy}: {text}");
        assert!(text.contains("1 passed"), "{strategy}: {text}");
    }
}

fn out_of_files(strategy: AcceptStrategy) {
    const CLIENTS: usize = 6;
    const WORKERS: usize = 2;
    let app = Arc::new(Echo::default());
    let running = start(&app, strategy, workers(WORKERS, false));
    // All is warm: nothing of the runtime needs a file later.
    exchange(TcpStream::connect(running.address()).unwrap(), b"a");
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 256, hard).unwrap();
    let clients: Vec<Socket> = (0..CLIENTS)
        .map(|_| {
            let (domain, kind) = (socket2::Domain::IPV4, socket2::Type::STREAM);
            Socket::new(domain, kind, None).unwrap()
        })
        .collect();
    let mut filling = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        filling.push(file);
    }
    let failed = || {
        let counts = running.counts.per_worker();
        counts.iter().map(|worker| worker.failed).sum::<u64>()
    };
    let begin = Instant::now();
    for client in &clients {
        client.connect(&running.address().into()).unwrap();
    }
    // Each acceptor pauses after each failure, so that so many take at least so long.
    let rounds = 3;
    let enough = rounds * WORKERS as u64 + 1;
    let failures = loop {
        let failures = failed();
        if failures >= enough {
            break failures;
        }
        std::thread::yield_now();
    };
    let pauses = (failures - 1) / WORKERS as u64;
    assert!(
        begin.elapsed() >= PAUSE * pauses as u32,
        "{failures} failures within {:?}",
        begin.elapsed()
    );
    drop(filling);
    for client in clients {
        exchange(TcpStream::from(client), b"ab");
    }
    running.stop();
}

#[test]
fn a_lock_is_free_when_the_process_that_had_it_is_killed() {
    if let Some(path) = task() {
        let file = std::fs::File::open(path).unwrap();
        let lock = FileLock::on(&file.into()).unwrap();
        assert!(lock.try_lock());
        println!("locked");
        loop {
            std::thread::park();
        }
    }
    let test =
        "listeners::accept::tests::files::a_lock_is_free_when_the_process_that_had_it_is_killed";
    let file = traveller().unwrap();
    let lock = FileLock::on(&file).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&file);
    let path = format!("/proc/{}/fd/{number}", std::process::id());
    let mut holder = child(test, &path);
    let mut said = String::new();
    let mut out = io::BufReader::new(holder.stdout.take().unwrap());
    while !said.contains("locked") {
        let n = io::BufRead::read_line(&mut out, &mut said).unwrap();
        assert!(n > 0, "{said}");
    }
    assert!(!lock.try_lock());
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(lock.try_lock());
}
