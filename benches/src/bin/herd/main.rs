//! What it costs to bring connections to workers, for each accept strategy and the ways that came before.
//!
//! A server with so many workers says a byte to each connection. Clients, in a process of their own, connect one
//! after the other on a few threads: with connections that end at once, and with ones that stay. Counted are
//! wake-ups of who accepts, connections by worker, and what the system counts for the process of the server.

mod client;
mod old;
mod ours;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use benches::plot::Chart;
use clap::Parser;
use nix::sys::resource::{getrusage, UsageWho};
use pingora_core::listeners::AcceptStrategy;

use client::{Clients, Load};
use old::Epolls;

#[derive(Parser)]
#[command(about = "Measures what it costs to bring connections to workers.")]
struct Args {
    /// Numbers of workers.
    #[arg(long, value_delimiter = ',', default_values_t = [1usize, 2, 4, 16, 64])]
    workers: Vec<usize>,
    /// Connections that end at once, for each figure.
    #[arg(long, default_value_t = 4000)]
    connections: usize,
    /// Connections that stay.
    #[arg(long, default_value_t = 1000)]
    long: usize,
    /// Threads of clients.
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// How often everything is measured; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A Markdown file in which the part between the marks `figures` is replaced; the charts go next to it.
    #[arg(long)]
    doc: Option<PathBuf>,
    #[arg(long, hide = true)]
    client: Option<SocketAddr>,
    #[arg(long, hide = true)]
    hold: bool,
}

/// What a server has counted.
struct Counts {
    woken: u64,
    idle: u64,
    accepted: u64,
    /// Connections by worker; more entries than workers are zero.
    served: Vec<u64>,
}

#[derive(Clone, Copy)]
enum Way {
    Old(&'static str, Epolls),
    Ours(AcceptStrategy),
}

impl Way {
    fn all() -> Vec<Way> {
        let old = [
            Way::Old("plain epoll", Epolls::Each),
            Way::Old("one epoll", Epolls::One),
        ];
        let ours = AcceptStrategy::ALL.map(Way::Ours);
        old.into_iter().chain(ours).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Way::Old(name, _) => name,
            Way::Ours(strategy) => strategy.name(),
        }
    }
}

enum Server {
    Old(old::Server),
    Ours(ours::Server),
}

impl Server {
    fn start(way: Way, workers: usize, hold: bool) -> Result<Self, String> {
        Ok(match way {
            Way::Old(_, epolls) => Server::Old(old::Server::start(epolls, workers, hold)?),
            Way::Ours(strategy) => Server::Ours(ours::Server::start(strategy, workers, hold)?),
        })
    }

    fn address(&self) -> SocketAddr {
        match self {
            Server::Old(server) => server.address,
            Server::Ours(server) => server.address,
        }
    }

    fn counts(&self) -> Counts {
        match self {
            Server::Old(server) => server.counts(),
            Server::Ours(server) => server.counts(),
        }
    }

    fn stop(self) -> Result<(), String> {
        match self {
            Server::Old(server) => server.stop(),
            Server::Ours(server) => server.stop(),
        }
    }
}

/// One figure of each kind.
const KINDS: [Kind; 7] = [
    Kind::new("idle wake-ups / connection", "idle", 0.001, 3),
    Kind::new("fullest / mean, short", "short", 1.0, 2),
    Kind::new("fullest / mean, long", "long", 1.0, 2),
    Kind::new("p50 µs", "p50", 10.0, 0),
    Kind::new("p99 µs", "p99", 10.0, 0),
    Kind::new("connections / s", "rate", 100.0, 0),
    Kind::new("switches / connection", "switches", 0.1, 2),
];

struct Kind {
    title: &'static str,
    file: &'static str,
    least: f64,
    digits: usize,
}

impl Kind {
    const fn new(title: &'static str, file: &'static str, least: f64, digits: usize) -> Self {
        Kind {
            title,
            file,
            least,
            digits,
        }
    }
}

type Figures = [f64; KINDS.len()];

fn measure(way: Way, workers: usize, args: &Args) -> Result<Figures, String> {
    let run = |hold: bool, connections: usize| {
        let server = Server::start(way, workers, hold)?;
        // Everything has been touched once.
        let load = |connections| Load {
            address: server.address(),
            connections,
            threads: args.clients,
            hold,
        };
        drop(Clients::run(&load(args.clients))?);
        let (before, switches, sleeps) = (server.counts(), switches()?, sleeps()?);
        let clients = Clients::run(&load(connections))?;
        let after = server.counts();
        let (switches, sleeps) = (self::switches()? - switches, self::sleeps()? - sleeps);
        let served: Vec<u64> = {
            let both = after.served.iter().zip(&before.served);
            both.map(|(after, before)| after - before).collect()
        };
        let most = served.iter().max().copied().unwrap_or(0) as f64;
        let mean = served.iter().sum::<u64>() as f64 / workers as f64;
        let accepted = (after.accepted - before.accepted).max(1) as f64;
        let idle = after.idle - before.idle;
        // Whom the kernel wakes and puts to sleep again, since another one was faster, never returns from
        // `epoll_wait`.
        let useful = (after.woken - before.woken).saturating_sub(idle);
        let idle = idle.max(sleeps.saturating_sub(useful)) as f64 / accepted;
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let seen = &clients.seen;
        let seen = (micros(seen.p50), micros(seen.p99), seen.per_second);
        drop(clients);
        server.stop()?;
        Ok::<_, String>((idle, most / mean, seen, switches as f64 / accepted))
    };
    let (idle, short, (p50, p99, rate), switches) = run(false, args.connections)?;
    let (_, long, ..) = run(true, args.long)?;
    Ok([idle, short, long, p50, p99, rate, switches])
}

