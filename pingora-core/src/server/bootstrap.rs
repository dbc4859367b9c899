//! Bootstrap, before the services start: taking over the sockets of an old process.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;

use super::configuration::{Opt, ServerConf};
use super::phases::{ExecutionPhase, Phases};
use super::transfer_fd::{Patience, Trust};
use crate::listeners::fds::{Fds, ListenFds};
use crate::services::failure::Failure;
use crate::services::{ServiceReadyNotifier, ServiceWithDependents};
use crate::shutdown::watch::ShutdownWatch;

/// The bind strings that services use, or the name of a service that cannot tell its own.
pub(super) type Claims = Result<HashSet<String>, String>;

pub(super) struct Bootstrap {
    conf: Arc<ServerConf>,
    upgrade: bool,
    test: bool,
    fds: ListenFds,
    phases: Phases,
    inherited: OnceLock<HashSet<String>>,
    claims: OnceLock<Claims>,
    begun: AtomicBool,
}

impl Bootstrap {
    pub(super) fn new(
        conf: Arc<ServerConf>,
        opt: Option<&Opt>,
        fds: ListenFds,
        phases: Phases,
    ) -> Self {
        let upgrade = opt.is_some_and(|opt| opt.upgrade);
        if upgrade {
            fds.lock().set_upgrade();
        }
        Bootstrap {
            conf,
            upgrade,
            test: opt.is_some_and(|opt| opt.test),
            fds,
            phases,
            inherited: OnceLock::new(),
            claims: OnceLock::new(),
            begun: AtomicBool::new(false),
        }
    }

    /// True for the first caller, who is to run it.
    pub(super) fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::AcqRel)
    }

    /// Ends the process with status 0 when the settings are only to be tested, which they are by now.
    pub(super) fn end_of_test(&self) {
        if self.test {
            self.phases.enter(ExecutionPhase::Bootstrap);
            log::info!("the settings are good");
            std::process::exit(0);
        }
    }

    /// Takes over the sockets of the old process in an upgrade.
    ///
    /// # Errors
    /// When the old process does not hand them over.
    pub(super) fn run(&self) -> Result<(), Failure> {
        self.phases.enter(ExecutionPhase::Bootstrap);
        if self.upgrade {
            self.take_over()?;
        }
        self.phases.enter(ExecutionPhase::BootstrapComplete);
        self.close_unclaimed();
        Ok(())
    }

    fn take_over(&self) -> Result<(), Failure> {
        let path = self.conf.upgrade_sock.as_str();
        log::info!("waiting at {path} for the sockets of the old process");
        let patience = Patience::new(self.conf.upgrade_sock_connect_accept_max_retries);
        let trust = Trust::new(self.conf.user.as_deref());
        let mut received = Fds::new();
        match received.receive(path, &patience, &trust) {
            Ok(()) => {
                self.adopt(received);
                Ok(())
            }
            Err(e) => {
                let why = match e {
                    nix::Error::EAGAIN => "it did not come in time".to_owned(),
                    nix::Error::ELOOP => "there is a link in its place".to_owned(),
                    nix::Error::ENOTSOCK => "something else is in its place".to_owned(),
                    e => e.to_string(),
                };
                let failure =
                    format!("cannot take over sockets from the old process at {path}: {why}");
                Err(failure.into())
            }
        }
    }

    fn adopt(&self, mut received: Fds) {
        let mut fds = self.fds.lock();
        // A service that did not wait may have bound its address by itself.
        let (bound, _) = fds.serialize();
        let wanted = received.serialize().0.into_iter();
        let wanted = wanted.filter(|bind| !bound.contains(bind)).collect();
        received.close_unclaimed(&wanted);
        log::info!("took over {}", received.serialize().0.join(", "));
        fds.adopt(received);
        // Set once: `begin` lets nobody come here twice.
        let _ = self.inherited.set(wanted);
    }

    /// Says which sockets services use, once all services are known.
    pub(super) fn set_claims(&self, claims: Claims) {
        if self.claims.set(claims).is_ok() {
            self.close_unclaimed();
        }
    }

    /// Closes inherited sockets that no service uses: connections would queue up on them.
    fn close_unclaimed(&self) {
        let (Some(inherited), Some(claims)) = (self.inherited.get(), self.claims.get()) else {
            return;
        };
        match claims {
            Ok(claimed) => {
                let mut fds = self.fds.lock();
                let (all, _) = fds.serialize();
                let keep = all
                    .into_iter()
                    .filter(|bind| claimed.contains(bind) || !inherited.contains(bind))
                    .collect();
                let closed = fds.close_unclaimed(&keep);
                if !closed.is_empty() {
                    let closed = closed.join(", ");
                    log::warn!("closed inherited sockets that no service uses: {closed}");
                }
            }
            Err(service) => log::warn!(
                "inherited sockets stay open even if unused: the service {service} does not tell \
                 which ones it uses"
            ),
        }
    }
}

/// Takes the sockets over while other services run already.
pub(super) struct BootstrapService(pub(super) Arc<Bootstrap>);

#[async_trait]
impl ServiceWithDependents for BootstrapService {
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        _shutdown: ShutdownWatch,
        _listeners_per_fd: usize,
        ready_notifier: ServiceReadyNotifier,
    ) {
        let bootstrap = self.0.clone();
        let run = tokio::task::spawn_blocking(move || bootstrap.run()).await;
        let panicked = |e| Err(format!("the bootstrap failed: {e}").into());
        if let Err(failure) = run.unwrap_or_else(panicked) {
            failure.report();
        }
        ready_notifier.notify_ready();
    }

    fn name(&self) -> &str {
        "Bootstrap Service"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Some(Vec::new())
    }
}
