//! Services that listen.

use std::fs::Permissions;
use std::sync::Arc;

use async_trait::async_trait;
use pingora_error::Result;
use pingora_runtime::RuntimeOpts;

use super::failure::Failure;
use super::{Service as ServiceTrait, ServiceReadyNotifier};
use crate::apps::ServerApp;
use crate::listeners::fds::ListenFds;
use crate::listeners::tls::TlsSettings;
use crate::listeners::{
    AcceptCounts, AcceptStrategy, BoundAddresses, Connect, ConnectionFilter, EndpointHandle,
    Entrance, ListenerConfig, Listeners, ServerAddress, Serving, TcpSocketOptions, WorkerPool,
};
use crate::protocols::Stream;
use crate::shutdown::watch::ShutdownWatch;
use crate::worker::Workers;

/// Chooses the options of a service's runtime, given the configured ones; none keeps those.
pub type RuntimeOptsOverride = Arc<dyn Fn(&RuntimeOpts) -> Option<RuntimeOpts> + Send + Sync>;

/// An application and the endpoints where it is served.
pub struct Service<A> {
    name: String,
    listeners: Listeners,
    app_logic: Option<A>,
    runtime_opts_override: Option<RuntimeOptsOverride>,
    counts: AcceptCounts,
    /// Worker threads; the configuration's number when unset.
    pub threads: Option<usize>,
}

impl<A> Service<A> {
    /// A service without endpoints yet.
    pub fn new(name: String, app_logic: A) -> Self {
        Self::with_listeners(name, Listeners::new(), app_logic)
    }

    /// A service with these endpoints.
    pub fn with_listeners(name: String, listeners: Listeners, app_logic: A) -> Self {
        Service {
            name,
            listeners,
            app_logic: Some(app_logic),
            runtime_opts_override: None,
            counts: AcceptCounts::default(),
            threads: None,
        }
    }

    /// The endpoints.
    pub fn endpoints(&mut self) -> &mut Listeners {
        &mut self.listeners
    }

    /// Adds a TCP endpoint.
    pub fn add_tcp(&mut self, addr: &str) {
        self.listeners.add_tcp(addr);
    }

    /// Adds a TCP endpoint with socket options.
    pub fn add_tcp_with_settings(&mut self, addr: &str, sock_opt: TcpSocketOptions) {
        self.listeners.add_tcp_with_settings(addr, sock_opt);
    }

    /// Adds a Unix socket, with permissions 0666 unless others are given.
    pub fn add_uds(&mut self, addr: &str, perm: Option<Permissions>) {
        self.listeners.add_uds(addr, perm);
    }

    /// Adds a TLS endpoint with the certificate and key in these PEM files.
    ///
    /// # Errors
    /// When the files cannot be used, or the build has no TLS backend.
    pub fn add_tls(&mut self, addr: &str, cert_path: &str, key_path: &str) -> Result<()> {
        self.listeners.add_tls(addr, cert_path, key_path)
    }

    /// Adds a TLS endpoint with socket options.
    pub fn add_tls_with_settings(
        &mut self,
        addr: &str,
        sock_opt: Option<TcpSocketOptions>,
        settings: TlsSettings,
    ) {
        self.listeners
            .add_tls_with_settings(addr, sock_opt, settings);
    }

    /// Adds an endpoint without TLS.
    pub fn add_address(&mut self, addr: ServerAddress) {
        self.listeners.add_address(addr);
    }

    /// Adds an endpoint.
    pub fn add_listener(&mut self, endpoint: ListenerConfig) {
        self.listeners.add_listener(endpoint);
    }

    /// Sets how connections come to the workers, at all endpoints that do not say it themselves; otherwise the
    /// server does.
    pub fn set_accept_strategy(&mut self, strategy: AcceptStrategy) {
        self.listeners.set_accept_strategy(strategy);
    }

    /// Returns what tells the addresses that the endpoints are bound to, once the service listens: with port 0, the
    /// port that the system chose.
    ///
    /// ```no_run
    /// # use pingora_core::{apps::ServerApp, server::Server, services::listening::Service};
    /// # fn start(mut server: Server, mut service: Service<impl ServerApp + Send + Sync + 'static>) {
    /// service.add_tcp("127.0.0.1:0");
    /// let mut bound = service.bound_addresses();
    /// server.add_service(service);
    /// std::thread::spawn(move || {
    ///     let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    ///     if let Some(addresses) = runtime.block_on(bound.wait()) {
    ///         println!("listening on {}", addresses[0]);
    ///     }
    ///     std::io::Result::Ok(())
    /// });
    /// server.run_forever();
    /// # }
    /// ```
    pub fn bound_addresses(&self) -> BoundAddresses {
        self.listeners.bound_addresses()
    }

