//! The proxy as an application that serves HTTP.

use std::sync::atomic::AtomicU64;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use h2::server::Builder as H2Options;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora_core::connectors::http::custom;
use pingora_core::connectors::http::Connector;
use pingora_core::connectors::ConnectorOptions;
use pingora_core::exchange::{shutting_down, Registry, ServerHooks};
use pingora_core::limits::LIMITS;
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::http::{RefusedRequest, ServerSession};
use pingora_core::protocols::Stream;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::ShutdownWatch;

use crate::flow::{Drain, ShutdownFlag};
use crate::ProxyHttp;

/// Serves a connection of a protocol of the user's own, and may return it to be served again.
pub type ProcessCustomSession<SV, C> = Arc<
    dyn Fn(Arc<HttpProxy<SV, C>>, Stream, &ShutdownWatch) -> BoxFuture<'static, Option<Stream>>
        + Send
        + Sync
        + Unpin
        + 'static,
>;

/// A reverse proxy that does what its [`ProxyHttp`] says.
///
/// It is shared by all workers, and nothing of it is written while requests are served.
pub struct HttpProxy<SV, C = ()>
where
    C: custom::Connector,
{
    pub(crate) inner: SV,
    pub(crate) connector: Connector<C>,
    /// True if the shutdown has begun: looked at before and after the head of a request is read.
    pub(crate) shutdown_flag: ShutdownFlag,
    /// Who waits for a request meanwhile, and is woken then.
    pub(crate) registry: Arc<Registry>,
    pub(crate) drain: Drain,
    pub(crate) max_retries: usize,
    process_custom_session: Option<ProcessCustomSession<SV, C>>,
    /// Options of the server.
    pub server_options: Option<HttpServerOptions>,
    /// The settings of HTTP/2 connections.
    pub h2_options: Option<H2Options>,
    /// The modules between the proxy and the client.
    pub downstream_modules: HttpModules,
    /// The modules between the proxy and the upstream.
    #[cfg(feature = "upstream_modules")]
    pub upstream_modules: HttpModules,
}

impl<SV> HttpProxy<SV, ()> {
    /// A proxy by a server's configuration. [`HttpProxy::handle_init_modules`] completes it.
    pub fn new(inner: SV, conf: Arc<ServerConf>) -> Self {
        let options = ConnectorOptions::from_server_conf(&conf);
        HttpProxy::with_connector(inner, &conf, Connector::new(Some(options)), None)
    }
}

impl<SV, C> HttpProxy<SV, C>
where
    C: custom::Connector,
{
    pub(crate) fn with_connector(
        inner: SV,
        conf: &ServerConf,
        connector: Connector<C>,
        process_custom_session: Option<ProcessCustomSession<SV, C>>,
    ) -> Self {
        HttpProxy {
            inner,
            connector,
            shutdown_flag: ShutdownFlag::new(),
            registry: Registry::new(LIMITS.waiting_lists),
            drain: Drain {
                policy: conf.shutdown_policy,
                read_timeout: Duration::from_secs(conf.shutdown_read_timeout_seconds),
                keep_idle: conf.shutdown_drain_seconds.map(Duration::from_secs),
            },
            max_retries: conf.max_retries,
            process_custom_session,
            server_options: None,
            h2_options: None,
            downstream_modules: HttpModules::new(),
            #[cfg(feature = "upstream_modules")]
            upstream_modules: HttpModules::new(),
        }
    }

    /// Asks the application for its modules. Whoever makes a proxy by [`HttpProxy::new`] calls it once.
    pub fn handle_init_modules(&mut self)
    where
        SV: ProxyHttp,
    {
        self.inner
            .init_downstream_modules(&mut self.downstream_modules);
        #[cfg(feature = "upstream_modules")]
        self.inner.init_upstream_modules(&mut self.upstream_modules);
    }

    /// Returns the number of idle upstream connections that were dropped because they received data that nobody asked
    /// for.
    pub fn unexpected_data_connection_count(&self) -> u64 {
        self.connector.unexpected_data_connection_count()
    }

    /// The counter behind [`HttpProxy::unexpected_data_connection_count`], to be read later.
    pub fn unexpected_data_connection_counter(&self) -> Arc<AtomicU64> {
        self.connector.unexpected_data_connection_counter()
    }
}

#[async_trait]
impl<SV, C> HttpServerApp for HttpProxy<SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    <SV as ProxyHttp>::CTX: Send + Sync,
    C: custom::Connector,
{
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let session = self.handle_new_request(session).await?;
        let ends = shutting_down(shutdown, !session.is_reused());
        // Boxed for its own: while a connection waits for a request, this is all it does not hold.
        Box::pin(self.serve(session, ends)).await
    }

    fn request_refused(&self, refused: &mut RefusedRequest<'_>) {
        self.inner.request_refused(refused);
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.h2_options.clone()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.server_options.as_ref()
    }

    fn shutdown_registry(&self) -> Option<&Arc<Registry>> {
        Some(&self.registry)
    }

    fn shutdown_read_timeout(&self) -> Duration {
        self.drain.read_timeout
    }

    async fn http_cleanup(&self) {
        self.shutdown_flag.set();
        self.notify_waiters();
        self.close_idle();
    }

    async fn process_custom_session(
        self: Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let process = self.process_custom_session.clone()?;
        process(self, stream, shutdown).await
    }
}

/// A proxy without a service around it, for those who run [`HttpServerApp`] on their own.
pub fn http_proxy<SV>(conf: &Arc<ServerConf>, inner: SV) -> HttpProxy<SV>
where
    SV: ProxyHttp,
{
    let mut proxy = HttpProxy::new(inner, conf.clone());
    proxy.handle_init_modules();
    proxy
}
