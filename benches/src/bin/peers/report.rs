//! The figures as text: medians, ratios, and what limits their meaning.

use std::fmt::Write;

use crate::load::Tool;
use crate::measure::{Bench, Results};
use crate::peer::{first_line, Kind, Peer};
use crate::scenario::{Reading, Scenario, Shares};

pub(crate) struct Report<'a> {
    pub(crate) bench: &'a Bench,
    results: &'a Results,
    /// Whom the others are compared with.
    against: Option<usize>,
    floor: Option<usize>,
}

/// The medians of the readings of one peer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Medians {
    pub(crate) cost: f64,
    /// Half of the way from the least to the greatest reading, as a part of the median.
    pub(crate) spread: f64,
    pub(crate) per_second: Option<f64>,
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    /// Of all rounds together.
    pub(crate) errors: u64,
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[half]),
        _ => Some((values[half - 1] + values[half]) / 2.0),
    }
}

impl Medians {
    fn of(readings: &[Reading]) -> Option<Self> {
        let cost = median(readings.iter().map(|reading| reading.cost))?;
        let least = readings.iter().map(|r| r.cost).fold(f64::MAX, f64::min);
        let most = readings.iter().map(|r| r.cost).fold(0.0, f64::max);
        let seen = || readings.iter().map(|reading| &reading.seen);
        Some(Medians {
            cost,
            spread: if cost > 0.0 {
                (most - least) / 2.0 / cost
            } else {
                0.0
            },
            per_second: median(seen().filter_map(|seen| seen.per_second)),
            p50: median(seen().filter_map(|seen| seen.p50)),
            p99: median(seen().filter_map(|seen| seen.p99)),
            errors: seen().map(|seen| seen.errors).sum(),
        })
    }
}

fn shares(readings: &[Reading]) -> Option<Shares> {
    let of = |part: fn(&Shares) -> f64| median(readings.iter().flat_map(|r| &r.shares).map(part));
    Some(Shares {
        peer: of(|shares| shares.peer)?,
        load: of(|shares| shares.load)?,
        origin: of(|shares| shares.origin)?,
        foreign: of(|shares| shares.foreign)?,
    })
}

/// A core that is busy for a larger part of the time is taken for one that held the others up.
const FULL: f64 = 0.95;
/// More than this by other programs makes figures doubtful.
const FOREIGN: f64 = 0.05;

/// What kept the rate down other than the peer.
fn limit(of: Shares, shared: bool) -> Option<&'static str> {
    match of {
        Shares { load, origin, .. } if shared && load + origin > FULL => {
            Some("The bottleneck was the core that load generator and origin share")
        }
        Shares { load, .. } if !shared && load > FULL => {
            Some("The bottleneck was the load generator")
        }
        Shares { origin, .. } if !shared && origin > FULL => Some("The bottleneck was the origin"),
        Shares { peer, .. } if peer < FULL => Some("Nobody was busy all the time"),
        _ => None,
    }
}

impl<'a> Report<'a> {
    pub(crate) fn new(bench: &'a Bench, results: &'a Results, against: &str) -> Self {
        let place = |name: &str| bench.peers.iter().position(|peer| peer.kind.name() == name);
        Report {
            bench,
            results,
            against: place(against).or_else(|| place(Kind::Ours.name())),
            floor: place(Kind::Floor.name()),
        }
    }

    fn readings(&self, which: (usize, usize, usize)) -> &[Reading] {
        self.results.readings.get(&which).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn medians(&self, w: usize, s: usize, p: usize) -> Option<Medians> {
        Medians::of(self.readings((w, s, p)))
    }

    /// How often the cost of another peer this one is.
    fn ratio(&self, (w, s, p): (usize, usize, usize), to: Option<usize>) -> Option<f64> {
        let base = self.medians(w, s, to?)?.cost;
        (base > 0.0).then_some(self.medians(w, s, p)?.cost / base)
    }

    /// The name of the peer that the others are compared with.
    pub(crate) fn base(&self) -> Option<&'static str> {
        self.against.map(|p| self.bench.peers[p].kind.name())
    }

    pub(crate) fn text(&self) -> String {
        let mut text = self.conditions();
        for (w, workers) in self.bench.workers.iter().enumerate() {
            let _ = writeln!(text, "\n### {workers} {}\n", plural("worker", *workers));
            text += &self.summary(w);
            for s in 0..self.bench.scenarios.len() {
                text += &self.table(w, s);
            }
        }
        text + &self.commands()
    }

