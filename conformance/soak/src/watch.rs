//! Resources of the process: memory, descriptors and threads, and what it says itself is under way.

use std::fmt::Write;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::proxy::{has_ended, Proxy};
use crate::world::World;

#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub resident: u64,
    pub descriptors: u64,
    pub threads: u64,
}

impl Sample {
    /// Takes one; `None` when the process has just ended.
    pub fn take(pid: i32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let number = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Some(Self {
            resident: number("VmRSS:")? * 1024,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64,
            threads: number("Threads:")?,
        })
    }
}

/// Takes a sample each second. That the process ends by itself is a violation.
pub async fn samples(world: Arc<World>) -> Vec<Sample> {
    let mut samples = Vec::new();
    while world.runs() {
        let pid = world.proxy.pid();
        samples.extend(Sample::take(pid));
        if has_ended(pid) && pid == world.proxy.pid() {
            let violation = format_args!("the process {pid} has ended by itself");
            world.ledger.violation(violation);
        }
        for origins in [&world.origins, &world.mirror] {
            for wrong in origins.shared.take_wrong() {
                world.ledger.violation(format_args!("{wrong}"));
            }
        }
        world.pause(Duration::from_secs(1)).await;
    }
    samples
}

/// More than a process may hold in the last quarter of a run than in the one before: a tenth, and this.
const GROWTH: u64 = 4 << 20;

/// Returns by how much the memory in the last quarter of a run may not be above that of the one before, and is.
pub fn growth(samples: &[Sample]) -> Result<String, String> {
    let quarter = samples.len() / 4;
    let median = |samples: &[Sample]| {
        let mut resident: Vec<_> = samples.iter().map(|sample| sample.resident).collect();
        resident.sort_unstable();
        resident.get(resident.len() / 2).copied().unwrap_or(0)
    };
    let third = median(&samples[samples.len() - 2 * quarter..samples.len() - quarter]);
    let last = median(&samples[samples.len() - quarter..]);
    let said = format!(
        "{} in the third quarter, {} in the last",
        mib(third),
        mib(last)
    );
    if last > third + third / 10 + GROWTH {
        return Err(said);
    }
    Ok(said)
}

pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Names the descriptors of a process, with the state and the ends of those that are TCP sockets.
fn named(pid: i32) -> String {
    let sockets = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let name = |link: &str| {
        let inode = link.strip_prefix("socket:[")?.strip_suffix(']')?;
        let mut all = sockets.lines().map(|line| line.split_whitespace());
        // Ends and state are the second to the fourth column, in hexadecimal digits.
        let mut socket = all.find(|columns| columns.clone().nth(9) == Some(inode))?;
        let (local, remote, state) = (socket.nth(1)?, socket.next()?, socket.next()?);
        Some(format!("tcp {local}-{remote} {state}"))
    };
    let mut names = Vec::new();
    for descriptor in fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let link = fs::read_link(descriptor.path()).unwrap_or_default();
        let link = link.to_string_lossy();
        names.push(name(&link).unwrap_or_else(|| link.into_owned()));
    }
    names.sort_unstable();
    names.join(", ")
}

/// The figures of `/metrics` that must be 0 when nobody asks for anything.
const OPEN: [&str; 5] = [
    "edge_requests_open",
    "edge_connections_open",
    "edge_upstream_requests_open",
    "edge_upstream_queue_length",
    "edge_worker_requests_open",
];

/// Descriptors that may be there in the end and were not in the beginning: the log that was opened anew, and one that is
/// about to be closed.
const MORE_DESCRIPTORS: u64 = 2;

/// The time after which all that clients have left is gone: `timeouts.idle` of connections to servers, and some.
const SETTLED: Duration = Duration::from_secs(40);

/// Waits until nothing is left of the load.
///
/// # Errors
///
/// The rest.
pub async fn settle(proxy: &Proxy, before: &Sample) -> Result<String, String> {
    let begun = Instant::now();
    loop {
        let left = left(proxy, before).await?;
        if left.is_empty() {
            let now = Sample::take(proxy.pid()).ok_or("the process has ended")?;
            return Ok(format!(
                "nothing under way after {:.1} s; descriptors {} (at the start {}), threads {} ({})",
                begun.elapsed().as_secs_f32(),
                now.descriptors,
                before.descriptors,
                now.threads,
                before.threads
            ));
        }
        if begun.elapsed() > SETTLED {
            return Err(left);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn left(proxy: &Proxy, before: &Sample) -> Result<String, String> {
    let (_, metrics) = proxy.admin("GET", "/metrics", "").await?;
    let metrics = String::from_utf8_lossy(&metrics);
    let mut left = String::new();
    for line in metrics.lines() {
        let is_open = OPEN.iter().any(|name| line.starts_with(name));
        if is_open && !line.ends_with(" 0") {
            let _ = write!(left, "{line}; ");
        }
    }
    let now = Sample::take(proxy.pid()).ok_or("the process has ended")?;
    if now.descriptors > before.descriptors + MORE_DESCRIPTORS {
        let _ = write!(
            left,
            "descriptors {}, at the start {}: {}; ",
            now.descriptors,
            before.descriptors,
            named(proxy.pid())
        );
    }
    if now.threads > before.threads + MORE_DESCRIPTORS {
        let _ = write!(
            left,
            "threads {}, at the start {}; ",
            now.threads, before.threads
        );
    }
    Ok(left)
}
