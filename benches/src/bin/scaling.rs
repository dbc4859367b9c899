//! What a number of cores can reach together, by the model of `docs/scaling.md`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use benches::model::{throughput, Lock, Machine, Request};
use benches::plot::Chart;
use clap::Parser;

#[derive(Parser)]
#[command(about = "Says by a model how many requests a number of cores can serve.")]
struct Args {
    /// Numbers of cores.
    #[arg(long, value_delimiter = ',', default_values_t = [16usize, 32, 64, 128, 256])]
    cores: Vec<usize>,
    /// Cores in one socket.
    #[arg(long, default_value_t = 64)]
    per_socket: usize,
    /// Nanoseconds for a line from a core of the same socket.
    #[arg(long, default_value_t = 15.0)]
    local: f64,
    /// Nanoseconds for a line from another socket.
    #[arg(long, default_value_t = 120.0)]
    remote: f64,
    /// Nanoseconds of processor time for a request of upstream, alone on a core.
    #[arg(long, default_value_t = 37_400.0)]
    busy_upstream: f64,
    /// Nanoseconds of processor time for a request of ours, alone on a core.
    #[arg(long, default_value_t = 18_700.0)]
    busy_ours: f64,
    /// Of upstream's writes to shared lines, those to the line that gets the most.
    #[arg(long, default_value_t = 4.0)]
    hottest: f64,
    /// A Markdown file in which the part between the marks `figures` is replaced; the chart goes next to it.
    #[arg(long)]
    doc: Option<PathBuf>,
}

/// What was seen at 128 cores: waiting for the one mutex, of all time off the processor.
const PUBLISHED_CORES: usize = 128;
const PUBLISHED_SHARE: f64 = 0.657;

/// Writes to shared lines in a request of 0.9.1, as counted.
const ATOMIC: f64 = 82.0;
const PLAIN: f64 = 425.0;
/// And in a request of ours, all to one line.
const OURS: f64 = 0.22;

/// The mutex of a `Notify`, taken to register and taken to leave. Alone, as measured; the lines are, each time, its
/// own, and those of the neighbours in the list: one when the waiter goes in at the front, two when it leaves.
const NOTIFY: Lock = Lock {
    alone: 14.6,
    moves: 5.0,
};

