//! The proxy that flags and a file of settings describe.

mod app;
mod args;
mod limits;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use crate::access_log::AccessLog;
use crate::address::Address;
use crate::upstreams::names::Names;
use crate::upstreams::target::Target;
use crate::upstreams::Upstreams;
use crate::{program, HAS_TLS, WITHOUT_TLS};
use pingora_core::apps::HttpServerOptions;
use pingora_core::protocols::http::error_resp;
use pingora_core::server::configuration::Opt;
use pingora_core::server::{RunArgs, Server};
use pingora_core::services::background::GenBackgroundService;
use pingora_core::upstreams::peer::{HttpPeer, ALPN};
use pingora_core::upstreams::resolve::ResolverOptions;
use pingora_proxy::http_proxy_service;

use app::ReverseProxy;
pub use args::Flags;
use settings::Settings;

/// How long a connection of HTTP/2 without streams is kept: as long as an idle one of HTTP/1.1.
const IDLE: Duration = Duration::from_secs(60);

/// How peers are made of addresses.
#[derive(Clone)]
struct Peers {
    tls: bool,
    h2: bool,
    sni: Option<String>,
    settings: Arc<Settings>,
}

impl Peers {
    fn new(args: &Flags, settings: &Arc<Settings>) -> Self {
        Peers {
            tls: args.upstream_tls,
            h2: args.upstream_h2,
            sni: args.upstream_sni.clone(),
            settings: settings.clone(),
        }
    }

    /// The peer at an address of a target.
    fn make(&self, target: &Target, address: &Address) -> Result<HttpPeer, String> {
        let tls = target.tls().unwrap_or(self.tls);
        let name = match (tls, &self.sni) {
            (false, _) => None,
            (true, _) if !HAS_TLS => return Err(WITHOUT_TLS.to_owned()),
            (true, Some(name)) => Some(name.clone()),
            (true, None) => match target.host() {
                Some(host) => Some(host),
                None => return Err(format!("with TLS {target} needs --upstream-sni")),
            },
        };
        let mut peer = target.peer(address, name.as_deref())?;
        let (options, settings) = (&mut peer.options, &self.settings);
        options.alpn = match (self.h2, tls) {
            (false, _) => ALPN::H1,
            (true, true) => ALPN::H2H1,
            (true, false) => ALPN::H2,
        };
        options.connection_timeout = settings.connect_timeout;
        options.tls_handshake_timeout = settings.handshake_timeout;
        options.response_header_timeout = settings.response_timeout;
        options.read_timeout = settings.read_timeout;
        options.write_timeout = settings.write_timeout;
        Ok(peer)
    }

    /// The peers of all targets, with names looked up.
    fn of(&self, targets: &[Target]) -> Result<Vec<HttpPeer>, String> {
        let mut peers = Vec::new();
        for target in targets {
            for address in target.addresses()? {
                peers.push(self.make(target, &address)?);
            }
        }
        Ok(peers)
    }
}

fn http_options(args: &Flags) -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.h2c = args.h2c;
    options.h2_idle_timeout = Some(IDLE);
    options
}

fn opt(args: &Flags) -> Opt {
    Opt {
        daemon: args.daemon,
        upgrade: args.upgrade,
        ..Opt::default()
    }
}

/// Runs the proxy until a signal ends the process, or checks it for `--test`.
///
/// # Errors
///
/// Names the flag, or the file and the key.
pub fn run(args: &Flags) -> Result<(), String> {
    let (conf, settings) = settings::read(args)?;
    let settings = Arc::new(settings);
    let listen = program::addresses(&args.addresses()).map_err(|e| format!("--listen: {e}"))?;
    let of_upstream = |e| format!("--upstream: {e}");
    let targets = args.upstream.iter().map(|text| text.parse());
    let mut targets: Vec<Target> = targets.collect::<Result<_, _>>().map_err(of_upstream)?;
    let peers = Peers::new(args, &settings);
    let mut found = peers.of(&targets).map_err(of_upstream)?;
    let certificates = settings::certificates(args)?;
    let access_log = match &settings.access_log {
        None => None,
        Some(file) => match AccessLog::open(file) {
            Ok(log) => Some(Arc::new(log)),
            Err(e) => return Err(format!("--access-log: cannot write to {file}: {e}")),
        },
    };
    if args.test {
        if let Some(certificates) = &certificates {
            program::say(certificates.state());
        }
        program::say("the configuration is good");
        return Ok(());
    }
    if !args.upgrade {
        let free = listen.iter().try_for_each(Address::check_free);
        free.map_err(|e| format!("--listen: {e}"))?;
    }

    error_resp::name_server(Some("reverse-proxy"));
    let mut server = Server::new_with_opt_and_conf(opt(args), conf);
    server.bootstrap();
    if targets.is_empty() {
        targets.push(program::demo_origin(&mut server)?.into());
        found = peers.of(&targets)?;
    }
    let upstreams = Arc::new(Upstreams::new(found, settings.health));
    let app = ReverseProxy {
        upstreams: upstreams.clone(),
        scheme: if certificates.is_some() {
            "https"
        } else {
            "http"
        },
        forwarded: settings.forwarded,
        time_limit: settings.request_timeout,
        access_log: access_log.clone(),
    };
    let mut proxy = http_proxy_service(&server.configuration, app);
    if let Some(proxy) = proxy.app_logic_mut() {
        proxy.server_options = Some(http_options(args));
    }
    for address in &listen {
        let mut listener = address.listener();
        if let Some(certificates) = &certificates {
            let mut settings = certificates.settings().map_err(|e| e.to_string())?;
            settings.enable_h2();
            settings.set_offload_threadpool_from_server_conf(&server.configuration);
            listener = listener.tls(settings);
        }
        proxy.add_listener(listener);
    }
    let curl = listen.first().map(|address| match certificates {
        Some(_) => address.curl_line_tls("/"),
        None => address.curl_line("/"),
    });
    let listening = format!(
        "listening on {}, {} worker thread(s), upstream {}",
        list(&listen),
        server.configuration.threads,
        if args.upstream.is_empty() {
            "the demo origin".into()
        } else {
            list(&targets)
        },
    );
    program::add_log_writer(&mut server);
    program::add_announced(&mut server, proxy, &listening, curl);
    if targets.iter().any(|target| target.name().is_some()) {
        let make = Arc::new(move |target: &Target, address: &Address| peers.make(target, address));
        let names = Names::new(upstreams, &targets, make, ResolverOptions::default)?;
        server.add_service(GenBackgroundService::new("names".into(), Arc::new(names)));
    }
    if let Some(log) = &access_log {
        server.add_service(GenBackgroundService::new("access log".into(), log.clone()));
    }
    if let Some(certificates) = &certificates {
        let certificates = certificates.clone();
        server.add_service(GenBackgroundService::new(
            "certificates".into(),
            certificates,
        ));
    }
    server.run(RunArgs::default());
    if let Some(log) = access_log {
        log.end();
    }
    Ok(())
}

fn list<T: ToString>(addresses: &[T]) -> String {
    addresses
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        flags: Flags,
    }

    #[test]
    fn idle_connections_of_http2_end_as_those_of_http1() {
        let options = http_options(&Command::parse_from(["reverse-proxy", "--h2c"]).flags);
        assert_eq!(options.h2_idle_timeout, Some(Duration::from_secs(60)));
        assert!(options.h2c);
    }
}
