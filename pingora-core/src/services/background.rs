//! Services that listen nowhere: health checks, discovery, housekeeping.

use std::sync::Arc;

use async_trait::async_trait;

use super::{ServiceReadyNotifier, ServiceWithDependents};
use crate::listeners::fds::ListenFds;
use crate::shutdown::watch::ShutdownWatch;

/// The work of a background service.
///
/// Override one of the two methods.
#[async_trait]
pub trait BackgroundService {
    /// As [`BackgroundService::start`], for a service that says itself when those that depend on
    /// it may start. Unless overridden they may at once.
    async fn start_with_ready_notifier(
        &self,
        shutdown: ShutdownWatch,
        ready_notifier: ServiceReadyNotifier,
    ) {
        ready_notifier.notify_ready();
        self.start(shutdown).await;
    }

    /// Runs until its work is done, at the latest until soon after `shutdown` turned true: the
    /// server waits for that. Unless overridden it ends at once.
    async fn start(&self, shutdown: ShutdownWatch) {
        let _ = shutdown;
    }
}

/// Makes a [`BackgroundService`] a service of a server.
pub struct GenBackgroundService<A> {
    name: String,
    task: Arc<A>,
    /// Worker threads: 1 unless set, and the configuration's number when none.
    pub threads: Option<usize>,
}

impl<A> GenBackgroundService<A> {
    /// A service of this name on one thread.
    pub fn new(name: String, task: Arc<A>) -> Self {
        GenBackgroundService {
            name,
            task,
            threads: Some(1),
        }
    }

    /// The background service itself, for others to ask.
    pub fn task(&self) -> Arc<A> {
        self.task.clone()
    }
}

#[async_trait]
impl<A> ServiceWithDependents for GenBackgroundService<A>
where
    A: BackgroundService + Send + Sync + 'static,
{
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        _listeners_per_fd: usize,
        ready_notifier: ServiceReadyNotifier,
    ) {
        self.task
            .start_with_ready_notifier(shutdown, ready_notifier)
            .await
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn threads(&self) -> Option<usize> {
        self.threads
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Some(Vec::new())
    }
}

/// Makes a background service from its task; its name is `BG` and the given one.
pub fn background_service<SV>(name: &str, task: SV) -> GenBackgroundService<SV> {
    GenBackgroundService::new(format!("BG {name}"), Arc::new(task))
}
