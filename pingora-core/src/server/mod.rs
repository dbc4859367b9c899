//! The life of a server process.
//!
//! A [`Server`] is made from settings and a command line, is given services, and then runs them
//! until it is told to stop:
//!
//! ```text
//! new -> bootstrap -> add services -> run: daemon, start in order of dependency -> Running
//!          |  -t: exit                       |
//!          |  -u: sockets of the old process | SIGTERM, SIGQUIT (hand sockets on), SIGINT
//!                                            v
//!        watch turns true -> grace period, or until nothing is left -> end of the runtimes
//! ```

mod bootstrap;
pub mod configuration;
mod daemon;
mod exit;
mod life;
mod phases;
#[cfg(feature = "sentry")]
mod reports;
mod running;
mod runtimes;
mod signals;
#[cfg(test)]
mod tests;
pub(crate) mod transfer_fd;
mod users;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use pingora_error::{Error, ErrorType::InternalError, Result};
use pingora_runtime::Runtime;
use tokio::sync::{broadcast, watch};

use crate::services::dependencies::Dependencies;
use crate::services::failure::{Failure, Failures, Reporter};
use crate::services::{ServiceHandle, ServiceWithDependents};
use bootstrap::{Bootstrap, BootstrapService, Claims};
use configuration::{Opt, ServerConf};
use life::Life;
use phases::Phases;
use running::Services;
use signals::Heard;

pub use crate::listeners::fds::{Fds, ListenFds};
pub use crate::shutdown::watch::ShutdownWatch;
pub use life::UpgradeCheck;
pub use phases::ExecutionPhase;
pub use pingora_runtime::{RuntimeMetricsOpts, RuntimeOpts};
pub use signals::{ShutdownSignal, ShutdownSignalWatch, UnixShutdownSignalWatch};

/// The arguments of [`Server::run`].
pub struct RunArgs {
    /// The source of the signal that stops the server: the signals of the process by default.
    pub shutdown_signal: Box<dyn ShutdownSignalWatch>,
}

impl Default for RunArgs {
    fn default() -> Self {
        RunArgs {
            shutdown_signal: Box::new(UnixShutdownSignalWatch),
        }
    }
}

/// A server process with its services.
pub struct Server {
    services: Vec<Box<dyn ServiceWithDependents>>,
    dependencies: Dependencies,
    fds: ListenFds,
    phases: Phases,
    bootstrap: Arc<Bootstrap>,
    /// The settings.
    pub configuration: Arc<ServerConf>,
    /// The command line, if there is one.
    pub options: Option<Opt>,
    upgrade_check: Option<Arc<dyn UpgradeCheck>>,
    #[cfg(feature = "sentry")]
    sentry: Option<sentry::ClientOptions>,
}

impl Server {
    /// A server as the command line says, with the settings from the file that it names or else
    /// the default ones.
    ///
    /// # Errors
    /// `ReadError` when that file cannot be read or used.
    pub fn new(opt: impl Into<Option<Opt>>) -> Result<Server> {
        let opt = opt.into();
        let conf = match &opt {
            Some(opt) if opt.conf.is_some() => ServerConf::load_yaml_with_opt_override(opt)?,
            Some(opt) => default_settings(ServerConf::new_with_opt_override(opt))?,
            None => default_settings(ServerConf::new())?,
        };
        Ok(Self::new_with_opt_and_conf(opt, conf))
    }

    /// A server with these settings and this command line, of which `daemon` counts too.
    pub fn new_with_opt_and_conf(raw_opt: impl Into<Option<Opt>>, conf: ServerConf) -> Server {
        let options = raw_opt.into();
        let mut conf = conf;
        if let Some(opt) = &options {
            conf.merge_with_opt(opt);
        }
        let configuration = Arc::new(conf);
        let fds = ListenFds::default();
        let phases = Phases::new();
        phases.enter(ExecutionPhase::Setup);
        Server {
            services: Vec::new(),
            dependencies: Dependencies::default(),
            bootstrap: Arc::new(Bootstrap::new(
                configuration.clone(),
                options.as_ref(),
                fds.clone(),
                phases.clone(),
            )),
            fds,
            phases,
            configuration,
            options,
            upgrade_check: None,
            #[cfg(feature = "sentry")]
            sentry: None,
        }
    }

