//! How an example program starts, and how it ends when it cannot.

use crate::address::Address;
use crate::origin::DemoOrigin;
use pingora_core::apps::ServerApp;
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::server::Server;
use pingora_core::services::background::background_service;
use pingora_core::services::listening::Service;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{http_proxy_service, ProxyHttp};
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

/// The exit code of a program that ran into `result`; an error is told in one line on stderr.
pub fn exit<E: Display>(name: &str, result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let line = e
                .to_string()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            // Nobody is left to be told when stderr is closed.
            let _ = writeln!(std::io::stderr(), "{name}: {line}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line for the user; a closed stdout is no reason to end.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Errors of requests go to stderr; `RUST_LOG` asks for more or less.
pub fn log_to_stderr() {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("error")).init();
}

/// Reads every address of a list.
///
/// # Errors
///
/// Names the first that is none.
pub fn addresses(texts: &[String]) -> Result<Vec<Address>, String> {
    texts.iter().map(|text| text.parse()).collect()
}

/// A server that listens at one address: all that the small examples need.
pub struct Program {
    /// The server, for an example that adds services of its own.
    pub server: Server,
    listen: Address,
}

impl Program {
    /// A server with the default settings, but for one: what belongs to a worker stays with it.
    ///
    /// # Errors
    ///
    /// When `listen` is no address, or is taken.
    pub fn new(listen: &str) -> Result<Self, String> {
        let conf = ServerConf {
            work_stealing: false,
            ..ServerConf::default()
        };
        Program::with_conf(listen, Opt::default(), conf)
    }

    /// A server with these settings.
    ///
    /// # Errors
    ///
    /// When `listen` is no address, or is taken by a process other than the one to take over from.
    pub fn with_conf(listen: &str, opt: Opt, conf: ServerConf) -> Result<Self, String> {
        log_to_stderr();
        let listen: Address = listen.parse()?;
        if !opt.upgrade {
            listen.check_free()?;
        }
        let mut server = Server::new_with_opt_and_conf(opt, conf);
        server.bootstrap();
        Ok(Program { server, listen })
    }

    /// The peer at `address`, or the demo origin when there is none.
    ///
    /// # Errors
    ///
    /// When `address` is none.
    pub fn upstream(&mut self, address: Option<&str>) -> Result<HttpPeer, String> {
        match address {
            Some(address) => address.parse::<Address>()?.peer(),
            None => demo_origin(&mut self.server)?.peer(),
        }
    }

    /// Passes every request through `app`, until a signal ends the process.
    ///
    /// # Errors
    ///
    /// None: it returns a result so that it can stand last in a function that does.
    pub fn run_proxy<P>(self, app: P) -> Result<(), String>
    where
        P: ProxyHttp + Send + Sync + 'static,
        P::CTX: Send + Sync,
    {
        let service = http_proxy_service(&self.server.configuration, app);
        let hint = self.listen.curl_line("/");
        self.run(service, &hint)
    }

    /// Runs `service`, until a signal ends the process.
    ///
    /// # Errors
    ///
    /// As [`Program::run_proxy`].
    pub fn run<A>(mut self, mut service: Service<A>, hint: &str) -> Result<(), String>
    where
        A: ServerApp + Send + Sync + 'static,
    {
        self.listen.listen(&mut service);
        self.server.add_service(service);
        say(format_args!("listening on {}\ntry: {hint}", self.listen));
        self.server.run_forever()
    }
}

/// Adds the demo origin to what `server` runs, and tells where it is.
///
/// # Errors
///
/// When it finds no port.
pub fn demo_origin(server: &mut Server) -> Result<Address, String> {
    let failed = |e| format!("cannot start the demo origin: {e}");
    let demo = DemoOrigin::bind().map_err(failed)?;
    let address = demo.address().map_err(failed)?;
    server.add_service(background_service("demo origin", demo));
    Ok(Address::Inet(address))
}