/// A line of the chart and a column of the table.
fn proxies(args: &Args) -> [(&'static str, Request); 4] {
    let sharded = Request {
        busy: args.busy_upstream,
        writes: ATOMIC,
        hottest: args.hottest,
        lock: None,
    };
    let one = Request {
        lock: Some(NOTIFY),
        ..sharded
    };
    let waited = Request {
        writes: ATOMIC + PLAIN,
        ..sharded
    };
    let ours = Request {
        busy: args.busy_ours,
        writes: OURS,
        hottest: OURS,
        lock: None,
    };
    [
        ("one Notify", one),
        ("0.9.1, all writes", waited),
        ("0.9.1", sharded),
        ("this fork", ours),
    ]
}

fn throughputs(args: &Args, machine: &Machine) -> String {
    let proxies = proxies(args);
    let mut text = "| cores | ns to move a line |".to_owned();
    for (name, _) in &proxies {
        text += &format!(" {name} |");
    }
    text += "\n|---|---|---|---|---|---|\n";
    for &cores in &args.cores {
        text += &format!("| {cores} | {:.1} |", machine.move_nanos(cores));
        for (_, request) in &proxies {
            let reached = request.run(machine, cores, 0.0).per_second;
            let linear = cores as f64 * 1e9 / request.busy;
            let (millions, part) = (reached / 1e6, 100.0 * reached / linear);
            text += &format!(" {millions:.3} ({part:.0} %) |");
        }
        text += "\n";
    }
    text
}

/// Millions of times a second that two threads take the mutex, when each line takes so many nanoseconds to come.
fn two_threads(moving: f64) -> f64 {
    throughput(2, 0.0, [NOTIFY.alone + NOTIFY.moves * moving]).0 * 1e3
}

fn waiting(args: &Args, machine: &Machine) -> String {
    let [(_, one), ..] = proxies(args);
    let away = one.away_for_share(machine, PUBLISHED_CORES, PUBLISHED_SHARE);
    let mut text = format!(
        "Two threads that do nothing but take the mutex: {:.1} to {:.1} million requests a second.\n\n\
         Calibrated: {:.2} µs off the processor for other reasons, for each request.\n\n\
         | cores | the mutex is held, ns a request | waited for, µs a request | share of the time off the processor |\n\
         |---|---|---|---|\n",
        two_threads(machine.local),
        two_threads(machine.move_nanos(2)),
        away / 1000.0
    );
    for &cores in &args.cores {
        let held = NOTIFY.alone + NOTIFY.moves * machine.move_nanos(cores);
        let wait = one.run(machine, cores, away).lock_wait / 1000.0;
        let share = 100.0 * one.share_of_waiting(machine, cores, away);
        text += &format!("| {cores} | {held:.0} | {wait:.3} | {share:.1} % |\n");
    }
    text
}

fn chart(args: &Args, machine: &Machine) -> String {
    let steps: Vec<String> = args.cores.iter().map(usize::to_string).collect();
    let lines: Vec<(String, Vec<f64>)> = proxies(args)
        .iter()
        .map(|(name, request)| {
            let rate = |&cores: &usize| request.run(machine, cores, 0.0).per_second / 1e6;
            (
                (*name).to_owned(),
                args.cores.iter().map(rate).collect::<Vec<f64>>(),
            )
        })
        .collect();
    let chart = Chart {
        title: TITLE,
        x: "cores",
        steps: &steps,
        lines: &lines,
        least: 0.1,
    };
    chart.svg()
}

const TITLE: &str = "Million requests a second that cores can reach (model)";
const BEGIN: &str = "<!-- figures -->\n";
const END: &str = "<!-- end of figures -->";

fn write(doc: &Path, text: &str, svg: &str) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", doc.display());
    let page = std::fs::read_to_string(doc).map_err(failed)?;
    let (Some((before, _)), Some((_, after))) = (page.split_once(BEGIN), page.split_once(END))
    else {
        return Err(format!("{} has no marks for the figures", doc.display()));
    };
    let image = doc.with_extension("svg");
    std::fs::write(&image, svg).map_err(failed)?;
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    let page = format!("{before}{BEGIN}\n![{TITLE}]({name})\n\n{text}\n{END}{after}");
    std::fs::write(doc, page).map_err(failed)
}

fn run(args: &Args) -> Result<(), String> {
    let machine = Machine {
        per_socket: args.per_socket,
        local: args.local,
        remote: args.remote,
    };
    let text = format!(
        "{}\n{}",
        throughputs(args, &machine),
        waiting(args, &machine)
    );
    println!("{text}");
    match &args.doc {
        Some(doc) => write(doc, &text, &chart(args, &machine)),
        None => Ok(()),
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("scaling: {e}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(flags: &[&str]) -> (Args, Machine) {
        let args = Args::parse_from([&["scaling"], flags].concat());
        let machine = Machine {
            per_socket: args.per_socket,
            local: args.local,
            remote: args.remote,
        };
        (args, machine)
    }

    #[test]
    fn the_published_share_is_reproduced() {
        let (args, machine) = args(&["--cores", "128"]);
        assert!(waiting(&args, &machine).contains("| 65.7 % |"));
    }

    /// The bench `shutdown-signal` does 13.0 million.
    #[test]
    fn two_threads_do_about_what_was_measured() {
        let (_, machine) = args(&[]);
        assert!(two_threads(machine.local) < 13.0 && two_threads(machine.move_nanos(2)) > 13.0);
    }

    #[test]
    fn fewer_shared_writes_never_serve_less() {
        let (args, machine) = args(&[]);
        for &cores in &args.cores {
            let rates = proxies(&args).map(|(_, r)| r.run(&machine, cores, 0.0).per_second);
            assert!(rates[2] >= rates[0] && rates[2] >= rates[1] && rates[3] > rates[2]);
        }
    }

    #[test]
    fn this_fork_keeps_its_cores() {
        let (args, machine) = args(&[]);
        let [.., (_, ours)] = proxies(&args);
        let linear = 256e9 / args.busy_ours;
        assert!(ours.run(&machine, 256, 0.0).per_second > 0.99 * linear);
    }
}
