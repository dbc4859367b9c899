//! Facts of the process as a whole.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use pingora_core::listeners::AcceptCounts;

use super::snapshot::{Process, Reloads, Worker};
use super::{snapshot, thread, TlsVersion, HANDSHAKES, WORKERS};

/// Facts that are written seldom, and never by a request.
#[derive(Default)]
struct State {
    started: Option<SystemTime>,
    accepts: Vec<AcceptCounts>,
    reloads: Reloads,
}

static STATE: Mutex<State> = Mutex::new(State {
    started: None,
    accepts: Vec::new(),
    reloads: Reloads::NONE,
});

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the seconds since the beginning of 1970.
pub(super) fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// Counts the connections of a service, from before the server runs.
pub fn add_accepts(counts: AcceptCounts) {
    let mut state = state();
    state.started.get_or_insert_with(SystemTime::now);
    state.accepts.push(counts);
}

/// Notes that another configuration was taken.
pub fn reloaded() {
    let reloads = &mut state().reloads;
    reloads.taken += 1;
    reloads.last_taken = Some(unix(SystemTime::now()));
    reloads.failing = None;
}

/// Notes that a configuration was not taken, and why.
pub fn reload_failed(why: &str) {
    let reloads = &mut state().reloads;
    reloads.failed += 1;
    reloads.last_failed = Some(unix(SystemTime::now()));
    reloads.failing = Some(why.to_owned());
}

/// Returns what is known of the process, and of each of its workers.
pub(super) fn read() -> (Process, Vec<Worker>) {
    let now = SystemTime::now();
    let (sum, tls) = (WORKERS.sum(), HANDSHAKES.sum());
    let state = state();
    let started = state.started.unwrap_or(now);
    let mut process = Process {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        started: unix(started),
        resident_bytes: resident_bytes(),
        open_files: open_files(),
        requests: sum.requests.get(),
        open_requests: sum.open.get(),
        refused: sum.refused.get(),
        handshakes: snapshot::Counts::of(TlsVersion::NAMES, tls.handshakes.get()),
        resumed: tls.resumed.get(),
        reloads: state.reloads.clone(),
        ..Process::default()
    };
    for worker in state.accepts.iter().flat_map(AcceptCounts::per_worker) {
        process.accepted += worker.accepted;
        process.connections += worker.open;
    }
    let worker = |(index, (thread, counts)): (usize, (Option<u32>, super::WorkerCounts))| Worker {
        index,
        thread,
        requests: counts.requests.get(),
        open_requests: counts.open.get(),
        cpu_seconds: thread
            .and_then(thread::cpu_time)
            .map(|time| time.as_secs_f64()),
    };
    let workers = WORKERS.threads().into_iter().enumerate().map(worker);
    (process, workers.collect())
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn open_files() -> Option<u64> {
    // One of them is that of the folder.
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some(count.saturating_sub(1) as u64)
}
