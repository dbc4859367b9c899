//! The flags.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use pingora_core::listeners::AcceptStrategy;

use super::limits::Limit;
use crate::process::Process;

/// The flags of the program.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// Where to listen: IP:PORT or unix:/PATH; may be given several times [default: 127.0.0.1:8080]
    #[arg(short, long, value_name = "ADDR")]
    pub(super) listen: Vec<String>,

    /// A server to pass requests to: HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:/PATH; may be given
    /// several times, requests then take turns. Names are looked up when the program starts, and again while it runs
    #[arg(long, value_name = "ADDR")]
    pub(super) upstream: Vec<String>,

    /// Where people and programs watch and steer the proxy: IP:PORT or unix:/PATH, of this machine alone [default: nowhere,
    /// and 127.0.0.1:9900 with the demo]
    #[arg(long, value_name = "ADDR")]
    pub(super) admin: Option<String>,

    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,

    /// The configuration (YAML); or a file of settings, over which flags win
    #[arg(short, long, value_name = "FILE", global = true)]
    pub conf: Option<PathBuf>,

    /// Let idle workers take over connections of busy ones; without it a connection stays with
    /// the worker that accepted it, which costs less
    #[arg(long)]
    pub(super) work_stealing: bool,

    /// How connections come to the workers: shared, exclusive, reuseport or mutex
    #[arg(long, value_name = "STRATEGY")]
    pub(super) accept: Option<AcceptStrategy>,

    /// Write a line for each request to this file, or to standard output for -
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub(super) access_log: Option<String>,

    /// What becomes of the X-Forwarded fields, which tell upstreams who asks: those of clients are replaced, appended to
    /// (for a proxy that only other proxies can reach), or passed as they are [default: replace]
    #[arg(long, value_name = "HOW")]
    pub(super) forwarded: Option<Forwarded>,

    /// The certificate chain (PEM) to serve TLS with at every address, HTTP/2 and HTTP/1.1; it is
    /// read again when the file changes
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = TLS)]
    pub(super) tls_cert: Option<String>,

    /// The key (PEM) of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = TLS)]
    pub(super) tls_key: Option<String>,

    /// Speak HTTP/2 without TLS to clients that begin with it
    #[arg(long, help_heading = TLS)]
    pub(super) h2c: bool,

    /// Connect to upstreams with TLS, unless they are written with http://
    #[arg(long, requires = "upstream", help_heading = TLS)]
    pub(super) upstream_tls: bool,

    /// Speak HTTP/2 to upstreams: over TLS if they agree to it, without TLS in any case
    #[arg(long, requires = "upstream", help_heading = TLS)]
    pub(super) upstream_h2: bool,

    /// The certificates (PEM) to trust in upstreams, in place of the system's
    #[arg(long, value_name = "FILE", requires = "upstream", help_heading = TLS)]
    pub(super) upstream_ca: Option<String>,

    /// The name that upstreams prove to have [default: the host in their address]
    #[arg(long, value_name = "NAME", requires = "upstream", help_heading = TLS)]
    pub(super) upstream_sni: Option<String>,

    /// Failures after which an upstream is left alone for a while; 0 for never [default: 1]
    #[arg(long, value_name = "N", help_heading = FAILURES)]
    pub(super) max_fails: Option<u32>,

    /// How long it is left alone [default: 10s]
    #[arg(long, value_name = "TIME", help_heading = FAILURES)]
    pub(super) fail_timeout: Option<Limit>,

    /// The longest time to connect to an upstream [default: 5s]
    #[arg(long, value_name = "TIME", help_heading = FAILURES)]
    pub(super) connect_timeout: Option<Limit>,

    /// The longest time for a TLS handshake with one [default: 5s]
    #[arg(long, value_name = "TIME", help_heading = FAILURES)]
    pub(super) handshake_timeout: Option<Limit>,

    /// The longest time from the end of a request to the head of its answer [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = FAILURES)]
    pub(super) response_timeout: Option<Limit>,

    /// The longest time between two pieces of an answer, or of what comes through a WebSocket
    /// [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = FAILURES)]
    pub(super) read_timeout: Option<Limit>,

    /// The longest time for which an upstream may take nothing of a request [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = FAILURES)]
    pub(super) write_timeout: Option<Limit>,

    /// The longest time for a request as a whole, upgraded connections left out [default: off]
    #[arg(long, value_name = "TIME", help_heading = FAILURES)]
    pub(super) request_timeout: Option<Limit>,

    /// Run in the background
    #[arg(short, long)]
    pub(super) daemon: bool,

    /// Take over the listening sockets of the running process, which is then told to finish
    /// with SIGQUIT
    #[arg(short, long)]
    pub(super) upgrade: bool,

    /// Check flags and settings, then exit
    #[arg(short, long)]
    pub test: bool,

    /// With --test, refuse what a start would only warn of: names of servers that are not found, and certificates that have
    /// expired
    #[arg(long, requires = "test")]
    pub strict: bool,
}

