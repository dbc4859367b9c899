//! What is served on a connection: the application traits.

pub mod http_app;

use std::sync::Arc;

use async_trait::async_trait;

use crate::protocols::Stream;
use crate::server::ShutdownWatch;

/// An application that serves connections.
#[async_trait]
pub trait ServerApp {
    /// Serves a connection, or one request of it.
    ///
    /// A connection that is returned is served again by another call; none ends it. Soon after
    /// `shutdown` turned true the application returns none.
    async fn process_new(
        self: &Arc<Self>,
        session: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream>;

    /// Called once when the server shuts down, after the listeners have closed. Unless overridden
    /// it does nothing.
    async fn cleanup(&self) {}
}