/// How often threads of this process were taken off a processor, or left it.
fn switches() -> Result<i64, String> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(|e| e.to_string())?;
    Ok(usage.voluntary_context_switches() + usage.involuntary_context_switches())
}

/// How often threads that do nothing but wait for connections went to sleep: as often as they were woken.
fn sleeps() -> Result<u64, String> {
    let failed = |e: std::io::Error| format!("cannot look at the threads: {e}");
    let mut sleeps = 0;
    for task in std::fs::read_dir("/proc/self/task").map_err(failed)? {
        let status = task.map_err(failed)?.path().join("status");
        let status = std::fs::read_to_string(status).map_err(failed)?;
        let of = |key: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        };
        if of("Name").is_some_and(|name| name.trim().starts_with(WAITING)) {
            let n = of("voluntary_ctxt_switches").map(|n| n.trim().parse());
            sleeps += n.and_then(Result::ok).unwrap_or(0u64);
        }
    }
    Ok(sleeps)
}

/// Begins the names of such threads.
const WAITING: &str = "accept ";

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn run(args: &Args) -> Result<(), String> {
    if let Some(address) = args.client {
        return client::main(&Load {
            address,
            connections: args.connections,
            threads: args.clients.max(1),
            hold: args.hold,
        });
    }
    let ways = Way::all();
    let workers: Vec<usize> = args.workers.iter().copied().filter(|n| *n > 0).collect();
    let mut readings: BTreeMap<(usize, usize), Vec<Figures>> = BTreeMap::new();
    // Round by round, so that what else the machine does hits all alike.
    for round in 1..=args.rounds.max(1) {
        eprintln!("round {round}");
        for (w, &n) in workers.iter().enumerate() {
            for (i, way) in ways.iter().enumerate() {
                let figures = measure(*way, n, args)?;
                readings.entry((i, w)).or_default().push(figures);
            }
        }
    }
    let figure = |way: usize, workers: usize, kind: usize| {
        let of = readings.get(&(way, workers)).into_iter().flatten();
        median(of.map(|figures| figures[kind]).collect())
    };
    let text = tables(&ways, &workers, args, &figure);
    println!("{text}");
    match &args.doc {
        Some(doc) => write(doc, &text, &ways, &workers, &figure),
        None => Ok(()),
    }
}

fn tables(
    ways: &[Way],
    workers: &[usize],
    args: &Args,
    figure: &dyn Fn(usize, usize, usize) -> f64,
) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut text = format!(
        "{cores} cores, Linux {}; {} short connections from {} clients, {} long ones; medians of {} rounds.\n",
        kernel.trim(),
        args.connections,
        args.clients,
        args.long,
        args.rounds.max(1)
    );
    for (w, n) in workers.iter().enumerate() {
        let titles: Vec<&str> = KINDS.iter().map(|kind| kind.title).collect();
        text += &format!("\n| {n} workers | {} |\n", titles.join(" | "));
        text += &format!("|---|{}\n", "---:|".repeat(KINDS.len()));
        for (i, way) in ways.iter().enumerate() {
            let cells: Vec<String> = KINDS
                .iter()
                .enumerate()
                .map(|(k, kind)| format!("{:.*}", kind.digits, figure(i, w, k)))
                .collect();
            text += &format!("| {} | {} |\n", way.name(), cells.join(" | "));
        }
    }
    text
}

const BEGIN: &str = "<!-- figures -->\n";
const END: &str = "<!-- end of figures -->";

fn write(
    doc: &Path,
    text: &str,
    ways: &[Way],
    workers: &[usize],
    figure: &dyn Fn(usize, usize, usize) -> f64,
) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", doc.display());
    let page = std::fs::read_to_string(doc).map_err(failed)?;
    let (Some((before, _)), Some((_, after))) = (page.split_once(BEGIN), page.split_once(END))
    else {
        return Err(format!("{} has no marks for the figures", doc.display()));
    };
    let name = doc.file_stem().unwrap_or_default().to_string_lossy();
    let dir = doc.parent().unwrap_or(Path::new("."));
    let steps: Vec<String> = workers.iter().map(usize::to_string).collect();
    let mut images = String::new();
    for (k, kind) in KINDS.iter().enumerate() {
        let line = |(i, way): (usize, &Way)| {
            let values = (0..workers.len()).map(|w| figure(i, w, k)).collect();
            (way.name().to_owned(), values)
        };
        let lines: Vec<(String, Vec<f64>)> = ways.iter().enumerate().map(line).collect();
        let chart = Chart {
            title: kind.title,
            x: "workers",
            steps: &steps,
            lines: &lines,
            least: kind.least,
        };
        let file = format!("{name}-{}.svg", kind.file);
        std::fs::write(dir.join(&file), chart.svg()).map_err(failed)?;
        images += &format!("![{}]({file})\n", kind.title);
    }
    let page = format!("{before}{BEGIN}\n{text}\n{images}\n{END}{after}");
    std::fs::write(doc, page).map_err(failed)
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("herd: {e}");
            ExitCode::FAILURE
        }
    }
}