    /// Reports panics, and what else the application captures, to Sentry while the server runs. A build with debug
    /// assertions reports nothing.
    ///
    /// The client lives from [`Server::run`], after the change to the background, until the server has ended; what it
    /// has not sent by then, it has its `shutdown_timeout` for.
    #[cfg(feature = "sentry")]
    pub fn set_sentry_config(&mut self, sentry_config: sentry::ClientOptions) {
        self.sentry = Some(sentry_config);
    }

    /// Sets who says whether the process that the sockets were handed to serves, before this one stops for it. Without one
    /// this process stops 5 s after it has handed them over.
    pub fn set_upgrade_check(&mut self, check: Arc<dyn UpgradeCheck>) {
        self.upgrade_check = Some(check);
    }

    /// Returns the table of the listening sockets, for sockets that came to the process by another way than an upgrade:
    /// those that [`Fds::deserialize`] enters before the services start are listened on, by the services that listen at
    /// their bind strings.
    pub fn listen_fds(&self) -> ListenFds {
        self.fds.clone()
    }

    /// Tells the phases that the server enters from now on.
    pub fn watch_execution_phase(&self) -> broadcast::Receiver<ExecutionPhase> {
        self.phases.watch()
    }

    /// Adds a service; the handle is for making services wait for each other.
    pub fn add_service(&mut self, service: impl ServiceWithDependents + 'static) -> ServiceHandle {
        self.add_boxed_service(Box::new(service))
    }

    /// Adds a service that is boxed already.
    pub fn add_boxed_service(
        &mut self,
        service_box: Box<dyn ServiceWithDependents>,
    ) -> ServiceHandle {
        let handle = self.dependencies.add(service_box.name());
        self.services.push(service_box);
        handle
    }

    /// Adds several services, and returns their handles in the same order.
    pub fn add_services(
        &mut self,
        services: Vec<Box<dyn ServiceWithDependents>>,
    ) -> Vec<ServiceHandle> {
        services
            .into_iter()
            .map(|service| self.add_boxed_service(service))
            .collect()
    }

    /// Prepares the server to run: with `--upgrade` it takes over the sockets of the old process,
    /// with `--test` it ends the process with status 0.
    ///
    /// Blocks while it waits for the old process, and ends this one with status 1 and one line on
    /// the log or on standard error when that does not come. [`Server::run`] does all this itself
    /// when it was not done before.
    pub fn bootstrap(&mut self) {
        if let Err(failure) = self.prepare() {
            exit::report(&failure);
            exit::failed();
        }
    }

    fn prepare(&self) -> Result<(), Failure> {
        self.bootstrap.end_of_test();
        if self.bootstrap.begin() {
            let upgrade = self.options.as_ref().is_some_and(|opt| opt.upgrade);
            if upgrade && self.configuration.daemon {
                // The old process ends soon after this one has its sockets.
                daemon::check(&self.configuration)?;
            }
            self.bootstrap.run()?;
        }
        Ok(())
    }

    /// As [`Server::bootstrap`], but as a service, while others run already.
    ///
    /// Services that listen should depend on the handle that it returns.
    pub fn bootstrap_as_a_service(&mut self) -> ServiceHandle {
        if !self.bootstrap.begin() {
            log::warn!("the server was bootstrapped before");
        }
        self.add_service(BootstrapService(self.bootstrap.clone()))
    }

    /// Runs the server until a signal stops it, then ends the process with status 0.
    pub fn run_forever(self) -> ! {
        self.run(RunArgs::default());
        std::process::exit(0)
    }

