//! A reverse proxy for HTTP/1.1 and HTTP/2: the program to run, to measure, and to start from.

use async_trait::async_trait;
use clap::Parser;
use examples::address::Address;
use examples::allocator::Allocator;
use examples::certificates::Certificates;
use examples::{program, HAS_TLS, WITHOUT_TLS};
use pingora_core::apps::HttpServerOptions;
use pingora_core::listeners::AcceptStrategy;
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::server::Server;
use pingora_core::services::background::GenBackgroundService;
use pingora_core::upstreams::peer::{HttpPeer, ALPN};
use pingora_core::{Error, Result};
use pingora_proxy::{http_proxy_service, ProxyHttp, Session};
use std::cell::Cell;
use std::process::ExitCode;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// A reverse proxy: takes HTTP requests, passes them to upstream servers, and brings the answers
/// back.
///
/// Without --upstream it starts a small demo server of its own to pass requests to, so that
/// there is something to see at once.
#[derive(Parser)]
#[command(name = "reverse-proxy", version, after_help = SIGNALS)]
struct Args {
    /// Where to listen: IP:PORT or unix:/PATH; may be given several times
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: Vec<String>,

    /// A server to pass requests to: IP:PORT or unix:/PATH; may be given several times, requests
    /// then take turns
    #[arg(long, value_name = "ADDR")]
    upstream: Vec<String>,

    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,

    /// A file of server settings (YAML); flags win over it
    #[arg(short, long, value_name = "FILE")]
    conf: Option<String>,

    /// Let idle workers take over connections of busy ones; without it a connection stays with
    /// the worker that accepted it, which costs less
    #[arg(long)]
    work_stealing: bool,

    /// How connections come to the workers: shared, exclusive, reuseport or mutex
    #[arg(long, value_name = "STRATEGY")]
    accept: Option<AcceptStrategy>,

    /// The certificate chain (PEM) to serve TLS with at every address, HTTP/2 and HTTP/1.1; it is
    /// read again when the file changes
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = TLS)]
    tls_cert: Option<String>,

    /// The key (PEM) of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = TLS)]
    tls_key: Option<String>,

    /// Speak HTTP/2 without TLS to clients that begin with it
    #[arg(long, help_heading = TLS)]
    h2c: bool,

    /// Connect to upstreams with TLS
    #[arg(long, requires = "upstream", help_heading = TLS)]
    upstream_tls: bool,

    /// Speak HTTP/2 to upstreams: over TLS if they agree to it, without TLS in any case
    #[arg(long, requires = "upstream", help_heading = TLS)]
    upstream_h2: bool,

    /// The certificates (PEM) to trust in upstreams, in place of the system's
    #[arg(long, value_name = "FILE", requires = "upstream_tls", help_heading = TLS)]
    upstream_ca: Option<String>,

    /// The name that upstreams prove to have [default: their IP address]
    #[arg(long, value_name = "NAME", requires = "upstream_tls", help_heading = TLS)]
    upstream_sni: Option<String>,

    /// Run in the background
    #[arg(short, long)]
    daemon: bool,

    /// Take over the listening sockets of the running process, which is then told to finish
    /// with SIGQUIT
    #[arg(short, long)]
    upgrade: bool,

    /// Check flags and settings, then exit
    #[arg(short, long)]
    test: bool,
}

const TLS: &str = "TLS and HTTP/2";

const SIGNALS: &str = "\
Signals:
  SIGTERM  finish the requests under way, then exit
  SIGINT   exit at once
  SIGQUIT  hand the listening sockets to a process started with --upgrade, finish, exit

Errors of requests are written to stderr; RUST_LOG=debug shows more, RUST_LOG=off nothing.";

/// Settings that this program chooses better than the library's defaults, which must suit every
/// program. A settings file that names one of them is obeyed.
const POOLED_CONNECTIONS: usize = 1024;

