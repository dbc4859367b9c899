//! The services of a server, and how one waits for another.
//!
//! A service runs on a runtime of its own. Those that others depend on start first, and the others
//! start when these say that they are ready.

pub mod background;
pub(crate) mod dependencies;
pub(crate) mod failure;
pub mod listening;

use std::time::Duration;

use async_trait::async_trait;
use pingora_runtime::RuntimeOpts;
use tokio::sync::watch;

use crate::listeners::fds::ListenFds;
use crate::shutdown::watch::ShutdownWatch;

pub use dependencies::ServiceHandle;

/// Turns true when a service is ready.
pub type ServiceReadyWatch = watch::Receiver<bool>;

/// A handle by which a service says that the services which depend on it may start.
///
/// Dropping it says so too: a service that ends, or that does not care, holds no other one up.
pub struct ServiceReadyNotifier {
    sender: watch::Sender<bool>,
}

impl ServiceReadyNotifier {
    /// A notifier that sets the value of `sender` to true.
    pub fn new(sender: watch::Sender<bool>) -> Self {
        ServiceReadyNotifier { sender }
    }

    /// Says that the service is ready.
    pub fn notify_ready(self) {
        drop(self);
    }
}

impl Drop for ServiceReadyNotifier {
    fn drop(&mut self) {
        self.sender.send_replace(true);
    }
}

/// A service that says itself when it is ready for those that depend on it.
#[async_trait]
pub trait ServiceWithDependents: Send + Sync {
    /// Runs the service; returns when it has come to its end, at the latest soon after `shutdown`
    /// turned true.
    ///
    /// `fds` are listening sockets that may be taken over from an old process, and to which new
    /// ones are to be added. `listeners_per_fd` is how many tasks accept on one socket.
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
        ready_notifier: ServiceReadyNotifier,
    );

    /// The name of the service, for logs and threads.
    fn name(&self) -> &str;

    /// Returns how many worker threads the service wants; the configuration's number when unset.
    fn threads(&self) -> Option<usize> {
        None
    }

    /// Options of the service's runtime in place of the configured ones (`global`).
    fn runtime_opts_override(&self, global: &RuntimeOpts) -> Option<RuntimeOpts> {
        let _ = global;
        None
    }

    /// Called before the start of a service that depends on others, with the time for which it
    /// waited for them.
    fn on_startup_delay(&self, time_waited: Duration) {
        log_startup_delay(self.name(), time_waited);
    }

    /// The bind strings of the sockets that the service listens on, none when it cannot tell.
    ///
    /// Once the server has started, inherited sockets that no service lists are closed; but none
    /// is while a service cannot tell.
    fn listen_addresses(&self) -> Option<Vec<String>> {
        None
    }
}

/// A service.
#[async_trait]
pub trait Service: Sync + Send {
    /// Runs the service; returns when it has come to its end, at the latest soon after `shutdown`
    /// turned true. Unless overridden it ends at once.
    ///
    /// `fds` are listening sockets that may be taken over from an old process, and to which new
    /// ones are to be added. `listeners_per_fd` is how many tasks accept on one socket.
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        let _ = (fds, shutdown, listeners_per_fd);
    }

    /// Runs the service as [`Service::start_service`] does, and says by `ready_notifier` when those that depend on it may
    /// start: right away, unless overridden. A service that wraps another one hands the notifier on to it.
    async fn start_with_notifier(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
        ready_notifier: ServiceReadyNotifier,
    ) {
        ready_notifier.notify_ready();
        self.start_service(fds, shutdown, listeners_per_fd).await
    }

    /// The name of the service, for logs and threads.
    fn name(&self) -> &str;

    /// Returns how many worker threads the service wants; the configuration's number when unset.
    fn threads(&self) -> Option<usize> {
        None
    }

    /// Options of the service's runtime in place of the configured ones (`global`).
    fn runtime_opts_override(&self, global: &RuntimeOpts) -> Option<RuntimeOpts> {
        let _ = global;
        None
    }

    /// Called before the start of a service that depends on others, with the time for which it
    /// waited for them.
    fn on_startup_delay(&self, time_waited: Duration) {
        log_startup_delay(self.name(), time_waited);
    }

    /// The bind strings of the sockets that the service listens on, none when it cannot tell.
    ///
    /// Once the server has started, inherited sockets that no service lists are closed; but none
    /// is while a service cannot tell.
    fn listen_addresses(&self) -> Option<Vec<String>> {
        None
    }
}

fn log_startup_delay(name: &str, time_waited: Duration) {
    log::info!("service {name} waited {time_waited:?} for those it depends on");
}

#[async_trait]
impl<S> ServiceWithDependents for S
where
    S: Service,
{
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
        ready_notifier: ServiceReadyNotifier,
    ) {
        self.start_with_notifier(fds, shutdown, listeners_per_fd, ready_notifier)
            .await
    }

    fn name(&self) -> &str {
        Service::name(self)
    }

    fn threads(&self) -> Option<usize> {
        Service::threads(self)
    }

    fn runtime_opts_override(&self, global: &RuntimeOpts) -> Option<RuntimeOpts> {
        Service::runtime_opts_override(self, global)
    }

    fn on_startup_delay(&self, time_waited: Duration) {
        Service::on_startup_delay(self, time_waited)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Service::listen_addresses(self)
    }
}
