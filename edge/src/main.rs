//! A reverse proxy from one file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use edge::config::Disk;
use edge::live::{load, LoadError, Loaded};
use edge::{demo, serve, tools};
use examples::allocator::Allocator;
use examples::{logging, program};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// A reverse proxy that one file configures, and that takes a changed file without losing a request.
///
/// Without a file it passes requests to a small demo server of its own, so that there is something to see at once.
#[derive(Parser)]
#[command(name = "edge", version, after_help = SIGNALS)]
struct Args {
    /// The configuration (YAML)
    #[arg(short, long, value_name = "FILE", global = true)]
    conf: Option<PathBuf>,

    /// Check the configuration, then exit
    #[arg(short, long)]
    test: bool,

    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the configuration; the same as no command
    Run,
    /// Print the JSON schema of the configuration
    Schema,
    /// Print the whole effective configuration, with includes and defaults
    Adapt,
    /// Tell which site, route, actions and servers a request would meet
    Explain {
        /// The method
        method: String,
        /// The address, such as https://example.org/a?b=c
        url: String,
        /// A header of the request; may be given several times
        #[arg(short = 'H', value_name = "NAME: VALUE")]
        header: Vec<String>,
        /// The address of the client
        #[arg(long, value_name = "IP")]
        client: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

const SIGNALS: &str = "\
Signals:
  SIGHUP   read the configuration again; a change of its files does the same
  SIGTERM  finish the requests under way, then exit
  SIGINT   exit at once

Errors and warnings are written to stderr; RUST_LOG=info shows more, RUST_LOG=off nothing.";

fn run(args: &Args) -> Result<(), String> {
    let file = args.conf.as_deref();
    let needed = |command: &str| file.ok_or(format!("{command} needs a file: --conf FILE"));
    match &args.command {
        Some(Command::Schema) => {
            program::say(tools::schema());
            return Ok(());
        }
        Some(Command::Adapt) => {
            let adapted = tools::adapt(needed("adapt")?, &Disk).map_err(|e| e.to_string())?;
            program::say(adapted.trim_end());
            return Ok(());
        }
        Some(Command::Explain {
            method,
            url,
            header,
            client,
            json,
        }) => {
            let compiled = tools::compile(needed("explain")?, &Disk);
            let (_, plan) = compiled.map_err(|e| e.to_string())?;
            let question = tools::question(method, url, header, client.as_deref())?;
            program::say(tools::explanation(&plan, &question, *json).trim_end());
            return Ok(());
        }
        Some(Command::Run) | None => {}
    }
    if args.test {
        let file = needed("--test")?;
        read(file)?;
        let good = tools::check(file, &Disk).map_err(|e| e.to_string())?;
        program::say(good.trim_end());
        return Ok(());
    }
    let threads = args.threads.map(usize::from);
    let Some(file) = file else {
        let mut server = serve::server(threads);
        let demo = demo::load(&mut server)?;
        return serve::run(server, demo, None);
    };
    let loaded = read(file)?;
    serve::run(serve::server(threads), loaded, Some(file.to_owned()))
}

fn read(file: &Path) -> Result<Loaded, String> {
    load(file, &Disk, None).map_err(|e: LoadError| e.to_string())
}

fn main() -> ExitCode {
    let args = Args::parse();
    logging::init();
    examples::allocator::small_pages();
    let done = run(&args);
    logging::flush();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            use std::io::Write;
            // Nobody is left to be told when stderr is closed.
            let _ = writeln!(std::io::stderr(), "edge: {e}");
            ExitCode::FAILURE
        }
    }
}
