//! Programs that run while something is measured: on their cores, with what they use counted, ended at the end.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{getrlimit, getrusage, setrlimit, Resource, UsageWho};
use nix::sys::signal::{kill, Signal};
use nix::sys::time::TimeValLike;
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use crate::cores;

/// A program that runs, with the processes it starts, until this is dropped.
pub(crate) struct Process {
    child: Child,
    errors: PathBuf,
}

impl Process {
    /// Starts it on these cores, and waits until it listens there. What it writes goes to a file in `dir`.
    pub(crate) fn start(
        command: &mut Command,
        cores: &[usize],
        dir: &Path,
        listens: SocketAddr,
    ) -> Result<Self, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let failed = |e: std::io::Error| format!("cannot start {name}: {e}");
        let errors = dir.join("output");
        let output = File::create(&errors).map_err(failed)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output);
        let child = cores::on(cores, || command.spawn())?.map_err(failed)?;
        let mut process = Process { child, errors };
        let begin = Instant::now();
        while TcpStream::connect(listens).is_err() {
            if process.ended() || begin.elapsed() > Duration::from_secs(20) {
                return Err(format!("{name} does not listen: {}", process.output()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Or another program had got the port.
        match process.ended() {
            true => Err(format!("{name} ended: {}", process.output())),
            false => Ok(process),
        }
    }

    pub(crate) fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of what it wrote.
    pub(crate) fn output(&self) -> String {
        let text = std::fs::read(&self.errors).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("; ")
    }

    /// Seconds of processor time of all its processes and threads.
    pub(crate) fn cpu(&self) -> Result<f64, String> {
        let nanos = self.tree().into_iter().map(|pid| {
            let time = clock_getcpuclockid(pid).and_then(|clock| clock.now());
            Ok(time
                .map_err(|e| format!("no clock of process {pid}: {e}"))?
                .num_nanoseconds())
        });
        Ok(nanos.sum::<Result<i64, String>>()? as f64 / 1e9)
    }

    /// Bytes of memory that all its processes have resident.
    pub(crate) fn resident(&self) -> Result<u64, String> {
        self.tree().into_iter().map(resident).sum()
    }

    fn tree(&self) -> Vec<Pid> {
        let root = self.child.id() as i32;
        descendants(root, &parents())
            .into_iter()
            .map(Pid::from_raw)
            .collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let tree = self.tree();
        // Whoever has ended already needs no signal.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT);
        let begin = Instant::now();
        while !self.ended() {
            if begin.elapsed() > Duration::from_secs(3) {
                for pid in &tree {
                    let _ = kill(*pid, Signal::SIGKILL);
                }
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Processes with their parents.
fn parents() -> Vec<(i32, i32)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        Some((pid, parent_in(&stat)?))
    });
    stats.collect()
}

/// The parent, from the text of `/proc/PID/stat`, in which the name may contain anything.
fn parent_in(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// A process and all below it.
fn descendants(root: i32, parents: &[(i32, i32)]) -> Vec<i32> {
    let mut tree = vec![root];
    let mut at = 0;
    while let Some(parent) = tree.get(at).copied() {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        tree.extend(children.map(|(pid, _)| *pid));
        at += 1;
    }
    tree
}

fn resident(pid: Pid) -> Result<u64, String> {
    // The sum over the mappings is exact; the counter in `status` lags behind on many cores.
    let exact = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    if let Some(bytes) = exact.ok().and_then(|text| kilobytes(&text, "Rss:")) {
        return Ok(bytes);
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    kilobytes(&status, "VmRSS:").ok_or_else(|| format!("cannot read the memory of process {pid}"))
}

/// The bytes that a line like `VmRSS:   12 kB` tells.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// What a program that has ended wrote, and the seconds of processor time that it took.
pub(crate) struct Ended {
    pub(crate) output: String,
    pub(crate) cpu: f64,
}

/// Runs a program on these cores to its end, for which it has this time.
pub(crate) fn run(
    command: &mut Command,
    cores: &[usize],
    dir: &Path,
    limit: Duration,
) -> Result<Ended, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |e: std::io::Error| format!("cannot run {name}: {e}");
    let path = dir.join("result");
    let output = File::create(&path).map_err(failed)?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(failed)?)
        .stderr(output);
    let before = of_children()?;
    let mut child = cores::on(cores, || command.spawn())?.map_err(failed)?;
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if begin.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("{name} did not end"));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let cpu = of_children()? - before;
    let output = std::fs::read(&path).map_err(failed)?;
    let output = String::from_utf8_lossy(&output).into_owned();
    match status.success() {
        true => Ok(Ended { output, cpu }),
        false => Err(format!("{name}: {status}: {}", output.trim())),
    }
}

/// Seconds of processor time of children that were waited for.
fn of_children() -> Result<f64, String> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|e| e.to_string())?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(micros as f64 / 1e6)
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr, String> {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    address.map_err(|e| format!("no free port: {e}"))
}

/// Lets this process, and those that it starts, open as many files as are needed, or as they may; says how many.
pub(crate) fn limit_files() -> Result<u64, String> {
    // Both limits: there are peers that reserve memory for as many files as the higher one allows.
    if setrlimit(Resource::RLIMIT_NOFILE, FILES, FILES).is_ok() {
        return Ok(FILES);
    }
    let failed = |e: nix::Error| format!("cannot set the limit of open files: {e}");
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(failed)?;
    Ok(hard)
}

const FILES: u64 = 32_768;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_read() {
        assert_eq!(parent_in("12 (a) b) (c) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in("12"), None);
    }

    #[test]
    fn a_tree_is_found() {
        let parents = [(1, 0), (5, 1), (7, 5), (8, 7), (9, 1)];
        assert_eq!(descendants(5, &parents), [5, 7, 8]);
    }

    #[test]
    fn memory_is_read() {
        assert_eq!(
            kilobytes("Name: x\nVmRSS:\t  12 kB\n", "VmRSS:"),
            Some(12288)
        );
        assert_eq!(kilobytes("Name: x\n", "VmRSS:"), None);
    }

    #[test]
    fn what_a_program_says_and_how_it_ends_is_seen() {
        let dir = crate::files::Dir::new().unwrap();
        let cores = cores::usable().unwrap();
        let limit = Duration::from_secs(60);
        let sh = |script: &str| {
            run(
                Command::new("sh").args(["-c", script]),
                &cores,
                dir.path(),
                limit,
            )
        };
        assert_eq!(sh("echo out").map(|ended| ended.output).unwrap(), "out\n");
        assert!(sh("echo why >&2; exit 3").err().unwrap().contains("why"));
    }
}
