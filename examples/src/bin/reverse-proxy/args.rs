//! The command line.

use clap::Parser;
use examples::forwarded::Forwarded;
use pingora_core::listeners::AcceptStrategy;

use crate::limits::Limit;

/// A reverse proxy: takes HTTP requests, passes them to upstream servers, and brings the answers
/// back.
///
/// Without --upstream it starts a small demo server of its own to pass requests to, so that
/// there is something to see at once.
#[derive(Parser)]
#[command(name = "reverse-proxy", version, after_help = SIGNALS)]
pub(crate) struct Args {
    /// Where to listen: IP:PORT or unix:/PATH; may be given several times
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: Vec<String>,

    /// A server to pass requests to: HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:/PATH; may be given
    /// several times, requests then take turns. Names are looked up when the program starts, and again every 30 s
    #[arg(long, value_name = "ADDR")]
    pub(crate) upstream: Vec<String>,

    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,

    /// A file of settings (YAML); flags win over it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) conf: Option<String>,

    /// Let idle workers take over connections of busy ones; without it a connection stays with
    /// the worker that accepted it, which costs less
    #[arg(long)]
    pub(crate) work_stealing: bool,

    /// How connections come to the workers: shared, exclusive, reuseport or mutex
    #[arg(long, value_name = "STRATEGY")]
    pub(crate) accept: Option<AcceptStrategy>,

    /// Write a line for each request to this file, or to standard output for -
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub(crate) access_log: Option<String>,

    /// What becomes of the X-Forwarded fields, which tell upstreams who asks: those of clients are replaced, appended to
    /// (for a proxy that only other proxies can reach), or passed as they are [default: replace]
    #[arg(long, value_name = "HOW")]
    pub(crate) forwarded: Option<Forwarded>,

    /// The certificate chain (PEM) to serve TLS with at every address, HTTP/2 and HTTP/1.1; it is
    /// read again when the file changes
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = TLS)]
    pub(crate) tls_cert: Option<String>,

    /// The key (PEM) of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = TLS)]
    pub(crate) tls_key: Option<String>,

    /// Speak HTTP/2 without TLS to clients that begin with it
    #[arg(long, help_heading = TLS)]
    pub(crate) h2c: bool,

    /// Connect to upstreams with TLS, unless they are written with http://
    #[arg(long, requires = "upstream", help_heading = TLS)]
    pub(crate) upstream_tls: bool,

    /// Speak HTTP/2 to upstreams: over TLS if they agree to it, without TLS in any case
    #[arg(long, requires = "upstream", help_heading = TLS)]
    pub(crate) upstream_h2: bool,

    /// The certificates (PEM) to trust in upstreams, in place of the system's
    #[arg(long, value_name = "FILE", requires = "upstream", help_heading = TLS)]
    pub(crate) upstream_ca: Option<String>,

    /// The name that upstreams prove to have [default: the host in their address]
    #[arg(long, value_name = "NAME", requires = "upstream", help_heading = TLS)]
    pub(crate) upstream_sni: Option<String>,

    /// Failures after which an upstream is left alone for a while; 0 for never [default: 1]
    #[arg(long, value_name = "N", help_heading = FAILURES)]
    pub(crate) max_fails: Option<u32>,

    /// How long it is left alone [default: 10s]
    #[arg(long, value_name = "TIME", help_heading = FAILURES)]
    pub(crate) fail_timeout: Option<Limit>,

    /// The longest time to connect to an upstream [default: 5s]
    #[arg(long, value_name = "TIME", help_heading = FAILURES)]
    pub(crate) connect_timeout: Option<Limit>,

    /// The longest time for a TLS handshake with one [default: 5s]
    #[arg(long, value_name = "TIME", help_heading = FAILURES)]
    pub(crate) handshake_timeout: Option<Limit>,

    /// The longest time from the end of a request to the head of its answer [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = FAILURES)]
    pub(crate) response_timeout: Option<Limit>,

    /// The longest time between two pieces of an answer, or of what comes through a WebSocket
    /// [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = FAILURES)]
    pub(crate) read_timeout: Option<Limit>,

    /// The longest time for which an upstream may take nothing of a request [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = FAILURES)]
    pub(crate) write_timeout: Option<Limit>,

    /// The longest time for a request as a whole, upgraded connections left out [default: off]
    #[arg(long, value_name = "TIME", help_heading = FAILURES)]
    pub(crate) request_timeout: Option<Limit>,

    /// Run in the background
    #[arg(short, long)]
    pub(crate) daemon: bool,

    /// Take over the listening sockets of the running process, which is then told to finish
    /// with SIGQUIT
    #[arg(short, long)]
    pub(crate) upgrade: bool,

    /// Check flags and settings, then exit
    #[arg(short, long)]
    pub(crate) test: bool,
}

const TLS: &str = "TLS and HTTP/2";
const FAILURES: &str =
    "Upstreams that fail or are slow (TIME is as in 5, 0.5, 500ms, 5s, 1m, 1h, or off)";

const SIGNALS: &str = "\
Signals:
  SIGTERM  finish the requests under way, then exit
  SIGINT   exit at once
  SIGQUIT  hand the listening sockets to a process started with --upgrade, finish, exit

Errors and warnings are written to stderr; RUST_LOG=debug shows more, RUST_LOG=off nothing.";
