//! Services that run: how they start, and how they end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::configuration::ServerConf;
use super::runtimes::ServiceRuntime;
use crate::listeners::fds::ListenFds;
use crate::services::failure::{Failure, Reporter};
use crate::services::{ServiceReadyNotifier, ServiceReadyWatch, ServiceWithDependents};
use crate::shutdown::watch::ShutdownWatch;
use crate::worker::Workers;

/// The services of a server, in the order in which they were added.
pub(super) struct Services {
    running: Vec<Running>,
}

struct Running {
    name: String,
    listens: bool,
    ready: ServiceReadyWatch,
    runtime: ServiceRuntime,
    root: JoinHandle<()>,
}

impl Services {
    /// Starts services; `dependencies` are the indices of those that each one waits for.
    ///
    /// # Errors
    /// When a service cannot have its threads; then none has started.
    pub(super) fn start(
        services: Vec<Box<dyn ServiceWithDependents>>,
        dependencies: &[Vec<usize>],
        conf: &Arc<ServerConf>,
        fds: &ListenFds,
        shutdown: &ShutdownWatch,
        reporter: &Reporter,
    ) -> Result<Self, Failure> {
        let global = conf.runtime_opts();
        let runtimes = services.iter().map(|service| {
            let opts = service.runtime_opts_override(&global);
            let opts = opts.unwrap_or_else(|| global.clone());
            ServiceRuntime::new(service.name(), service.threads(), conf, opts)
        });
        let runtimes = runtimes.collect::<Result<Vec<_>, String>>()?;
        let ready: Vec<_> = services.iter().map(|_| watch::channel(false)).collect();
        let watches: Vec<_> = ready.iter().map(|(_, watch)| watch.clone()).collect();
        let running = services
            .into_iter()
            .zip(runtimes)
            .zip(ready)
            .zip(dependencies)
            .map(|(((service, runtime), (sender, ready)), dependencies)| {
                let name = service.name().to_owned();
                let listens = service.listen_addresses() != Some(Vec::new());
                let start = Start {
                    service,
                    dependencies: dependencies.iter().map(|&i| watches[i].clone()).collect(),
                    fds: fds.clone(),
                    shutdown: shutdown.clone(),
                    listeners_per_fd: conf.listener_tasks_per_fd.max(1),
                    ready: ServiceReadyNotifier::new(sender),
                };
                let workers = Workers::new(runtime.handles().to_vec());
                let run = reporter.clone().scope(start.run());
                let run = conf.accepting().scope(run);
                let root = runtime.handles()[0].spawn(workers.scope(run));
                Running {
                    name,
                    listens,
                    ready,
                    runtime,
                    root,
                }
            })
            .collect();
        Ok(Services { running })
    }

    /// Waits until every service that listens does; the names of those that do not in time are
    /// the error.
    pub(super) async fn wait_ready(&self, timeout: Duration) -> Result<(), String> {
        let listening = || self.running.iter().filter(|service| service.listens);
        let watches = listening().map(|service| service.ready.clone()).collect();
        if tokio::time::timeout(timeout, all_ready(watches))
            .await
            .is_ok()
        {
            return Ok(());
        }
        let late: Vec<&str> = listening()
            .filter(|service| !*service.ready.borrow())
            .map(|service| service.name.as_str())
            .collect();
        Err(late.join(", "))
    }

    /// Waits until every service has returned and none of its tasks is left.
    pub(super) async fn wait_idle(&self) {
        const TICK: Duration = Duration::from_millis(10);
        // Twice in a row: a task is counted by its runtime and as housekeeping at two moments.
        let mut seen = 0;
        while seen < 2 {
            tokio::time::sleep(TICK).await;
            seen = if self.is_idle() { seen + 1 } else { 0 };
        }
    }

    fn is_idle(&self) -> bool {
        self.running
            .iter()
            .all(|s| s.root.is_finished() && s.runtime.is_idle())
    }

    /// Ends the runtimes, all at the same time.
    pub(super) fn shut_down(self, timeout: Duration) {
        std::thread::scope(|threads| {
            for service in self.running {
                threads.spawn(move || {
                    service.runtime.shut_down(timeout);
                    log::info!("the service {} has ended", service.name);
                });
            }
        });
    }
}

/// A service that is about to start.
struct Start {
    service: Box<dyn ServiceWithDependents>,
    dependencies: Vec<ServiceReadyWatch>,
    fds: ListenFds,
    shutdown: ShutdownWatch,
    listeners_per_fd: usize,
    ready: ServiceReadyNotifier,
}

impl Start {
    async fn run(mut self) {
        if !self.dependencies.is_empty() {
            let began = Instant::now();
            tokio::select! {
                // First: a service that ends for the shutdown counts as ready.
                biased;
                _ = self.shutdown.wait_for(|on| *on) => return,
                () = all_ready(self.dependencies) => {}
            }
            self.service.on_startup_delay(began.elapsed());
        }
        log::info!("starting the service {}", self.service.name());
        self.service
            .start_service(
                Some(self.fds),
                self.shutdown,
                self.listeners_per_fd,
                self.ready,
            )
            .await;
        log::debug!("the service {} has returned", self.service.name());
    }
}

async fn all_ready(watches: Vec<ServiceReadyWatch>) {
    join_all(watches.into_iter().map(|mut watch| async move {
        // An error says that the notifier is gone, which it is when it has notified.
        let _ = watch.wait_for(|ready| *ready).await;
    }))
    .await;
}
