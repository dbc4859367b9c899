//! A proxy as a service of a server.

use std::sync::Arc;

use pingora_core::apps::HttpServerOptions;
use pingora_core::connectors::http::custom;
use pingora_core::connectors::http::Connector;
use pingora_core::connectors::ConnectorOptions;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::RuntimeOpts;
use pingora_core::services::listening::{RuntimeOptsOverride, Service};

use crate::{http_proxy, HttpProxy, ProcessCustomSession, ProxyHttp};

const DEFAULT_NAME: &str = "Pingora HTTP Proxy Service";

/// A service that proxies as `inner` says. It listens nowhere yet.
pub fn http_proxy_service<SV>(conf: &Arc<ServerConf>, inner: SV) -> Service<HttpProxy<SV, ()>>
where
    SV: ProxyHttp,
{
    http_proxy_service_with_name(conf, inner, DEFAULT_NAME)
}

/// [`http_proxy_service`] with a name for its threads and its logs.
pub fn http_proxy_service_with_name<SV>(
    conf: &Arc<ServerConf>,
    inner: SV,
    name: &str,
) -> Service<HttpProxy<SV, ()>>
where
    SV: ProxyHttp,
{
    Service::new(name.to_string(), http_proxy(conf, inner))
}

/// [`http_proxy_service_with_name`] that also speaks a protocol of the user's own: `connector` to
/// upstreams, `on_custom` to clients.
pub fn http_proxy_service_with_name_custom<SV, C>(
    conf: &Arc<ServerConf>,
    inner: SV,
    name: &str,
    connector: C,
    on_custom: ProcessCustomSession<SV, C>,
) -> Service<HttpProxy<SV, C>>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync + 'static,
    C: custom::Connector,
{
    ProxyServiceBuilder::new(conf, inner)
        .name(name)
        .custom(connector, on_custom)
        .build()
}

/// Builds a proxy service with more options.
pub struct ProxyServiceBuilder<SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync + 'static,
    C: custom::Connector,
{
    conf: Arc<ServerConf>,
    inner: SV,
    name: String,
    connector: C,
    on_custom: Option<ProcessCustomSession<SV, C>>,
    client_options: Option<ConnectorOptions>,
    server_options: Option<HttpServerOptions>,
    runtime_opts: Option<RuntimeOptsOverride>,
}

impl<SV> ProxyServiceBuilder<SV, ()>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync + 'static,
{
    /// A service by a server's configuration.
    pub fn new(conf: &Arc<ServerConf>, inner: SV) -> Self {
        ProxyServiceBuilder {
            conf: conf.clone(),
            inner,
            name: DEFAULT_NAME.to_string(),
            connector: (),
            on_custom: None,
            client_options: None,
            server_options: None,
            runtime_opts: None,
        }
    }
}

impl<SV, C> ProxyServiceBuilder<SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync + 'static,
    C: custom::Connector,
{
    /// The name of the service.
    pub fn name(mut self, name: impl AsRef<str>) -> Self {
        self.name = name.as_ref().to_string();
        self
    }

    /// Also speaks a protocol of the user's own.
    pub fn custom<C2: custom::Connector>(
        self,
        connector: C2,
        on_custom: ProcessCustomSession<SV, C2>,
    ) -> ProxyServiceBuilder<SV, C2> {
        ProxyServiceBuilder {
            conf: self.conf,
            inner: self.inner,
            name: self.name,
            connector,
            on_custom: Some(on_custom),
            client_options: self.client_options,
            server_options: self.server_options,
            runtime_opts: self.runtime_opts,
        }
    }

    /// Sets the options for connecting to upstreams, in place of those of the configuration.
    pub fn client_options(mut self, options: ConnectorOptions) -> Self {
        self.client_options = Some(options);
        self
    }

    /// Options of the server.
    pub fn server_options(mut self, options: HttpServerOptions) -> Self {
        self.server_options = Some(options);
        self
    }

    /// The options of the service's runtimes, made from the server's; `None` keeps those.
    pub fn runtime_opts_override<F>(mut self, override_fn: F) -> Self
    where
        F: Fn(&RuntimeOpts) -> Option<RuntimeOpts> + Send + Sync + 'static,
    {
        self.runtime_opts = Some(Arc::new(override_fn));
        self
    }

    /// The service. It listens nowhere yet.
    pub fn build(self) -> Service<HttpProxy<SV, C>> {
        let options = self
            .client_options
            .unwrap_or_else(|| ConnectorOptions::from_server_conf(&self.conf));
        let connector = Connector::new_custom(Some(options), self.connector);
        let mut proxy =
            HttpProxy::with_connector(self.inner, &self.conf, connector, self.on_custom);
        proxy.server_options = self.server_options;
        proxy.handle_init_modules();
        let mut service = Service::new(self.name, proxy);
        if let Some(runtime_opts) = self.runtime_opts {
            service.set_runtime_opts_override(runtime_opts);
        }
        service
    }
}
