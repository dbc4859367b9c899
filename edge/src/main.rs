//! A reverse proxy from one file.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use edge::allocator::{small_pages, Allocator};
use edge::config::Disk;
use edge::live::{load, LoadError};
use edge::{demo, flags, lifecycle, logging, program, serve, tools, top};
use pingora_core::server::configuration::ServerConf;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// A reverse proxy that one file configures, and that takes a changed file without losing a request.
///
/// Without a file it passes requests to a small demo server of its own, so that there is something to see at once.
#[derive(Parser)]
#[command(name = "reverse-proxy", version, after_help = SIGNALS)]
struct Args {
    #[command(flatten)]
    flags: flags::Flags,

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
        /// The address, such as `https://example.org/a?b=c`
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
    /// Show the main figures of a running proxy, until q is typed
    Top {
        /// The address of its admin interface [default: that of the configuration, else 127.0.0.1:9900]
        #[arg(long, value_name = "ADDR")]
        admin: Option<String>,
        /// The token of its admin interface [default: that of the configuration]
        #[arg(long, value_name = "TOKEN")]
        token: Option<String>,
        /// Print the figures of one second, then exit
        #[arg(long)]
        once: bool,
    },
    /// Have this binary take over from the process that runs the configuration, without losing a request
    Upgrade {
        /// Wait until the old process has ended
        #[arg(long)]
        wait: bool,
        /// The arguments of the new process [default: those of the running one]
        #[arg(last = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
}

const SIGNALS: &str = "\
Signals:
  SIGHUP   read the configuration again; a change of its files does the same
  SIGUSR1  open the access log anew, after it was moved away
  SIGTERM  finish the requests under way, then exit
  SIGINT   exit at once
  SIGQUIT  hand the listening sockets to a process started with --upgrade, finish, exit

Errors and warnings are written to stderr; RUST_LOG=debug shows more, RUST_LOG=off nothing.";

/// The keys of a configuration, which a file of settings has none of.
const OF_CONFIGURATIONS: [&str; 3] = ["include", "listen", "sites"];

/// Returns the configuration to run; none when flags and settings say what to do.
fn configuration(flags: &flags::Flags) -> Result<Option<&Path>, String> {
    let Some(file) = flags.conf.as_deref() else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let keys = ServerConf::entries(&text);
    let is_one = match keys.is_empty() {
        // What is no YAML is told of as what it looks like.
        true => OF_CONFIGURATIONS
            .iter()
            .any(|key| text.contains(&format!("{key}:"))),
        false => keys
            .iter()
            .any(|(key, _)| OF_CONFIGURATIONS.contains(&key.as_str())),
    };
    match (is_one, flags.beside_a_configuration()) {
        (true, Some(flag)) => Err(format!(
            "{flag} has no place beside {}, which is a configuration",
            file.display()
        )),
        (is_one, _) => Ok(is_one.then_some(file)),
    }
}

fn run(args: &Args) -> Result<(), String> {
    let flags = &args.flags;
    let file = flags.conf.as_deref();
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
        Some(Command::Top { admin, token, once }) => {
            let place = top::place(file, &Disk, admin.as_deref(), token.as_deref())?;
            return top::run(&place.address, place.token.as_deref(), *once);
        }
        Some(Command::Upgrade { wait, args }) => {
            let file = needed("upgrade")?;
            // What is wrong with it is told here, and not in the log of the new process.
            load(file, &Disk, None).map_err(|e: LoadError| e.to_string())?;
            return lifecycle::upgrade(file, args, *wait);
        }
        Some(Command::Run) | None => {}
    }
    lifecycle::hold_signals();
    if file.is_none() && !flags.test && flags.beside_a_configuration().is_none() {
        return serve::run(&flags.process(), demo::load()?, None);
    }
    let Some(file) = configuration(flags)? else {
        return flags::run(flags);
    };
    let loaded = load(file, &Disk, None).map_err(|e: LoadError| e.to_string())?;
    let mut process = flags.process();
    process.upgrade |= lifecycle::is_upgrade();
    process.conf(&loaded.running.plan.server)?;
    if flags.test {
        let good = tools::check(file, &Disk).map_err(|e| e.to_string())?;
        program::say(good.trim_end());
        return Ok(());
    }
    serve::run(&process, loaded, Some(file.to_owned()))
}

fn main() -> ExitCode {
    let args = Args::parse();
    logging::init();
    edge::tls::init();
    small_pages();
    let done = run(&args);
    logging::flush();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            lifecycle::tell_failure(&e);
            use std::io::Write;
            // Nobody is left to be told when stderr is closed.
            let _ = writeln!(std::io::stderr(), "reverse-proxy: {e}");
            ExitCode::FAILURE
        }
    }
}
