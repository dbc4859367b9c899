//! The server that a configuration makes.

use std::sync::Arc;
use std::time::Duration;

use crate::address::ListenAddress;
use crate::program;
use pingora_core::apps::HttpServerOptions;
use pingora_core::protocols::http::error_resp;
use pingora_core::server::RunArgs;
use pingora_core::services::background::background_service;
use pingora_proxy::http_proxy_service;

use crate::admin::{Admin, AdminService};
use crate::app::Edge;
use crate::config::values::Address;
use crate::lifecycle::{self, Lifecycle};
use crate::listen::{bind, Addresses, Opener};
use crate::live::{Live, Loaded, Reloader, Reloading, Reopening, Source};
use crate::observe;
use crate::origin::DemoOrigin;
use crate::plan::Listener;
use crate::process::Process;
use crate::tls;

/// The time for which an HTTP/2 connection without streams is kept: as long as an idle one of HTTP/1.1.
const IDLE: Duration = Duration::from_secs(60);

/// The parts of a service beside the configuration itself.
pub struct Serving {
    /// The source that the configuration is read from, and reloaded from.
    pub source: Arc<dyn Source>,
    /// An origin inside the process, for a configuration that has no other.
    pub demo: Option<DemoOrigin>,
    /// More to say of it when it listens; it begins with a comma.
    pub note: String,
}

/// Serves a configuration until a signal ends the process.
///
/// # Errors
///
/// A setting that cannot be used, or an address that cannot be listened on.
pub fn run(process: &Process, loaded: Loaded, serving: Serving) -> Result<(), String> {
    let Serving { source, demo, note } = serving;
    error_resp::name_server(Some("reverse-proxy"));
    lifecycle::waiting();
    let mut server = process.server(&loaded.running.plan.server)?;
    let lifecycle = Lifecycle::new(&server.configuration.upgrade_sock, source.identity());
    let live = Arc::new(Live::new(loaded.running));
    let listeners = live.current().plan.listeners.clone();
    let edge = Edge::new(live.clone());
    let mut proxy = http_proxy_service(&server.configuration, edge);
    if let Some(proxy) = proxy.app_logic_mut() {
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(IDLE);
        proxy.server_options = Some(options);
    }
    observe::add_accepts(proxy.accept_counts());
    let opener = Opener::new(live.clone(), server.configuration.clone());
    let binds: Vec<_> = listeners.iter().map(|of| bind(&of.address)).collect();
    let inherited = lifecycle.prepare(&mut server, &binds);
    for listener in &listeners {
        if !process.upgrade && !inherited.contains(&bind(&listener.address)) {
            let free = check_free(&listener.address);
            free.map_err(|e| source.told(format!("`listen`: {e}")))?;
        }
        proxy.add_listener(opener.config(listener)?);
    }
    let addresses = Addresses::new(opener, proxy.endpoint_handle());
    let shown: Vec<_> = listeners
        .iter()
        .map(|listener| listener.address.to_string())
        .collect();
    let threads = server.configuration.threads;
    let mut listening = format!(
        "listening on {}, {threads} worker thread(s){note}",
        shown.join(", ")
    );
    let log = program::add_log_writer(&mut server);
    if let Some(demo) = demo {
        server.add_service(background_service("demo origin", demo));
    }
    let mut reloader = Reloader::new(live.clone(), addresses, source.clone(), loaded.watched);
    reloader.notify(lifecycle.notifier());
    let reloader = Arc::new(reloader);
    let mut admin_service = None;
    if let Some(admin) = &live.current().plan.admin {
        if !process.upgrade {
            let free = check_free(&admin.address);
            free.map_err(|e| source.told(format!("`admin`: {e}")))?;
        }
        listening.push_str(&match &admin.address {
            Address::Unix(_) => format!("\nadmin interface: {}", admin.address),
            address => format!("\ndashboard: http://{address}/"),
        });
        let interface = Admin::new(live.clone(), reloader.clone(), proxy.accept_counts());
        let service = AdminService::new(interface, &admin.address, lifecycle.taken_over());
        let admin = server.add_service(service);
        admin.add_dependency(&log);
        admin_service = Some(admin);
    }
    let reloading = server.add_service(background_service("configuration", Reloading(reloader)));
    reloading.add_dependency(&log);
    server.add_service(background_service("access log", Reopening(live.clone())));
    server.add_service(background_service(
        "certificates",
        tls::Ordering(live.clone()),
    ));
    let proxy = program::add_announced(&mut server, proxy, &listening, hint(&listeners));
    // Not before the names of servers were looked up, and the log has a thread of its own.
    proxy.add_dependency(&reloading);
    let lifecycle = server.add_service(background_service("lifecycle", lifecycle));
    lifecycle.add_dependency(&proxy);
    // One that cannot listen ends the process: until it does, the old one of an upgrade serves on.
    if let Some(admin) = &admin_service {
        lifecycle.add_dependency(admin);
    }
    server.run(RunArgs::default());
    live.end_log();
    Ok(())
}

/// Returns what to type to see an answer.
fn hint(listeners: &[Listener]) -> Option<String> {
    let first = listeners.first()?;
    let place = place(&first.address).ok()?;
    Some(if first.tls {
        place.curl_line_tls("/")
    } else {
        place.curl_line("/")
    })
}

/// Finds out whether an address can be listened on, so that it is refused in one clear line.
fn check_free(address: &Address) -> Result<(), String> {
    let place = place(address)?;
    place.check_free().map_err(|e| e.to_string())
}

fn place(address: &Address) -> Result<ListenAddress, String> {
    match address {
        Address::Ip(address) => Ok(ListenAddress::Inet(*address)),
        Address::Unix(path) => Ok(ListenAddress::Unix(path.clone())),
        // A plan has none.
        Address::Name(..) => Err(format!("{address} is a name")),
    }
}
