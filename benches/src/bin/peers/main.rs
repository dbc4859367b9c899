//! What a request costs through this proxy, and through others under the same load.
//!
//! Each peer is started alone on the first cores, with a worker for each; the load generator and the origin have
//! the other cores. What counts is the processor time of the peer's processes for each request, which says the same
//! whether or not the load generator keeps up.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cores;
mod evented;
mod fetch;
mod files;
mod floor;
mod load;
mod measure;
mod origin;
mod page;
mod peer;
mod process;
mod report;
mod scenario;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use load::{Tool, Tools};
use measure::Bench;
use peer::{Built, Kind, Peer};
use report::Report;
use scenario::Scenario;

#[derive(Parser)]
#[command(about = "Measures what a request costs through this proxy and through others.")]
struct Args {
    /// How often everything is measured; the medians count.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that each load lasts.
    #[arg(long, default_value_t = 4)]
    secs: u64,
    /// What is measured, of: get, body, post, connect, idle, hit, hit-body, tls-get, tls-body, handshake, h2 [default: all].
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// Peers to measure, of: floor, ours, memcache, nginx, haproxy, upstream, upstream-local [default: all that there are].
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Numbers of workers [default: 1, and twice as many while that is at most half of the cores].
    #[arg(long, value_delimiter = ',')]
    workers: Vec<usize>,
    /// Connections that do nothing.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Whom the others are compared with.
    #[arg(long, default_value = "nginx")]
    against: String,
    /// A `reverse-proxy` that was built before; otherwise it is built now.
    #[arg(long, value_name = "PATH")]
    ours: Option<PathBuf>,
    /// A `peer` of examples/upstream-0.9.1 that was built before; otherwise it is built now.
    #[arg(long, value_name = "PATH")]
    upstream_peer: Option<PathBuf>,
    /// A Markdown file in which the part between the marks `figures` is replaced; the charts go next to it.
    #[arg(long, value_name = "FILE")]
    doc: Option<PathBuf>,
    /// Be the pass-through, there.
    #[arg(long, hide = true, requires = "origin")]
    floor: Option<SocketAddr>,
    /// Where the pass-through passes requests to.
    #[arg(long, hide = true)]
    origin: Option<SocketAddr>,
    /// Be the origin, there.
    #[arg(long, hide = true)]
    serve: Option<SocketAddr>,
}

/// Those of `all` whose names were given; all of them if none was.
fn chosen<T>(
    all: impl IntoIterator<Item = T>,
    names: &[String],
    name: impl Fn(&T) -> &'static str,
) -> Result<Vec<T>, String> {
    let all: Vec<T> = all.into_iter().collect();
    if let Some(unknown) = names
        .iter()
        .find(|given| !all.iter().any(|t| name(t) == *given))
    {
        let known: Vec<&str> = all.iter().map(name).collect();
        return Err(format!("there is no {unknown}, only: {}", known.join(", ")));
    }
    let is = |t: &T| names.is_empty() || names.iter().any(|given| name(t) == given);
    Ok(all.into_iter().filter(is).collect())
}

fn run(args: &Args) -> Result<(), String> {
    let workers = args.workers.first().copied().unwrap_or(1).max(1);
    match (args.serve, args.floor, args.origin) {
        (Some(at), ..) => return origin::main(at, workers),
        (_, Some(at), Some(origin)) => return floor::main(at, origin, workers),
        _ => {}
    }
    if let Some(doc) = &args.doc {
        page::check(doc)?;
    }
    let mut scenarios = chosen(&scenario::ALL, &args.scenario, |scenario| scenario.name)?;
    let mut notes = Vec::new();
    let tools = Tools::find();
    for tool in Tool::ALL
        .into_iter()
        .filter(|tool| tools.of(*tool).is_none())
    {
        let needs = |scenario: &&Scenario| scenario.load.is_some_and(|load| load.tool() == tool);
        let names: Vec<&str> = scenarios
            .iter()
            .copied()
            .filter(needs)
            .map(|s| s.name)
            .collect();
        scenarios.retain(|scenario| !needs(scenario));
        if !names.is_empty() {
            let (tool, package) = (tool.name(), tool.package());
            let names = names.join(", ");
            notes.push(format!(
                "Left out: {names}, since {tool} is not installed (Debian: {package})."
            ));
        }
    }
    let built = Built {
        ours: args.ours.clone(),
        upstream: args.upstream_peer.clone(),
    };
    let mut peers = Vec::new();
    for kind in chosen(Kind::ALL, &args.peers, |kind| kind.name())? {
        match Peer::find(kind, &built) {
            Ok(peer) => peers.push(peer),
            Err(e) => notes.push(format!("Left out: {}, {e}.", kind.name())),
        }
    }
    notes.iter().for_each(|note| eprintln!("{note}"));
    if scenarios.is_empty() || peers.is_empty() {
        return Err("nothing is left to measure".into());
    }
    let cores = cores::usable()?;
    let workers = match &args.workers[..] {
        [] => cores::workers(cores.len()),
        given => given.iter().copied().filter(|n| *n > 0).collect(),
    };
    let mut bench = Bench {
        scenarios,
        peers,
        workers,
        cores,
        tools,
        rounds: args.rounds.max(1),
        secs: args.secs.max(1),
        idle: args.idle.max(1),
        notes,
    };
    let results = bench.run()?;
    let report = Report::new(&bench, &results, &args.against);
    println!("{}", report.text());
    match &args.doc {
        Some(doc) => page::write(doc, &report),
        None => Ok(()),
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("peers: {e}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose() {
        let of = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            chosen(["a", "b", "c"], &names, |name| name)
        };
        assert_eq!(of(&[]).unwrap(), ["a", "b", "c"]);
        assert_eq!(of(&["c", "a"]).unwrap(), ["a", "c"]);
        assert!(of(&["d"]).unwrap_err().contains("no d, only: a, b, c"));
    }

    #[test]
    fn options_fit_together() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
