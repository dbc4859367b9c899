//! The service that the admin interface is.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::apps::http_app::HttpServer;
use pingora_core::listeners::{AcceptCounts, ListenerConfig};
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::listening::Service;
use pingora_core::services::{ServiceReadyNotifier, ServiceWithDependents};
use tokio::sync::watch;

use super::Admin;
use crate::config::values::Address;
use crate::listen::family;
use crate::live::Live;

/// The time between two looks whether the last connection of the sites has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Returns whether a new process serves in the place of this one.
type TakenOver = Box<dyn Fn() -> bool + Send + Sync>;

/// Serves the admin interface, from the start of the process until the sites have no connection left, or a new process has
/// taken over.
pub struct AdminService {
    inner: Service<HttpServer<Admin>>,
    live: Arc<Live>,
    workers: AcceptCounts,
    taken_over: TakenOver,
}

impl AdminService {
    /// Serves `admin` at an address. A Unix socket is for the user of the process alone.
    pub(crate) fn new(admin: Admin, address: &Address, taken_over: TakenOver) -> Self {
        let (live, workers) = (admin.live.clone(), admin.workers.clone());
        let mut inner = Service::new("admin".into(), HttpServer::new_app(admin));
        // Whatever is asked of it takes no time from a worker.
        inner.threads = Some(1);
        inner.add_listener(match address {
            Address::Unix(path) => {
                let own = Permissions::from_mode(0o600);
                ListenerConfig::uds(path.to_string_lossy()).permissions(own)
            }
            other => ListenerConfig::tcp(other.to_string()).tcp_socket_options(family(other)),
        });
        Self {
            inner,
            live,
            workers,
            taken_over,
        }
    }
}

#[async_trait]
impl ServiceWithDependents for AdminService {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        listeners_per_fd: usize,
        ready: ServiceReadyNotifier,
    ) {
        let (stop, stopped) = watch::channel(false);
        let (live, workers) = (self.live.clone(), self.workers.clone());
        let (inner, taken_over) = (&mut self.inner, &self.taken_over);
        let serve =
            ServiceWithDependents::start_service(inner, fds, stopped, listeners_per_fd, ready);
        let watched = async {
            // An error means that nobody is left to say so.
            let _ = shutdown.wait_for(|stop| *stop).await;
            live.drain(true);
            // A new process listens at the same address: a reload or a purge that came here would be lost, and `/readyz`
            // would say of the new one that it drains.
            while !taken_over() && workers.per_worker().iter().any(|worker| worker.open > 0) {
                tokio::time::sleep(LOOK).await;
            }
            stop.send_replace(true);
        };
        futures::join!(serve, watched);
    }

    fn name(&self) -> &str {
        ServiceWithDependents::name(&self.inner)
    }

    fn threads(&self) -> Option<usize> {
        ServiceWithDependents::threads(&self.inner)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        ServiceWithDependents::listen_addresses(&self.inner)
    }
}
