//! The start of an example program, and its end when it cannot start.

use crate::address::ListenAddress;
use crate::logging::{self, LogWriter};
use crate::origin::DemoOrigin;
use crate::upstream::Upstream;
use async_trait::async_trait;
use nix::unistd::{access, AccessFlags, Gid, Group, Uid, User};
use pingora_core::apps::ServerApp;
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::server::{RunArgs, Server, ShutdownWatch};
use pingora_core::services::background::{background_service, BackgroundService};
use pingora_core::services::listening::Service;
use pingora_core::services::{ServiceHandle, ServiceWithDependents};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{http_proxy_service, ProxyHttp};
use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// The exit code of a program that ran into `result`; an error is told in one line on stderr.
pub fn exit<E: Display>(name: &str, result: Result<(), E>) -> ExitCode {
    logging::flush();
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

/// Has the log written by a thread of its own once `server` runs, so that no worker waits for it. Returns the service:
/// what others that start before it log is written by themselves.
pub fn add_log_writer(server: &mut Server) -> ServiceHandle {
    server.add_service(background_service("log", LogWriter))
}

/// Adds a service that listens, and tells the user so when it does: by `listening`, and by a line to type. A daemon,
/// which has no output then, tells where it will listen. Returns the service, for others to depend on.
pub fn add_announced(
    server: &mut Server,
    service: impl ServiceWithDependents + 'static,
    listening: &str,
    hint: Option<String>,
) -> ServiceHandle {
    let in_background = server.configuration.daemon;
    let service = server.add_service(service);
    if in_background {
        say(format_args!("going to the background, {listening}"));
        return service;
    }
    let hint = hint.map_or_else(String::new, |hint| format!("\ntry: {hint}"));
    let lines = Announced(format!("{listening}{hint}"));
    let announced = server.add_service(background_service("announcement", lines));
    announced.add_dependency(&service);
    service
}

/// Lines to print when the services that this one depends on are ready.
struct Announced(String);

#[async_trait]
impl BackgroundService for Announced {
    async fn start(&self, _shutdown: ShutdownWatch) {
        say(&self.0);
    }
}

/// Checks what a daemon needs, so that a program can refuse in one clear line: the user and the group, and whether the
/// error log and the pid file can be written, as far as `said` by the settings.
///
/// # Errors
///
/// Names the setting.
pub fn check_process(conf: &ServerConf, said: impl Fn(&str) -> bool) -> Result<(), String> {
    if let Some(user) = &conf.user {
        let by_number = user.parse().ok().map(Uid::from_raw);
        let found = match by_number {
            Some(uid) => User::from_uid(uid),
            None => User::from_name(user),
        };
        if !matches!(found, Ok(Some(_))) {
            return Err(format!("the setting user: there is no user {user}"));
        }
    }
    if let Some(group) = &conf.group {
        let by_number = group.parse().ok().map(Gid::from_raw);
        let found = match by_number {
            Some(gid) => Group::from_gid(gid),
            None => Group::from_name(group),
        };
        if !matches!(found, Ok(Some(_))) {
            return Err(format!("the setting group: there is no group {group}"));
        }
    }
    let error_log = conf.error_log.as_deref().map(|file| ("error_log", file));
    let pid_file = said("pid_file").then_some(("pid_file", conf.pid_file.as_str()));
    for (setting, file) in error_log.into_iter().chain(pid_file) {
        check_writable(Path::new(file))
            .map_err(|e| format!("the setting {setting}: cannot write {file}: {e}"))?;
    }
    Ok(())
}

/// Looks whether a file can be written, or made; without doing so.
///
/// # Errors
///
/// Why it cannot.
pub(crate) fn check_writable(file: &Path) -> Result<(), String> {
    if file.is_dir() {
        return Err("it is a directory".to_owned());
    }
    let place = match (file.exists(), file.parent()) {
        (false, Some(directory)) if directory.as_os_str().is_empty() => Path::new("."),
        (false, Some(directory)) => directory,
        _ => file,
    };
    if place != file && !place.is_dir() {
        return Err(format!("no directory {}", place.display()));
    }
    access(place, AccessFlags::W_OK).map_err(|e| e.to_string())
}

/// Reads every address of a list.
///
/// # Errors
///
/// Names the first that is none.
pub fn addresses(texts: &[String]) -> Result<Vec<ListenAddress>, String> {
    texts.iter().map(|text| text.parse()).collect()
}

/// A server that listens at one address: all that the small examples need.
pub struct Program {
    /// The server, for an example that adds services of its own.
    pub server: Server,
    listen: ListenAddress,
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
        logging::init();
        let listen: ListenAddress = listen.parse().map_err(|e| format!("--listen: {e}"))?;
        if !opt.upgrade {
            listen.check_free().map_err(|e| format!("--listen: {e}"))?;
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
            Some(address) => first_peer(address).map_err(|e| format!("--upstream: {e}")),
            None => self.demo_origin(),
        }
    }

    fn demo_origin(&mut self) -> Result<HttpPeer, String> {
        let (demo, address) = DemoOrigin::bind()?;
        self.server
            .add_service(background_service("demo origin", demo));
        Ok(HttpPeer::new(address, false, String::new()))
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
        let listening = format!("listening on {}", self.listen);
        let log = add_log_writer(&mut self.server);
        let hint = Some(hint.to_owned());
        add_announced(&mut self.server, service, &listening, hint).add_dependency(&log);
        self.server.run(RunArgs::default());
        Ok(())
    }
}

/// The peer at the first address of a server that is written as in [`Upstream`], in clear text.
fn first_peer(text: &str) -> Result<HttpPeer, String> {
    let upstream: Upstream = text.parse()?;
    let first = upstream.peers()?.into_iter().next();
    first.ok_or(format!("{text} has no address"))
}