const TLS: &str = "TLS and HTTP/2";
const FAILURES: &str =
    "Upstreams that fail or are slow (TIME is as in 5, 0.5, 500ms, 5s, 1m, 1h, or off)";

/// Treatment of the X-Forwarded fields, by which an upstream is told who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Forwarded {
    /// Those of a client, which may claim anything, are replaced.
    #[default]
    Replace,
    /// Those of a client are believed and added to: for a proxy that only other proxies can reach.
    Append,
    /// They pass as they are, and none is added.
    Pass,
}

/// Where it listens unless told.
const LISTEN: &str = "127.0.0.1:8080";

impl Flags {
    /// Returns the addresses to listen on.
    pub(super) fn addresses(&self) -> Vec<String> {
        match self.listen.is_empty() {
            true => vec![LISTEN.to_owned()],
            false => self.listen.clone(),
        }
    }

    /// Tells whether they name a server to pass requests to.
    pub fn has_upstreams(&self) -> bool {
        !self.upstream.is_empty()
    }

    /// Has them name files whole, for a process that may run in another folder later.
    pub(super) fn make_absolute(&mut self) {
        // What has no whole path, such as nothing, is told of when it is read.
        let whole = |file: &Path| std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        if let Some(conf) = &mut self.conf {
            *conf = whole(conf);
        }
        let files = [&mut self.tls_cert, &mut self.tls_key, &mut self.upstream_ca];
        for file in files.into_iter().flatten() {
            *file = whole(Path::new(file)).to_string_lossy().into_owned();
        }
    }

    /// Returns what they say of the process.
    pub fn process(&self) -> Process {
        Process {
            threads: self.threads,
            daemon: self.daemon,
            upgrade: self.upgrade,
        }
    }

    /// Returns a flag that says what a configuration says, and that has no place beside one.
    pub fn beside_a_configuration(&self) -> Option<&'static str> {
        let given = [
            ("--listen", !self.listen.is_empty()),
            ("--admin", self.admin.is_some()),
            ("--upstream", !self.upstream.is_empty()),
            ("--work-stealing", self.work_stealing),
            ("--accept", self.accept.is_some()),
            ("--access-log", self.access_log.is_some()),
            ("--forwarded", self.forwarded.is_some()),
            ("--tls-cert", self.tls_cert.is_some()),
            ("--h2c", self.h2c),
            ("--max-fails", self.max_fails.is_some()),
            ("--fail-timeout", self.fail_timeout.is_some()),
            ("--connect-timeout", self.connect_timeout.is_some()),
            ("--handshake-timeout", self.handshake_timeout.is_some()),
            ("--response-timeout", self.response_timeout.is_some()),
            ("--read-timeout", self.read_timeout.is_some()),
            ("--write-timeout", self.write_timeout.is_some()),
            ("--request-timeout", self.request_timeout.is_some()),
        ];
        let mut given = given.into_iter().filter(|(_, given)| *given);
        given.next().map(|(flag, _)| flag)
    }
}
