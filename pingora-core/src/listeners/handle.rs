//! Endpoints that come and go while their service runs.

use std::fmt;

use pingora_error::{
    Error,
    ErrorType::{BindError, InternalError},
    Result,
};
use tokio::sync::{mpsc, oneshot};

use super::config::ListenerConfig;
use super::serving::Prepared;
use crate::protocols::l4::socket::SocketAddr;

/// Commands that wait for a service; who sends more waits with them.
const QUEUE: usize = 16;

/// Adds endpoints to a service, and removes them, while it runs; of any task, with every
/// [`AcceptStrategy`](super::AcceptStrategy).
///
/// It is made by [`Listeners::endpoint_handle`](super::Listeners::endpoint_handle) or
/// [`Service::endpoint_handle`](crate::services::listening::Service::endpoint_handle) before the service starts. What is asked
/// for before the service listens is done then; what is asked for while sockets are handed to a new process waits until
/// that is over. A new process gets the endpoints that are there at that moment.
///
/// ```no_run
/// # use pingora_core::{apps::ServerApp, listeners::ListenerConfig, services::listening::Service};
/// # async fn change(mut service: Service<impl ServerApp>) -> pingora_core::Result<()> {
/// let endpoints = service.endpoint_handle();
/// // From any task, once the service runs:
/// let address = endpoints.add(ListenerConfig::tcp("127.0.0.1:0")).await?;
/// endpoints.remove(&address.to_string()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct EndpointHandle(mpsc::Sender<Command>);

/// What a service is asked to do.
pub(super) enum Command {
    /// To bind an endpoint, or prepare it where it listens already.
    Bind(Box<ListenerConfig>, Answer<Prepared>),
    /// To accept there.
    Start(Prepared, Answer<SocketAddr>),
    /// To close an endpoint.
    Remove(String, Answer<()>),
}

/// The way back to who asks.
pub(super) type Answer<T> = oneshot::Sender<std::result::Result<T, String>>;

impl EndpointHandle {
    /// Adds an endpoint, and returns the address that it is bound to: the port that the system chose, for one.
    ///
    /// At an address that the service listens on already the endpoint becomes another one: with TLS or without, with another
    /// strategy, other options and limits. Its sockets stay, so that no client finds it closed; connections that are there
    /// stay as they are.
    ///
    /// # Errors
    /// `BindError` when the address cannot be listened on, or the service does not run any more. Nothing has changed then.
    ///
    /// # Cancel safety
    /// An endpoint whose future is dropped may be added or not.
    pub async fn add(&self, endpoint: ListenerConfig) -> Result<SocketAddr> {
        self.bind(endpoint).await?.start().await
    }

    /// Binds an endpoint without accepting connections there: they wait until it is [started](PendingEndpoint::start). So
    /// several can be bound before any of them serves.
    ///
    /// # Errors
    /// As [`EndpointHandle::add`].
    ///
    /// # Cancel safety
    /// A future that is dropped leaves no endpoint.
    pub async fn bind(&self, endpoint: ListenerConfig) -> Result<PendingEndpoint> {
        let command = |answer| Command::Bind(Box::new(endpoint), answer);
        let prepared = self.ask(command).await?;
        let handle = self.clone();
        Ok(PendingEndpoint { prepared, handle })
    }

    /// Closes the endpoint that was added with this address, or is bound to it. Connections that it accepted go on, those
    /// that wait to be accepted are served too, and the file of a Unix socket is removed. It is closed when this returns.
    ///
    /// # Errors
    /// `InternalError` when there is none, or the service does not run any more.
    ///
    /// # Cancel safety
    /// An endpoint whose future is dropped may be removed or not.
    pub async fn remove(&self, address: &str) -> Result<()> {
        let command = |answer| Command::Remove(address.to_owned(), answer);
        let removed = self.ask(command).await;
        removed.map_err(|mut e| {
            e.etype = InternalError;
            e
        })
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let gone = || Error::explain(BindError, "the service does not listen any more");
        let sent = self.0.send(command(answer)).await;
        sent.map_err(|_| gone())?;
        let done = answered.await.map_err(|_| gone())?;
        done.map_err(|why| Error::explain(BindError, why))
    }
}

impl fmt::Debug for EndpointHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointHandle").finish_non_exhaustive()
    }
}

/// An endpoint that is bound, at which nobody accepts yet. Dropping it closes it, unless the service listened there before.
#[must_use = "it closes when it is dropped"]
pub struct PendingEndpoint {
    prepared: Prepared,
    handle: EndpointHandle,
}

impl PendingEndpoint {
    /// Accepts connections there, and returns the address that the endpoint is bound to.
    ///
    /// # Errors
    /// `BindError` when the acceptors cannot be started, or the service does not run any more; the endpoint is closed
    /// then.
    pub async fn start(self) -> Result<SocketAddr> {
        let command = |answer| Command::Start(self.prepared, answer);
        self.handle.ask(command).await
    }
}

impl fmt::Debug for PendingEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingEndpoint").finish_non_exhaustive()
    }
}

/// Both ends of the commands of a service, until it starts.
pub(super) struct Commands(Option<(mpsc::Sender<Command>, mpsc::Receiver<Command>)>);

impl Default for Commands {
    fn default() -> Self {
        Commands(Some(mpsc::channel(QUEUE)))
    }
}

impl Commands {
    /// Returns a handle, which reaches nobody once they were taken.
    pub(super) fn handle(&self) -> EndpointHandle {
        let sender = self.0.as_ref().map(|(sender, _)| sender.clone());
        EndpointHandle(sender.unwrap_or_else(|| mpsc::channel(1).0))
    }

    /// Gives the commands to the service that starts; they end when no handle is left.
    pub(super) fn take(&mut self) -> Option<mpsc::Receiver<Command>> {
        self.0.take().map(|(_, receiver)| receiver)
    }
}
