//! The file of the access log: written from the start of the services on, opened anew on SIGUSR1.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::signal::unix::{signal, SignalKind};

use super::Live;
use crate::lifecycle::early;

/// The service that has the access log be written, and opened anew when it is told.
pub struct Reopening(pub Arc<Live>);

#[async_trait]
impl BackgroundService for Reopening {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        self.0.start_log();
        // Listened for without a log too: it would end the process.
        let mut told = match signal(SignalKind::user_defined1()) {
            Ok(told) => told,
            Err(e) => return log::error!("SIGUSR1 will not reopen the access log: {e}"),
        };
        if early::reopened() {
            self.0.reopen_log();
        }
        while !*shutdown.borrow() {
            tokio::select! {
                // An error means that nobody is left to say so.
                changed = shutdown.changed() => if changed.is_err() { return },
                told = told.recv() => match told {
                    Some(()) => self.0.reopen_log(),
                    None => return,
                },
            }
        }
    }
}