impl Args {
    fn server_conf(&self) -> Result<ServerConf, String> {
        let text = match &self.conf {
            Some(file) => {
                std::fs::read_to_string(file).map_err(|e| format!("cannot read {file}: {e}"))?
            }
            None => String::new(),
        };
        let defaults = ServerConf {
            work_stealing: false,
            upstream_keepalive_pool_size: POOLED_CONNECTIONS,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            ..ServerConf::default()
        };
        let mut conf = ServerConf::from_yaml_with_defaults(&text, &defaults).map_err(|e| {
            match &self.conf {
                Some(file) => format!("{file}: {e}"),
                None => e.to_string(),
            }
        })?;
        conf.work_stealing |= self.work_stealing;
        if let Some(strategy) = self.accept {
            conf.accept_strategy = strategy;
        }
        match self.threads {
            Some(0) => return Err("--threads must be at least 1".into()),
            Some(threads) => conf.threads = threads,
            None => (),
        }
        if let Some(file) = &self.upstream_ca {
            std::fs::read(file).map_err(|e| format!("--upstream-ca: cannot read {file}: {e}"))?;
            conf.ca_file = Some(file.clone());
        }
        Ok(conf)
    }

    /// The certificate to serve with; none for clear text.
    fn certificates(&self) -> Result<Option<Arc<Certificates>>, String> {
        let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(None);
        };
        let certificates = Certificates::load(cert, key);
        certificates
            .map(Some)
            .map_err(|e| format!("--tls-cert and --tls-key: {e}"))
    }

    /// The peer at an address.
    fn peer(&self, address: &Address) -> Result<HttpPeer, String> {
        if self.upstream_tls && !HAS_TLS {
            return Err(format!("--upstream-tls: {WITHOUT_TLS}"));
        }
        let name = match (self.upstream_tls, &self.upstream_sni, address) {
            (false, ..) => None,
            (true, Some(name), _) => Some(name.clone()),
            (true, None, Address::Inet(addr)) => Some(addr.ip().to_string()),
            (true, None, Address::Unix(_)) => {
                return Err(format!("--upstream-tls: {address} needs --upstream-sni"))
            }
        };
        let mut peer = address.peer_named(name.as_deref())?;
        peer.options.alpn = match (self.upstream_h2, self.upstream_tls) {
            (false, _) => ALPN::H1,
            (true, true) => ALPN::H2H1,
            (true, false) => ALPN::H2,
        };
        Ok(peer)
    }

    fn http_options(&self) -> HttpServerOptions {
        let mut options = HttpServerOptions::default();
        options.h2c = self.h2c;
        options
    }

    fn opt(&self) -> Opt {
        Opt {
            daemon: self.daemon,
            upgrade: self.upgrade,
            ..Opt::default()
        }
    }
}

struct ReverseProxy {
    /// Made once: a request gets a copy of the box, which is quicker than a copy in a box.
    #[allow(clippy::vec_box)]
    upstreams: Vec<Box<HttpPeer>>,
}

impl ReverseProxy {
    fn to(upstreams: &[Address], args: &Args) -> Result<Self, String> {
        let upstreams = upstreams
            .iter()
            .map(|address| args.peer(address).map(Box::new))
            .collect::<Result<_, _>>()?;
        Ok(ReverseProxy { upstreams })
    }

    /// Each worker takes turns for itself: a counter that all of them share would be written by
    /// every core with every request.
    #[allow(clippy::borrowed_box)]
    fn next_upstream(&self) -> Option<&Box<HttpPeer>> {
        thread_local!(static TURN: Cell<usize> = const { Cell::new(0) });
        let turn = TURN.get();
        TURN.set(if turn + 1 < self.upstreams.len() {
            turn + 1
        } else {
            0
        });
        self.upstreams.get(turn).or(self.upstreams.first())
    }
}

#[async_trait]
impl ProxyHttp for ReverseProxy {
    /// Upstreams that could not be reached for this request.
    type CTX = usize;

    fn new_ctx(&self) -> usize {
        0
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut usize) -> Result<Box<HttpPeer>> {
        match self.next_upstream() {
            Some(peer) => Ok(peer.clone()),
            None => Error::e_explain(pingora_core::InternalError, "no upstream is configured"),
        }
    }

    /// Nothing was sent yet, so the next upstream may try, each of them once.
    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        unreachable: &mut usize,
        mut e: Box<Error>,
    ) -> Box<Error> {
        *unreachable += 1;
        e.set_retry(*unreachable < self.upstreams.len());
        e
    }
}

