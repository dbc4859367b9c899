//! A server while its services run: the signals that stop it, and the failures that do.

use std::collections::HashSet;
use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::configuration::ServerConf;
use super::phases::{ExecutionPhase, Phases};
use super::running::Services;
use super::signals::{self, Heard, Next, ShutdownSignal, ShutdownSignalWatch};
use super::transfer_fd::{Patience, Trust};
use super::{daemon, exit};
use crate::limits::LIMITS;
use crate::listeners::fds::{Fds, ListenFds};
use crate::services::failure::{Failure, Failures};
use crate::shutdown::set_upgrading;

/// Says whether the new process of an upgrade serves; for [`Server::set_upgrade_check`](super::Server::set_upgrade_check).
#[async_trait]
pub trait UpgradeCheck: Send + Sync {
    /// Waits until the process that has taken the listening sockets serves. Meanwhile both accept.
    ///
    /// # Errors
    /// One line that says why it does not. Then this process keeps the sockets, and goes on serving.
    async fn serves(&self) -> Result<(), String>;
}

/// A server from the start of its services to the end of its grace period.
pub(super) struct Life<'a> {
    pub(super) conf: &'a ServerConf,
    pub(super) fds: &'a ListenFds,
    pub(super) phases: &'a Phases,
    pub(super) services: &'a Services,
    pub(super) shutdown: &'a watch::Sender<bool>,
    pub(super) check: Option<&'a dyn UpgradeCheck>,
}

