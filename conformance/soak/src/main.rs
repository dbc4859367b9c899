//! Sends mixed load through the proxy while things go wrong, and knows what each answer must be. The first answer that must
//! not be ends the run, with status 1.

mod ask;
mod authority;
mod events;
mod faults;
mod file;
mod ledger;
mod load;
mod origin;
mod proxy;
mod random;
mod watch;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::task::JoinSet;

use authority::Authority;
use faults::Faults;
use file::{Files, Servers};
use ledger::Ledger;
use load::tls::Tls;
use origin::Origins;
use proxy::Proxy;
use watch::Sample;
use world::{Taken, World};

/// Mixed load and faults, with the answer that each request must get.
#[derive(Parser)]
struct Args {
    /// The binary `reverse-proxy`.
    #[arg(long)]
    proxy: PathBuf,
    /// How long: a number with s, m or h.
    #[arg(long = "for", default_value = "2m", value_parser = duration)]
    time: Duration,
    /// What determines all choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Clients of each kind.
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// The way in which connections come to the workers of the proxy.
    #[arg(long, default_value = "shared", value_parser = accept)]
    accept: &'static str,
    /// Exchanges the binary so many times, makes no other fault, and ends then.
    #[arg(long, value_name = "TIMES")]
    upgrades: Option<u64>,
}

fn accept(text: &str) -> Result<&'static str, String> {
    let known = ["shared", "exclusive", "reuseport", "mutex"];
    let found = known.into_iter().find(|name| *name == text);
    found.ok_or_else(|| format!("one of {}", known.join(", ")))
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("a number with s, m or h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|e| format!("{e}"))?;
    Ok(Duration::from_secs(number * seconds))
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let ran = match runtime {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(e) => Err(format!("no runtime: {e}")),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Origins that a request may go to.
const ORIGINS: usize = 3;
/// The time in which a process makes the connections that it keeps, those of its checks, before it is asked for anything.
const QUIET: Duration = Duration::from_secs(3);
/// The time for the last requests of clients.
const LAST: Duration = Duration::from_secs(100);

async fn run(args: Args) -> Result<(), String> {
    println!(
        "seed {}, {:?} at most, {} of each kind, accept: {}",
        args.seed, args.time, args.clients, args.accept
    );
    let folder = tempfile::Builder::new().prefix("soak").tempdir();
    let folder = folder.map_err(|e| format!("no folder: {e}"))?;
    let world = Arc::new(world(&args, &folder).await?);
    tokio::time::sleep(QUIET).await;
    let before = Sample::take(world.proxy.pid()).ok_or("the proxy has ended")?;

    let begun = Instant::now();
    let samples = tokio::spawn(watch::samples(world.clone()));
    let mut clients = load::start(&world, args.clients);
    let mut faults = JoinSet::new();
    match args.upgrades {
        Some(times) => {
            faults.spawn(events::upgrades(world.clone(), times));
        }
        None => {
            faults.spawn(events::origins(world.clone()));
            faults.spawn(events::proxy(world.clone(), begun + args.time / 2));
        }
    }
    let mut violations = world.ledger.violations();
    let mut running = world.running.subscribe();
    let over = async {
        tokio::select! {
            _ = violations.wait_for(|violations| !violations.is_empty()) => {}
            _ = running.wait_for(|running| !running) => {}
        }
    };
    let _ = tokio::time::timeout(args.time, over).await;
    world.running.send_replace(false);

    let ended = async {
        while clients.join_next().await.is_some() {}
        while faults.join_next().await.is_some() {}
    };
    if tokio::time::timeout(LAST, ended).await.is_err() {
        let violation = format_args!("clients wait for answers {LAST:?} after the last request");
        world.ledger.violation(violation);
    }
    let samples = samples.await.map_err(|e| e.to_string())?;
    report(&world, &before, &samples).await;
    if args.upgrades.is_none() {
        // Its second half is that of one process.
        match watch::growth(&samples) {
            Ok(said) => println!("memory: {said}"),
            Err(said) => world.ledger.violation(format_args!("memory grows: {said}")),
        }
    }
    let violations = violations.borrow().len();
    if violations > 0 {
        let kept = folder.keep();
        let log = world.proxy.log_end();
        return Err(format!(
            "{violations} violations; {} is kept, the log ends with\n{log}",
            kept.display()
        ));
    }
    Ok(())
}

async fn world(args: &Args, folder: &tempfile::TempDir) -> Result<World, String> {
    let failed = |e| format!("origins: {e}");
    let authority = Authority::new().map_err(failed)?;
    let acceptor = authority.acceptor().map_err(failed)?;
    let origins = Origins::start(ORIGINS, &acceptor).await.map_err(failed)?;
    let mirror = Origins::start(1, &acceptor).await.map_err(failed)?;
    let copies = mirror.each[0].clear;
    let servers = Servers {
        clear: origins.each.iter().map(|origin| origin.clear).collect(),
        tls: origins.each.iter().map(|origin| origin.tls).collect(),
    };
    let listen = proxy::addresses().map_err(|e| format!("no address: {e}"))?;
    let (path, accept) = (folder.path(), args.accept);
    let files = Files::new(path, listen, servers, copies, accept, authority);
    let files = files.map_err(|e| format!("files: {e}"))?;
    let tls = Tls::new(files.authority())?;
    let certificate = std::fs::read_to_string(files.path("cert.pem"));
    tls.changes_to(&certificate.map_err(|e| e.to_string())?);
    Ok(World {
        seed: args.seed,
        proxy: Proxy::start(args.proxy.clone(), files).await?,
        origins,
        mirror,
        faults: Faults::default(),
        ledger: Ledger::new(args.seed),
        tls,
        taken: Taken::default(),
        running: tokio::sync::watch::channel(true).0,
    })
}

/// Prints what was done and what is left.
async fn report(world: &World, before: &Sample, samples: &[Sample]) {
    println!("{}", world.ledger.table());
    println!("copies of requests: {}", world.mirror.shared.asked());
    let highest = |of: fn(&Sample) -> u64| samples.iter().map(of).max().unwrap_or(0);
    println!(
        "memory at the start {}, at most {}; descriptors at most {}; threads at most {}",
        watch::mib(before.resident),
        watch::mib(highest(|sample| sample.resident)),
        highest(|sample| sample.descriptors),
        highest(|sample| sample.threads)
    );
    match watch::settle(&world.proxy, before).await {
        Ok(said) => println!("in the end: {said}"),
        Err(left) => world.ledger.violation(format_args!("left behind: {left}")),
    }
}
