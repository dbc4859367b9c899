//! A reverse proxy from one file.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use edge::allocator::{small_pages, Allocator};
use edge::flags::{has_settings, Flags, FromFlags};
use edge::live::{check, load, FromFile, LoadError, Loaded, Source};
use edge::origin::DemoOrigin;
use edge::serve::{self, Serving};
use edge::{lifecycle, logging, program, strict, tools, top};
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
    flags: Flags,

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

/// Returns the file to run; none when flags and settings say what to do.
fn configuration(flags: &Flags) -> Result<Option<&Path>, String> {
    let Some(file) = flags.conf.as_deref() else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let keys = ServerConf::entries(&text);
    let names_one = match keys.is_empty() {
        // What is no YAML is told of as what it looks like.
        true => OF_CONFIGURATIONS
            .iter()
            .any(|key| text.contains(&format!("{key}:"))),
        false => keys
            .iter()
            .any(|(key, _)| OF_CONFIGURATIONS.contains(&key.as_str())),
    };
    // A file without a setting, such as an empty one, would have the demo served in place of what was meant.
    let is_one = names_one || (flags.beside_a_configuration().is_none() && !has_settings(&text));
    match (is_one, flags.beside_a_configuration()) {
        (true, Some(flag)) => Err(format!(
            "{flag} has no place beside {}, which is a configuration",
            file.display()
        )),
        (is_one, _) => Ok(is_one.then_some(file)),
    }
}

/// The configuration that the command line names.
enum Given {
    File(FromFile),
    /// Flags, with a demo origin where they name no upstream.
    Flags(Box<FromFlags>, Option<DemoOrigin>),
}

impl Given {
    fn of(flags: &Flags) -> Result<Self, String> {
        if let Some(file) = configuration(flags)? {
            return Ok(Self::File(FromFile(file.to_owned())));
        }
        if flags.has_upstreams() {
            return Ok(Self::Flags(Box::new(FromFlags::new(flags, None)), None));
        }
        let (demo, address) = DemoOrigin::bind()?;
        Ok(Self::Flags(
            Box::new(FromFlags::new(flags, Some(address))),
            Some(demo),
        ))
    }

    fn source(&self) -> &dyn Source {
        match self {
            Self::File(file) => file,
            Self::Flags(flags, _) => &**flags,
        }
    }

    fn serving(self) -> Serving {
        match self {
            Self::File(file) => Serving {
                source: Arc::new(file),
                demo: None,
                note: String::new(),
            },
            Self::Flags(flags, demo) => Serving {
                note: format!(", upstream {}", flags.servers()),
                source: Arc::new(*flags),
                demo,
            },
        }
    }

    /// Tells that all is good, and how good its certificates are.
    ///
    /// # Errors
    ///
    /// A fact that only a check looks at.
    fn check(&self, loaded: &Loaded, is_strict: bool) -> Result<(), String> {
        if let Self::Flags(flags, _) = self {
            flags.check_names()?;
        }
        if is_strict {
            strict::check(self.source(), loaded).map_err(|e| e.to_string())?;
        }
        let certificates = loaded.running.certificates();
        let mut told = Vec::new();
        for sentence in certificates.iter().filter_map(|state| state.sentence()) {
            // Sites may share one.
            if !told.contains(&sentence) {
                program::say(&sentence);
                told.push(sentence);
            }
        }
        program::say(&loaded.summary);
        Ok(())
    }
}

/// Does what a command asks for; returns false for one that serves.
fn command(args: &Args) -> Result<bool, String> {
    let flags = &args.flags;
    let given = |command: &str| match flags.conf.is_some() || flags.has_upstreams() {
        true => Given::of(flags),
        false => Err(format!(
            "{command} needs a file: --conf FILE, or flags: --upstream ADDR"
        )),
    };
    let compiled = |given: Given| given.source().compile().map_err(|e| e.to_string());
    match &args.command {
        None | Some(Command::Run) => return Ok(false),
        Some(Command::Schema) => program::say(tools::schema()),
        Some(Command::Adapt) => {
            let (config, _) = compiled(given("adapt")?)?;
            program::say(config.adapt().trim_end());
        }
        Some(Command::Explain {
            method,
            url,
            header,
            client,
            json,
        }) => {
            let (_, plan) = compiled(given("explain")?)?;
            let question = tools::question(method, url, header, client.as_deref())?;
            program::say(tools::explanation(&plan, &question, *json).trim_end());
        }
        Some(Command::Top { admin, token, once }) => {
            let known = compiled(Given::of(flags)?)?.1.admin;
            let place = top::place(known, admin.as_deref(), token.as_deref())?;
            top::run(&place.address, place.token.as_deref(), *once)?;
        }
        Some(Command::Upgrade { wait, args }) => {
            let given = Given::of(flags)?;
            // What is wrong with it is told here, and not in the log of the new process.
            let loaded = check(given.source()).map_err(|e: LoadError| e.to_string())?;
            let conf = ServerConf::from_yaml(&loaded.running.plan.server);
            let user = conf.ok().and_then(|conf| conf.user);
            let file = given.source().identity();
            lifecycle::upgrade(file, args, *wait, user.as_deref())?;
        }
    }
    Ok(true)
}

fn run(args: &Args) -> Result<(), String> {
    if command(args)? {
        return Ok(());
    }
    lifecycle::hold_signals();
    let given = Given::of(&args.flags)?;
    let loaded = if args.flags.test {
        check(given.source())
    } else {
        load(given.source(), None)
    };
    let loaded = loaded.map_err(|e: LoadError| e.to_string())?;
    let mut process = args.flags.process();
    process.upgrade |= lifecycle::is_upgrade();
    process.conf(&loaded.running.plan.server)?;
    if args.flags.test {
        return given.check(&loaded, args.flags.strict);
    }
    serve::run(&process, loaded, given.serving())
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