impl Life<'_> {
    /// Returns the time that the runtimes may take to end, and the failure that ends the server.
    pub(super) async fn live(
        &self,
        heard: Heard<'_>,
        mut failures: Failures,
    ) -> (Duration, Result<(), Failure>) {
        let Heard {
            watch,
            signal,
            unhandled,
        } = heard;
        let lived = async {
            tokio::select! {
                // A signal that comes together with a failure does not make that a good end.
                biased;
                Some(failure) = failures.recv() => {
                    exit::report(&failure);
                    let timeout = self.give_up(watch.is_process_signals()).await;
                    (timeout, Err(failure))
                }
                timeout = self.serve(watch, signal) => (timeout, Ok(())),
            }
        };
        tokio::select! {
            biased;
            never = unhandled => match never {},
            lived = lived => lived,
        }
    }

    /// Stops the server after a failure.
    async fn give_up(&self, process_signals: bool) -> Duration {
        let hurry =
            process_signals.then(|| signals::second_thoughts(&ShutdownSignal::FastShutdown));
        let graceful = async {
            self.wind_down(self.runtime_timeout()).await;
            Some(Duration::ZERO)
        };
        self.unless(hurry, graceful).await.unwrap_or_default()
    }

    async fn serve<'a>(&self, watch: &'a dyn ShutdownSignalWatch, mut next: Next<'a>) -> Duration {
        loop {
            let stop = match next {
                Next::Come(stop) => stop,
                Next::Awaited(mut signal) => {
                    self.phases.enter(ExecutionPhase::Running);
                    tokio::select! {
                        stop = &mut signal => stop,
                        never = self.tell_parent() => match never {},
                    }
                }
            };
            log::info!("stopping: {stop:?}");
            // From now on another signal is to be heard, whatever becomes of this one.
            next = if watch.is_process_signals() {
                Next::of(watch).await
            } else {
                Next::Awaited(Box::pin(std::future::pending()))
            };
            if let Some(timeout) = self.stop(stop, watch.is_process_signals()).await {
                return timeout;
            }
        }
    }

    /// Stops the server; `None` when it goes on, since nobody took its sockets.
    async fn stop(&self, stop: ShutdownSignal, process_signals: bool) -> Option<Duration> {
        let hurry = process_signals.then(|| signals::second_thoughts(&stop));
        match stop {
            ShutdownSignal::FastShutdown => {
                self.start_shutdown();
                Some(Duration::ZERO)
            }
            ShutdownSignal::GracefulTerminate => {
                self.phases.enter(ExecutionPhase::GracefulTerminate);
                let graceful = async {
                    self.wind_down(self.grace_period()).await;
                    Some(self.runtime_timeout())
                };
                self.unless(hurry, graceful).await
            }
            ShutdownSignal::GracefulUpgrade => {
                let graceful = async {
                    if let Err(why) = self.hand_over().await {
                        if process_signals {
                            log::error!("{why}: the server goes on serving");
                            daemon::restore_pid_file();
                            return None;
                        }
                        log::error!("{why}");
                    }
                    self.wind_down(self.grace_period()).await;
                    Some(self.runtime_timeout())
                };
                self.unless(hurry, graceful).await
            }
        }
    }

    fn grace_period(&self) -> Duration {
        self.conf
            .grace_period_seconds
            .map_or(LIMITS.stop, Duration::from_secs)
    }

    fn runtime_timeout(&self) -> Duration {
        self.conf
            .graceful_shutdown_timeout_seconds
            .map_or(LIMITS.stop_runtimes, Duration::from_secs)
    }

    /// Ends a graceful stop early when `hurry` says so.
    async fn unless(
        &self,
        hurry: Option<impl Future<Output = ()>>,
        graceful: impl Future<Output = Option<Duration>>,
    ) -> Option<Duration> {
        let hurry = async {
            match hurry {
                Some(hurry) => hurry.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            timeout = graceful => timeout,
            () = hurry => {
                log::warn!("stopping at once: a second signal came");
                self.shutdown.send_replace(true);
                Some(Duration::ZERO)
            }
        }
    }

    fn start_shutdown(&self) {
        self.shutdown.send_replace(true);
        self.phases.enter(ExecutionPhase::ShutdownStarted);
    }

    /// Begins the shutdown, and waits until nothing is left or `grace` is over.
    async fn wind_down(&self, grace: Duration) {
        self.start_shutdown();
        self.phases.enter(ExecutionPhase::ShutdownGracePeriod);
        if tokio::time::timeout(grace, self.services.wait_idle())
            .await
            .is_err()
        {
            log::warn!("connections or services have outlasted the grace period of {grace:?}");
        }
    }

    /// Hands the listening sockets to the new process, if there are any, and lets both accept for
    /// a while.
    ///
    /// # Errors
    /// One line that says why nobody took them.
    async fn hand_over(&self) -> Result<(), String> {
        self.phases
            .enter(ExecutionPhase::GracefulUpgradeTransferringFds);
        let gate = self.fds.lock().gate();
        let _changing = gate.lock().await;
        if self.fds.lock().is_empty() {
            log::info!("there are no sockets to hand over");
            return Ok(());
        }
        let fds = self.fds.clone();
        let path = self.conf.upgrade_sock.clone();
        let patience = Patience::new(self.conf.upgrade_sock_connect_accept_max_retries);
        let trust = Trust::new(self.conf.user.as_deref());
        let send = move || Fds::hand_on(&fds, path.as_str(), &patience, &trust);
        let path = &self.conf.upgrade_sock;
        let failed = |why: &dyn Display| {
            Err(format!(
                "no new process took the sockets over at {path}: {why}"
            ))
        };
        match tokio::task::spawn_blocking(send).await {
            Ok(Ok(())) => {
                log::info!("handed the listening sockets over at {path}");
                self.phases
                    .enter(ExecutionPhase::GracefulUpgradeCloseTimeout);
                match self.check {
                    Some(check) => check.serves().await.inspect_err(|_| {
                        // They are this process's own again, and are drained when it stops.
                        self.fds.lock().set_handed_on(HashSet::new());
                    })?,
                    None => tokio::time::sleep(LIMITS.upgrade_overlap).await,
                }
                set_upgrading();
                Ok(())
            }
            Ok(Err(nix::Error::ENOENT)) => failed(&"none waits there"),
            Ok(Err(nix::Error::ECONNREFUSED)) => failed(&"none waits there, or it refuses them"),
            Ok(Err(nix::Error::EPERM)) => failed(&"another user's process is there"),
            Ok(Err(nix::Error::EINVAL)) => {
                failed(&"no name of a socket can be passed on, or the path is too long")
            }
            Ok(Err(nix::Error::ETIMEDOUT)) => failed(&"the one that waits does not read them"),
            Ok(Err(e)) => failed(&e),
            Err(e) => failed(&e),
        }
    }

    /// Tells the command that started the daemon when the services listen.
    async fn tell_parent(&self) -> std::convert::Infallible {
        if self.conf.daemon && self.conf.daemon_wait_for_ready {
            let timeout = daemon::notify_timeout(self.conf);
            match self.services.wait_ready(timeout).await {
                // A service that has failed holds nothing up, and is not ready.
                Ok(()) if *self.shutdown.borrow() => {}
                Ok(()) => daemon::tell_ready(),
                Err(late) => {
                    let message = format!("not ready after {timeout:?}: {late}");
                    log::error!("{message}");
                    daemon::tell_failure(&message);
                }
            }
        }
        std::future::pending().await
    }
}
