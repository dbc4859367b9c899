//! The way of a service's error to the server that runs it.
//!
//! The methods that start a service return nothing: their signatures are those of version 0.9.1. So the error travels
//! beside them, through the task of the service, and [`Server::run`](crate::server::Server::run) alone decides that
//! the process ends.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

/// The reason why a server or a service cannot start or go on, in one line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure(String);

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Failure(reason)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

tokio::task_local! {
    static REPORTER: Reporter;
}

impl Failure {
    /// Hands the failure to the server that runs the calling service; to the log when no server does.
    ///
    /// The shutdown of that server has begun when this returns: what waits for the service to be ready does not start.
    pub(crate) fn report(self) {
        match REPORTER.try_with(Reporter::clone) {
            Ok(reporter) => reporter.report(self),
            Err(_) => log::error!("{self}"),
        }
    }
}

/// Takes the failures of a server's services to the server.
#[derive(Clone)]
pub(crate) struct Reporter {
    shutdown: Arc<watch::Sender<bool>>,
    failures: mpsc::UnboundedSender<Failure>,
}

/// Gives a server the failures of its services.
pub(crate) type Failures = mpsc::UnboundedReceiver<Failure>;

impl Reporter {
    /// Returns a reporter that turns `shutdown` true, and the failures that it reports.
    pub(crate) fn new(shutdown: Arc<watch::Sender<bool>>) -> (Self, Failures) {
        let (sender, failures) = mpsc::unbounded_channel();
        let reporter = Reporter {
            shutdown,
            failures: sender,
        };
        (reporter, failures)
    }

    /// Runs a service's root future so that [`Failure::report`] finds this reporter in it.
    pub(crate) async fn scope<F: Future>(self, service: F) -> F::Output {
        REPORTER.scope(self, service).await
    }

    fn report(&self, failure: Failure) {
        // An error says that the server has ended.
        let _ = self.failures.send(failure);
        self.shutdown.send_replace(true);
    }
}