    fn conditions(&self) -> String {
        let bench = self.bench;
        let mut text = format!("{}.\n\n", machine(&bench.cores));
        let _ = writeln!(
            text,
            "{} rounds of {} s for each load; medians. On these cores: {}.\n",
            bench.rounds,
            bench.secs,
            self.divisions()
        );
        for Peer { kind, version, .. } in &bench.peers {
            let _ = writeln!(text, "- `{}`: {version}", kind.name());
        }
        for tool in Tool::ALL {
            if let Some(program) = bench.tools.of(tool) {
                let flag = if tool == Tool::Wrk { "-v" } else { "--version" };
                let _ = writeln!(text, "- {}: {}", tool.name(), first_line(program, flag));
            }
        }
        for (p, peer) in bench.peers.iter().enumerate() {
            let of_peer = self
                .results
                .readings
                .iter()
                .filter(|((.., at), _)| *at == p);
            let agreed = of_peer.flat_map(|(_, readings)| readings);
            if let Some(agreed) = agreed
                .filter_map(|reading| reading.seen.agreed.as_ref())
                .next()
            {
                let _ = writeln!(text, "- TLS of `{}`: {agreed}", peer.kind.name());
            }
        }
        for note in bench.notes.iter().chain(&self.results.failures) {
            let _ = writeln!(text, "\n**{note}**");
        }
        text
    }

    fn divisions(&self) -> String {
        let of = |workers: &usize| {
            let division = crate::cores::Division::new(&self.bench.cores, *workers);
            let mut text = format!("peer {:?}", division.peer);
            if division.shared() {
                let _ = write!(
                    text,
                    ", load generator and origin together {:?}",
                    division.load
                );
            } else {
                let (load, origin) = (division.load.clone(), division.origin.clone());
                let _ = write!(text, ", load generator {load:?}, origin {origin:?}");
            }
            if !division.apart() {
                text += " (the peer has no core to itself: its cost includes what they disturb)";
            }
            text
        };
        let all: Vec<String> = self.bench.workers.iter().map(of).collect();
        all.join("; ")
    }

    /// Costs of all, and their ratios.
    fn summary(&self, w: usize) -> String {
        let bench = self.bench;
        let names: Vec<&str> = bench.peers.iter().map(|peer| peer.kind.name()).collect();
        let mut text = String::new();
        if let Some(base) = self.base() {
            let _ = writeln!(text, "In brackets: times the cost of `{base}`.\n");
        }
        let _ = writeln!(text, "| | | {} |", names.join(" | "));
        let _ = writeln!(text, "|---|---|{}", "---:|".repeat(names.len()));
        for (s, scenario) in bench.scenarios.iter().enumerate() {
            let cell = |p: usize| {
                let Some(medians) = self.medians(w, s, p) else {
                    return "–".to_owned();
                };
                let ratio = self.ratio((w, s, p), self.against);
                let ratio = ratio.map_or(String::new(), |ratio| format!(" ({ratio:.2})"));
                format!("{}{ratio}", number(medians.cost))
            };
            let cells: Vec<String> = (0..names.len()).map(cell).collect();
            let (title, cost) = (scenario.title, scenario.cost());
            let _ = writeln!(text, "| {title} | {cost} | {} |", cells.join(" | "));
        }
        text
    }

    fn table(&self, w: usize, s: usize) -> String {
        let bench = self.bench;
        let scenario = bench.scenarios[s];
        let mut columns = vec![scenario.cost(), "±".to_owned()];
        let ratios = [
            (self.floor, "floor"),
            (self.against, self.base().unwrap_or_default()),
        ];
        // The pass-through has no memory of its connections worth a comparison.
        let told = |name: &str| scenario.load.is_some() || name != Kind::Floor.name();
        let ratios: Vec<_> = ratios
            .into_iter()
            .filter(|(_, name)| told(name))
            .filter(|(to, _)| to.is_some_and(|p| self.medians(w, s, p).is_some()))
            .collect();
        columns.extend(ratios.iter().map(|(_, name)| format!("× {name}")));
        if scenario.load.is_some() {
            let rate = format!("{}s / s", scenario.unit);
            columns.extend([rate, "p50 ms".into(), "p99 ms".into(), "errors".into()]);
            columns.push("busy: peer".into());
            columns.extend(["load".into(), "origin".into()]);
        }
        let mut text = format!("\n#### {}", scenario.title);
        if bench.workers.len() > 1 {
            let workers = bench.workers[w];
            let _ = write!(text, ", {workers} {}", plural("worker", workers));
        }
        let _ = writeln!(text, "\n\n| | {} |", columns.join(" | "));
        let _ = writeln!(text, "|---|{}", "---:|".repeat(columns.len()));
        for (p, peer) in bench.peers.iter().enumerate() {
            let Some(of) = self.medians(w, s, p) else {
                continue;
            };
            let mut cells = vec![number(of.cost), percent(of.spread)];
            for (to, _) in &ratios {
                let ratio = self.ratio((w, s, p), *to);
                cells.push(ratio.map_or("–".into(), |ratio| format!("{ratio:.2}")));
            }
            if scenario.load.is_some() {
                let time = |ms: Option<f64>| ms.map_or("–".to_owned(), |ms| format!("{ms:.2}"));
                cells.push(
                    of.per_second
                        .map_or("–".into(), |rate| format!("{rate:.0}")),
                );
                cells.extend([time(of.p50), time(of.p99), of.errors.to_string()]);
                let shares = shares(self.readings((w, s, p)));
                let parts = shares.map(|of| [of.peer, of.load, of.origin]);
                cells.extend(parts.into_iter().flatten().map(percent));
            }
            let _ = writeln!(text, "| {} | {} |", peer.kind.name(), cells.join(" | "));
        }
        text + &self.warnings(w, s, scenario)
    }