    /// Returns a handle that adds endpoints to the service, and removes them, while it runs.
    ///
    /// While there is one, a service without endpoints runs on, and waits for the first.
    pub fn endpoint_handle(&self) -> EndpointHandle {
        self.listeners.endpoint_handle()
    }

    /// Sets how many connections of all endpoints together may be open at a time, beside the limit that an endpoint may
    /// have of its own; see [`ListenerConfig::max_connections`] for what becomes of one more.
    pub fn set_max_connections(&mut self, connections: usize) {
        self.listeners.set_max_connections(connections);
    }

    /// Returns what the acceptors of the service do, and how many connections its workers have.
    pub fn accept_counts(&self) -> AcceptCounts {
        self.counts.clone()
    }

    /// Sets which connections are served, at all endpoints.
    pub fn set_connection_filter(&mut self, filter: Arc<dyn ConnectionFilter>) {
        self.listeners.filter_connections(filter);
    }

    /// Sets what chooses the options of the service's runtime.
    pub fn set_runtime_opts_override(&mut self, override_fn: RuntimeOptsOverride) {
        self.runtime_opts_override = Some(override_fn);
    }

    /// The application, until the service has started.
    pub fn app_logic(&self) -> Option<&A> {
        self.app_logic.as_ref()
    }

    /// The application, until the service has started.
    pub fn app_logic_mut(&mut self) -> Option<&mut A> {
        self.app_logic.as_mut()
    }
}

impl<A: ServerApp + Send + Sync + 'static> Service<A> {
    /// Serves a connection for as long as the application gives it back.
    pub async fn handle_event(event: Stream, app_logic: Arc<A>, shutdown: ShutdownWatch) {
        let mut open = Some(event);
        while let Some(stream) = open {
            open = app_logic.process_new(stream, &shutdown).await;
        }
    }

    /// Runs the service until its endpoints have closed; connections go on.
    ///
    /// # Errors
    /// When an endpoint cannot be listened on, or connections cannot be accepted there. `ready` is left then: what waits
    /// for the service must not start before the failure is reported.
    async fn serve(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
        ready: &mut Option<ServiceReadyNotifier>,
    ) -> std::result::Result<(), Failure> {
        let Some(app) = self.app_logic.take() else {
            return Err(format!("the service {} was started before", self.name).into());
        };
        let app = Arc::new(app);
        let pool = WorkerPool::new(Workers::current());
        // Set once: the application is taken but once.
        let _ = self.counts.0.set(pool.clone());
        let make = {
            let (app, shutdown) = (app.clone(), shutdown.clone());
            move |entrance| connect(entrance, app.clone(), shutdown.clone())
        };
        let parts = self.listeners.start();
        let mut serving = Serving::begin(parts, fds, pool, listeners_per_fd, make).await?;
        ready.take();
        serving.until(shutdown).await;
        app.cleanup().await;
        serving.close_entrances();
        Ok(())
    }
}

/// Makes what serves the connections of an entrance.
fn connect<A: ServerApp + Send + Sync + 'static>(
    entrance: Arc<Entrance>,
    app: Arc<A>,
    watch: ShutdownWatch,
) -> impl Connect {
    move |accepted| {
        let (entrance, app, watch) = (entrance.clone(), app.clone(), watch.clone());
        async move {
            // What is not needed while the connection waits is boxed, or inlined here: this future is a
            // part of each idle connection.
            let mut place = None;
            let mut open: Option<Stream> = if entrance.is_plain() {
                entrance.register(accepted).map(|plain| plain as Stream)
            } else {
                Box::pin(entrance.pass_with(accepted, &mut place)).await
            };
            // So that the endpoint's own is not kept for as long as the connection.
            drop(entrance);
            while let Some(stream) = open {
                open = app.process_new(stream, &watch).await;
            }
            drop(place);
        }
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServiceTrait for Service<A> {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        let mut ready = None;
        let served = self.serve(fds, shutdown, listeners_per_fd, &mut ready);
        if let Err(failure) = served.await {
            failure.report();
        }
    }

    async fn start_with_notifier(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
        ready_notifier: ServiceReadyNotifier,
    ) {
        let mut ready = Some(ready_notifier);
        let served = self.serve(fds, shutdown, listeners_per_fd, &mut ready);
        if let Err(failure) = served.await {
            failure.report();
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn threads(&self) -> Option<usize> {
        self.threads
    }

    fn runtime_opts_override(&self, global: &RuntimeOpts) -> Option<RuntimeOpts> {
        self.runtime_opts_override.as_ref()?(global)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Some(self.listeners.addresses())
    }
}