fn run(args: &Args) -> Result<(), String> {
    let conf = args.server_conf()?;
    let listen = program::addresses(&args.listen)?;
    let mut upstreams = program::addresses(&args.upstream)?;
    let mut app = ReverseProxy::to(&upstreams, args)?;
    let certificates = args.certificates()?;
    if args.test {
        program::say("the configuration is good");
        return Ok(());
    }
    if !args.upgrade {
        listen.iter().try_for_each(Address::check_free)?;
    }

    let mut server = Server::new_with_opt_and_conf(args.opt(), conf);
    server.bootstrap();
    if upstreams.is_empty() {
        upstreams.push(program::demo_origin(&mut server)?);
        let upstreams = upstreams
            .iter()
            .map(|address| address.peer().map(Box::new))
            .collect::<Result<_, _>>()?;
        app = ReverseProxy { upstreams };
    }
    let mut proxy = http_proxy_service(&server.configuration, app);
    if let Some(proxy) = proxy.app_logic_mut() {
        proxy.server_options = Some(args.http_options());
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
    server.add_service(proxy);
    if let Some(certificates) = &certificates {
        server.add_service(GenBackgroundService::new(
            "certificates".into(),
            certificates.clone(),
        ));
    }

    program::say(format_args!(
        "listening on {}, {} worker thread(s), upstream {}",
        list(&listen),
        server.configuration.threads,
        if args.upstream.is_empty() {
            "the demo origin".into()
        } else {
            list(&upstreams)
        },
    ));
    if let Some(address) = listen.first() {
        let curl = match certificates {
            Some(_) => address.curl_line_tls("/"),
            None => address.curl_line("/"),
        };
        program::say(format_args!("try: {curl}"));
    }
    server.run_forever()
}

fn list(addresses: &[Address]) -> String {
    addresses
        .iter()
        .map(Address::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Has memory come in pages of the ordinary size. With large ones, buffers of idle connections take up all the
/// memory that is set aside for them, and not only what they use.
fn small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(e) = nix::sys::prctl::set_thp_disable(true) {
        log::debug!("transparent huge pages stay as they are: {e}");
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    program::log_to_stderr();
    small_pages();
    program::exit("reverse-proxy", run(&args))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn conf(flags: &[&str], file: &str) -> Result<ServerConf, String> {
        let mut conf = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
        conf.write_all(file.as_bytes()).map_err(|e| e.to_string())?;
        let path = conf.path().to_string_lossy().into_owned();
        let args = [&["reverse-proxy", "--conf", &path], flags].concat();
        Args::try_parse_from(args)
            .map_err(|e| e.to_string())?
            .server_conf()
    }

    #[test]
    fn what_a_file_does_not_say_is_chosen_by_the_program() {
        let conf = conf(&[], "version: 1\n").expect("good settings");
        assert!(!conf.work_stealing);
        assert_eq!(conf.upstream_keepalive_pool_size, POOLED_CONNECTIONS);
        assert!(conf.threads >= 1);
    }

    #[test]
    fn a_file_wins_over_the_program_and_flags_win_over_the_file() {
        let file = "threads: 3\nwork_stealing: true\nupstream_keepalive_pool_size: 7\n";
        let of_file = conf(&[], file).expect("good settings");
        assert_eq!(of_file.threads, 3);
        assert!(of_file.work_stealing);
        assert_eq!(of_file.upstream_keepalive_pool_size, 7);
        assert_eq!(
            conf(&["--threads", "5"], file)
                .expect("good settings")
                .threads,
            5
        );
        let accept = conf(&["--accept", "mutex"], "accept_strategy: reuseport\n");
        assert_eq!(
            accept.expect("good settings").accept_strategy,
            AcceptStrategy::Mutex
        );
        assert!(conf(&["--accept", "best"], "").is_err_and(|e| e.contains("reuseport")));
        let stealing = conf(&["--work-stealing"], "work_stealing: false\n");
        assert!(stealing.expect("good settings").work_stealing);
    }

    #[test]
    fn turns_are_taken_in_order_and_begin_anew() {
        let args = Args::parse_from(["reverse-proxy"]);
        let upstreams = program::addresses(&["127.0.0.1:1".into(), "127.0.0.1:2".into()]);
        let app = ReverseProxy::to(&upstreams.expect("addresses"), &args).expect("peers");
        let port = || app.next_upstream().map(|peer| peer._address.to_string());
        let turns: Vec<_> = (0..4).filter_map(|_| port()).collect();
        assert_eq!(
            turns,
            ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:1", "127.0.0.1:2"]
        );
    }
}