    /// What the reader is to know before believing a rate or a cost.
    fn warnings(&self, w: usize, s: usize, scenario: &Scenario) -> String {
        if scenario.load.is_none() {
            return String::new();
        }
        let division = crate::cores::Division::new(&self.bench.cores, self.bench.workers[w]);
        let mut limited: Vec<(&str, Vec<&str>)> = Vec::new();
        let mut disturbed = Vec::new();
        for (p, peer) in self.bench.peers.iter().enumerate() {
            let Some(of) = shares(self.readings((w, s, p))) else {
                continue;
            };
            let name = peer.kind.name();
            if let Some(by) = limit(of, division.shared()) {
                match limited.iter_mut().find(|(other, _)| *other == by) {
                    Some((_, names)) => names.push(name),
                    None => limited.push((by, vec![name])),
                }
            }
            if of.foreign > FOREIGN {
                disturbed.push(format!("{name} {}", percent(of.foreign)));
            }
        }
        let mut text = String::new();
        for (by, names) in limited {
            let _ = writeln!(
                text,
                "\n{by}, with: {}. What these could do at most, and how fast, is not to be seen here; what a {} costs \
                 them is.",
                names.join(", "),
                scenario.unit
            );
        }
        if !disturbed.is_empty() {
            let _ = writeln!(
                text,
                "\nOther programs, or the host of this machine, took time of the cores that were measured: {}.",
                disturbed.join(", ")
            );
        }
        text
    }

    fn commands(&self) -> String {
        let mut text = "\n### Commands\n\n`PEER` and `ORIGIN` are addresses, `DIR` a folder with the files below (for the first \
                        number of workers), \
                        a certificate (ECDSA P-256) and its key.\n\n```sh\n"
            .to_owned();
        for command in &self.results.commands {
            let _ = writeln!(text, "{command}");
        }
        text += "```\n";
        for (name, file) in &self.results.files {
            let _ = writeln!(
                text,
                "\n<details><summary>{name}</summary>\n\n```\n{file}```\n\n</details>"
            );
        }
        text
    }
}

fn plural(word: &str, n: usize) -> String {
    format!("{word}{}", if n == 1 { "" } else { "s" })
}

/// With three digits at least.
pub(crate) fn number(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

fn machine(cores: &[usize]) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown processor", |text| {
        text.trim_matches(['\t', ' ', ':'])
    });
    let memory = read("/proc/meminfo");
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = memory.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let gigabytes = kilobytes.map_or(String::new(), |n| format!(", {} GiB", n.div_ceil(1 << 20)));
    let n = cores.len();
    let virtual_one = match info.contains(" hypervisor") {
        true => ", a virtual machine",
        false => "",
    };
    format!(
        "{model}, {n} {} in use{gigabytes}{virtual_one}, Linux {}",
        plural("core", n),
        read("/proc/sys/kernel/osrelease").trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Seen;

    fn reading(cost: f64, errors: u64, p50: Option<f64>) -> Reading {
        let seen = Seen {
            errors,
            p50,
            ..Seen::default()
        };
        Reading {
            cost,
            seen,
            shares: None,
        }
    }

    #[test]
    fn medians_of_readings() {
        let readings = [
            reading(10.0, 1, Some(2.0)),
            reading(12.0, 0, None),
            reading(11.0, 2, Some(4.0)),
        ];
        let of = Medians::of(&readings).unwrap();
        assert_eq!((of.cost, of.errors), (11.0, 3));
        assert!((of.spread - 1.0 / 11.0).abs() < 1e-9);
        assert_eq!((of.p50, of.p99), (Some(3.0), None));
        assert_eq!(Medians::of(&[]), None);
    }

    #[test]
    fn medians_of_values() {
        assert_eq!(median([].into_iter()), None);
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
    }

    #[test]
    fn bottlenecks_are_named() {
        let of = |peer, load, origin| Shares {
            peer,
            load,
            origin,
            foreign: 0.0,
        };
        let limit = |shares, shared| limit(shares, shared).unwrap_or_default();
        assert_eq!(limit(of(0.99, 0.5, 0.4), true), "");
        assert!(limit(of(0.99, 0.6, 0.4), true).contains("share"));
        assert!(limit(of(0.5, 0.5, 0.4), true).starts_with("Nobody"));
        assert_eq!(limit(of(0.99, 0.6, 0.6), false), "");
        assert!(limit(of(0.99, 0.97, 0.6), false).contains("the load generator"));
        assert!(limit(of(0.99, 0.6, 0.97), false).contains("the origin"));
        assert!(limit(of(0.5, 0.6, 0.6), false).starts_with("Nobody"));
    }

    #[test]
    fn numbers_have_their_digits() {
        assert_eq!(number(1234.5), "1234");
        assert_eq!(number(12.345), "12.3");
        assert_eq!(number(1.2345), "1.23");
    }
}
