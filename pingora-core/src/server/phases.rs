//! The phases of a server's life.

use tokio::sync::broadcast;

/// A phase of a server's life.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ExecutionPhase {
    /// The server was made and is being set up.
    Setup,
    /// The sockets of an old process are being taken over, if there are to be any.
    Bootstrap,
    /// That is done.
    BootstrapComplete,
    /// The services are started.
    Running,
    /// An upgrade was asked for: the listening sockets are being handed to the new process.
    GracefulUpgradeTransferringFds,
    /// Old and new process both accept connections, for 5 s.
    GracefulUpgradeCloseTimeout,
    /// A graceful stop was asked for.
    GracefulTerminate,
    /// The services were told to shut down.
    ShutdownStarted,
    /// Connections get their time to end.
    ShutdownGracePeriod,
    /// The runtimes are being ended.
    ShutdownRuntimes,
    /// The server has ended.
    Terminated,
}

/// Tells everybody who watches which phase the server is in.
pub(super) struct Phases(broadcast::Sender<ExecutionPhase>);

impl Phases {
    pub(super) fn new() -> Self {
        // More than a life has phases: a watcher that is slow misses none.
        Phases(broadcast::Sender::new(32))
    }

    pub(super) fn watch(&self) -> broadcast::Receiver<ExecutionPhase> {
        self.0.subscribe()
    }

    pub(super) fn enter(&self, phase: ExecutionPhase) {
        log::debug!("phase {phase:?}");
        // An error says that nobody watches.
        let _ = self.0.send(phase);
    }
}

impl Clone for Phases {
    fn clone(&self) -> Self {
        Phases(self.0.clone())
    }
}