    /// Runs the server until the watch in `run_args` stops it.
    ///
    /// Goes to the background first when so configured: from a process with one thread, that is,
    /// before anything else has started one.
    ///
    /// A server that cannot start, and one of whose services cannot start or go on, ends the process with status 1
    /// and one line on the log or on standard error. That line comes at once; then the other services stop, and what
    /// they have begun has `graceful_shutdown_timeout_seconds` to end.
    ///
    /// # Panics
    /// When called from within a tokio runtime.
    pub fn run(self, run_args: RunArgs) {
        if self.try_run(run_args).is_err() {
            exit::failed();
        }
    }

    /// As [`Server::run`], but leaves the end of the process to the caller.
    ///
    /// # Errors
    /// When the server cannot start, or one of its services cannot start or go on. It is reported already.
    fn try_run(mut self, run_args: RunArgs) -> Result<(), Failure> {
        let order = self.settle().inspect_err(exit::report)?;
        let runtime = Runtime::new_steal(1, "Server");
        // Before services start: whoever hears that one of them serves may send a signal.
        let heard = runtime
            .get_handle()
            .block_on(Heard::begin(&*run_args.shutdown_signal));
        let started = self.start(&order).inspect_err(exit::report)?;
        let services = &started.services;
        let life = Life {
            conf: &self.configuration,
            fds: &self.fds,
            phases: &self.phases,
            services,
            shutdown: &started.shutdown,
            check: self.upgrade_check.as_deref(),
        };
        let (timeout, ended) = runtime
            .get_handle()
            .block_on(life.live(heard, started.failures));
        self.phases.enter(ExecutionPhase::ShutdownRuntimes);
        started.services.shut_down(timeout);
        runtime.shutdown_timeout(Duration::ZERO);
        daemon::remove_pid_file();
        log::info!("the server has ended");
        self.phases.enter(ExecutionPhase::Terminated);
        ended
    }

    /// Goes to the background when so configured. Returns the services that each of the services waits for.
    fn settle(&mut self) -> Result<Vec<Vec<usize>>, Failure> {
        let conf = self.configuration.clone();
        let dependencies = self.dependencies.resolve()?;
        runtimes::warn_of_idle_settings(&conf);
        pingora_timeout::fast_timeout::set_fast_timeout_to_tokio_threshold(
            conf.fast_timeout_to_tokio_threshold_seconds
                .map(Duration::from_secs),
        );
        self.prepare()?;
        if conf.daemon {
            let upgrade = self.options.as_ref().is_some_and(|opt| opt.upgrade);
            daemon::start(&conf, upgrade)?;
        }
        Ok(dependencies)
    }

    /// Starts the services.
    fn start(&mut self, dependencies: &[Vec<usize>]) -> Result<Started, Failure> {
        // Its thread would not survive the change to the background.
        #[cfg(feature = "sentry")]
        let reports = self.sentry.take().and_then(reports::begin);
        self.bootstrap.set_claims(self.claims());

        let (shutdown, watch) = watch::channel(false);
        let shutdown = Arc::new(shutdown);
        let (reporter, failures) = Reporter::new(shutdown.clone());
        let services = Services::start(
            std::mem::take(&mut self.services),
            dependencies,
            &self.configuration,
            &self.fds,
            &watch,
            &reporter,
        )?;
        Ok(Started {
            services,
            shutdown,
            failures,
            #[cfg(feature = "sentry")]
            _reports: reports,
        })
    }

    fn claims(&self) -> Claims {
        let mut claims = HashSet::new();
        for service in &self.services {
            match service.listen_addresses() {
                Some(addresses) => claims.extend(addresses),
                None => return Err(service.name().to_owned()),
            }
        }
        Ok(claims)
    }
}

fn default_settings(conf: Option<ServerConf>) -> Result<ServerConf> {
    conf.ok_or_else(|| Error::explain(InternalError, "the default settings are refused"))
}

/// The parts of a server while its services run.
struct Started {
    services: Services,
    /// Held to the end: a service that waits on its watch must not see the sender go.
    shutdown: Arc<watch::Sender<bool>>,
    failures: Failures,
    #[cfg(feature = "sentry")]
    _reports: Option<sentry::ClientInitGuard>,
}
