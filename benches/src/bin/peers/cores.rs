//! Which cores whom is given, and what else runs on them.

use std::path::Path;

use nix::sched::{sched_getaffinity, sched_setaffinity, CpuSet};
use nix::unistd::Pid;

/// Who runs where, while a peer has so many workers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Division {
    pub(crate) peer: Vec<usize>,
    pub(crate) load: Vec<usize>,
    pub(crate) origin: Vec<usize>,
}

impl Division {
    /// The first cores are the peer's, one for each worker; the others are halved between the load
    /// generator and the origin. With too few cores, what is left is shared.
    pub(crate) fn new(cores: &[usize], workers: usize) -> Self {
        let (peer, rest) = cores.split_at(workers.min(cores.len()));
        let (load, origin) = match rest {
            [] => (peer, peer),
            [_] => (rest, rest),
            _ => rest.split_at(rest.len().div_ceil(2)),
        };
        Division {
            peer: peer.to_vec(),
            load: load.to_vec(),
            origin: origin.to_vec(),
        }
    }

    /// Whether the load generator and the origin have the same cores.
    pub(crate) fn shared(&self) -> bool {
        self.load == self.origin
    }

    /// Whether the peer has them to itself.
    pub(crate) fn apart(&self) -> bool {
        self.peer != self.load
    }

    pub(crate) fn all(&self) -> Vec<usize> {
        let mut all = [&self.peer[..], &self.load, &self.origin].concat();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// One worker, and twice as many as long as that leaves as many cores for the others.
pub(crate) fn workers(cores: usize) -> Vec<usize> {
    let doubled = std::iter::successors(Some(1), |n| Some(n * 2));
    let fit = doubled.take_while(|n| *n == 1 || n * 2 <= cores);
    fit.collect()
}

/// The processors that this process may use: one of each core where it has several threads, and all
/// of them where that would leave fewer than two.
pub(crate) fn usable() -> Result<Vec<usize>, String> {
    let set = allowed()?;
    let mut all: Vec<usize> = (0..CpuSet::count())
        .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
        .collect();
    let first = |cpu: &usize| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        let siblings = std::fs::read_to_string(Path::new(&path)).unwrap_or_default();
        first_of(&siblings).is_none_or(|first| first == *cpu || !all.contains(&first))
    };
    let one_each: Vec<usize> = all.iter().copied().filter(first).collect();
    if one_each.len() > 1 {
        all = one_each;
    }
    match all.len() {
        0 => Err("this process may run on no processor".into()),
        _ => Ok(all),
    }
}

/// The first number of a list like `0,8` or `0-1`.
fn first_of(list: &str) -> Option<usize> {
    list.trim().split([',', '-']).next()?.parse().ok()
}

fn allowed() -> Result<CpuSet, String> {
    sched_getaffinity(Pid::from_raw(0)).map_err(|e| format!("cannot ask for the processors: {e}"))
}

/// Does something on these cores; processes and threads that it starts stay there.
pub(crate) fn on<T>(cores: &[usize], f: impl FnOnce() -> T) -> Result<T, String> {
    let failed = |e: nix::Error| format!("cannot run on the cores {cores:?}: {e}");
    let before = allowed()?;
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core).map_err(failed)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).map_err(failed)?;
    let result = f();
    sched_setaffinity(Pid::from_raw(0), &before).map_err(failed)?;
    Ok(result)
}

/// Seconds, since the system began, in which these cores were not idle.
pub(crate) fn busy(cores: &[usize]) -> Result<f64, String> {
    let stat = std::fs::read_to_string("/proc/stat").map_err(|e| format!("/proc/stat: {e}"))?;
    Ok(cores.iter().map(|core| busy_in(&stat, *core)).sum())
}

/// The same of one core, from the text of `/proc/stat`.
fn busy_in(stat: &str, core: usize) -> f64 {
    let name = format!("cpu{core}");
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix(&name)?.strip_prefix(' '));
    let ticks = line.unwrap_or_default().split_whitespace();
    let ticks: Vec<f64> = ticks.flat_map(str::parse).collect();
    // user nice system idle iowait irq softirq steal; guests are in user.
    let counted = [0, 1, 2, 5, 6, 7].map(|n| ticks.get(n).copied().unwrap_or(0.0));
    counted.iter().sum::<f64>() / TICKS
}

/// The kernel tells user programs times in this part of a second on every architecture of Linux but Alpha.
const TICKS: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_divided() {
        let of = |cores: usize, workers| {
            let cores: Vec<usize> = (0..cores).collect();
            let division = Division::new(&cores, workers);
            (division.peer, division.load, division.origin)
        };
        assert_eq!(of(1, 1), (vec![0], vec![0], vec![0]));
        assert_eq!(of(2, 1), (vec![0], vec![1], vec![1]));
        assert_eq!(of(4, 1), (vec![0], vec![1, 2], vec![3]));
        assert_eq!(of(4, 2), (vec![0, 1], vec![2], vec![3]));
        assert_eq!(of(2, 3), (vec![0, 1], vec![0, 1], vec![0, 1]));
    }

    #[test]
    fn a_division_knows_who_shares() {
        let two = Division::new(&[4, 6], 1);
        assert!(two.shared() && two.apart());
        assert_eq!(two.all(), [4, 6]);
        assert!(!Division::new(&[4], 1).apart());
        assert!(!Division::new(&[1, 2, 3], 1).shared());
    }

    #[test]
    fn workers_leave_room() {
        assert_eq!(workers(1), [1]);
        assert_eq!(workers(2), [1]);
        assert_eq!(workers(4), [1, 2]);
        assert_eq!(workers(16), [1, 2, 4, 8]);
    }

    #[test]
    fn busy_time_is_read() {
        let stat =
            "cpu  1 2 3 4\ncpu1 100 200 300 9000 9000 10 20 70 5 5\ncpu10 7 0 0 0 0 0 0 0 0 0\n";
        assert_eq!(busy_in(stat, 1), 7.0);
        assert_eq!(busy_in(stat, 2), 0.0);
    }

    #[test]
    fn siblings_are_read() {
        assert_eq!(first_of("3,11\n"), Some(3));
        assert_eq!(first_of("0-1\n"), Some(0));
        assert_eq!(first_of(""), None);
    }
}
