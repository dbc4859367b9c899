//! The configuration of a server: the settings file and the command line.
//!
//! A settings file is YAML, one key for each field of [`ServerConf`]. Keys that are not known here
//! belong to the program that uses the crate and pass unread.

mod keys;
#[cfg(test)]
mod tests;
mod yaml;

use std::ffi::OsString;
use std::fmt::Display;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use pingora_error::{Error, ErrorType::ReadError, OrErr, Result};
use serde::{Deserialize, Serialize, Serializer};

pub use pingora_runtime::RuntimeMetricsPollTimeHistogramScale;
use pingora_runtime::{RuntimeMetricsOpts, RuntimeOpts};

use crate::limits::LIMITS;
use crate::listeners::{accepting, AcceptStrategy};

/// The most threads that a service may have; tokio tells no more apart.
pub(crate) const MAX_THREADS: usize = u16::MAX as usize;

/// The treatment of requests that reach the server while it shuts down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShutdownPolicy {
    /// A request of which a byte has arrived is served, the last one on its connection.
    #[default]
    Finish,
    /// Connections are dropped where they would begin a request; requests under way finish. A connection that
    /// waits for a request closes when the shutdown read timeout is over.
    Strict,
}

/// The settings of a server process.
///
/// Missing keys of a settings file take the values of [`ServerConf::default`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerConf {
    /// Version of the settings format: 1.
    pub version: usize,
    /// True if to leave the terminal and run in the background.
    pub daemon: bool,
    /// The file to which a daemon's standard error is appended; none discards it.
    pub error_log: Option<String>,
    /// The file that holds a daemon's process id.
    pub pid_file: String,
    /// The Unix socket over which an old process hands its listening sockets to a new one.
    pub upgrade_sock: String,
    /// The user, by name or number, that a daemon runs as.
    pub user: Option<String>,
    /// The group, by name or number, that a daemon runs as; the user's own when unset.
    pub group: Option<String>,
    /// The directory that a daemon runs in: `/` when unset.
    #[serde(serialize_with = "lossy_path")]
    pub working_directory: Option<PathBuf>,
    /// Worker threads of each service that does not set its own number, 65,535 at most; 0 acts as 1.
    pub threads: usize,
    /// Tasks that accept connections on one listening socket, where the workers share it (`shared`); 0 acts as 1.
    pub listener_tasks_per_fd: usize,
    /// True if idle workers of a service take over tasks from busy ones. Without it every
    /// connection stays on one worker, and workers share nothing.
    pub work_stealing: bool,
    /// Tokio's alternative timer; needs `--cfg tokio_unstable` and work stealing.
    pub runtime_enable_alt_timer: bool,
    /// A file of CA certificates to trust in place of the system's.
    pub ca_file: Option<String>,
    /// Seconds that a graceful stop may last before it is cut off: 300 when unset. It ends sooner
    /// when nothing is left to do.
    pub grace_period_seconds: Option<u64>,
    /// Seconds that runtimes get to end after the grace period: 5 when unset.
    pub graceful_shutdown_timeout_seconds: Option<u64>,
    /// IPv4 addresses to connect to upstreams from.
    pub client_bind_to_ipv4: Vec<String>,
    /// IPv6 addresses to connect to upstreams from.
    pub client_bind_to_ipv6: Vec<String>,
    /// Idle upstream connections to keep, for each thread.
    pub upstream_keepalive_pool_size: usize,
    /// Thread pools that make upstream connections apart from the workers.
    pub upstream_connect_offload_threadpools: Option<usize>,
    /// Threads of each of those pools.
    pub upstream_connect_offload_thread_per_pool: Option<usize>,
    /// Thread pools that do downstream TLS handshakes apart from the workers.
    pub downstream_tls_offload_threadpools: Option<usize>,
    /// Threads of each of those pools.
    pub downstream_tls_offload_thread_per_pool: Option<usize>,
    /// True if TLS keys of upstream connections are written to the file that the environment
    /// variable `SSLKEYLOGFILE` names.
    pub upstream_debug_ssl_keylog: bool,
    /// The number of times that a request may be sent to an upstream, the first included.
    pub max_retries: usize,
    /// The number of times, 1 s apart, that each side of an upgrade tries to reach the other: 5 when unset.
    pub upgrade_sock_connect_accept_max_retries: Option<usize>,
    /// Threads for blocking work, at most, in each runtime: 512 when unset.
    pub max_blocking_threads: Option<usize>,
    /// Seconds after which an idle thread for blocking work ends: 10 when unset.
    pub blocking_threads_ttl_seconds: Option<u64>,
    /// Timeouts longer than so many seconds use tokio's timer; none never does.
    pub fast_timeout_to_tokio_threshold_seconds: Option<u64>,
    /// True if runtimes measure how long polls take; needs `--cfg tokio_unstable`.
    pub runtime_metrics_poll_time_histogram: bool,
    /// The scale of that histogram's buckets.
    pub runtime_metrics_poll_time_histogram_scale: Option<RuntimeMetricsPollTimeHistogramScale>,
    /// The width of its first bucket in microseconds.
    pub runtime_metrics_poll_time_histogram_resolution_micros: Option<u64>,
    /// The number of its buckets, 1 to 1,024.
    pub runtime_metrics_poll_time_histogram_buckets: Option<usize>,
    /// True if the command that starts a daemon returns only when all its services listen.
    pub daemon_wait_for_ready: bool,
    /// Seconds that this command waits at most: 600 when unset.
    pub daemon_ready_timeout_seconds: Option<NonZeroU64>,
    /// Seconds after which the daemon itself reports that its services are not ready: 60 when
    /// unset.
    pub daemon_notify_timeout_seconds: Option<NonZeroU64>,
    /// The treatment of requests that arrive while the server shuts down.
    pub shutdown_policy: ShutdownPolicy,
    /// Seconds that a client gets, once a shutdown began, to complete a request head, or a TLS
    /// handshake, of which a part had arrived; under the policy `strict` an idle connection is kept for as long.
    pub shutdown_read_timeout_seconds: u64,
    /// Seconds that idle connections stay open, for one more request each, after a shutdown
    /// began: when unset 0 for a stop and 5 for a graceful upgrade.
    pub shutdown_drain_seconds: Option<u64>,
    /// The way connections come to the workers, at endpoints that choose no strategy of their own.
    pub accept_strategy: AcceptStrategy,
    /// Milliseconds after which a worker tries for the accept mutex again, where workers accept by turns
    /// (`mutex`).
    pub accept_mutex_delay_ms: u64,
    /// The connections of one worker at most where workers accept by turns (`mutex`): one with less than an
    /// eighth of them free sits out. Half of its share of the open-file limit when unset.
    pub worker_connections: Option<usize>,
}

impl Default for ServerConf {
    fn default() -> Self {
        ServerConf {
            version: 0,
            daemon: false,
            error_log: None,
            pid_file: "/tmp/pingora.pid".into(),
            upgrade_sock: "/tmp/pingora_upgrade.sock".into(),
            user: None,
            group: None,
            working_directory: None,
            threads: 1,
            listener_tasks_per_fd: 1,
            work_stealing: true,
            runtime_enable_alt_timer: false,
            ca_file: None,
            grace_period_seconds: None,
            graceful_shutdown_timeout_seconds: None,
            client_bind_to_ipv4: Vec::new(),
            client_bind_to_ipv6: Vec::new(),
            upstream_keepalive_pool_size: LIMITS.upstream_pool,
            upstream_connect_offload_threadpools: None,
            upstream_connect_offload_thread_per_pool: None,
            downstream_tls_offload_threadpools: None,
            downstream_tls_offload_thread_per_pool: None,
            upstream_debug_ssl_keylog: false,
            max_retries: 16,
            upgrade_sock_connect_accept_max_retries: None,
            max_blocking_threads: None,
            blocking_threads_ttl_seconds: None,
            fast_timeout_to_tokio_threshold_seconds: Some(900),
            runtime_metrics_poll_time_histogram: false,
            runtime_metrics_poll_time_histogram_scale: None,
            runtime_metrics_poll_time_histogram_resolution_micros: None,
            runtime_metrics_poll_time_histogram_buckets: None,
            daemon_wait_for_ready: false,
            daemon_ready_timeout_seconds: None,
            daemon_notify_timeout_seconds: None,
            shutdown_policy: ShutdownPolicy::Finish,
            shutdown_read_timeout_seconds: LIMITS.client_shutdown_read.as_secs(),
            shutdown_drain_seconds: None,
            accept_strategy: AcceptStrategy::default(),
            accept_mutex_delay_ms: 500,
            worker_connections: None,
        }
    }
}

impl ServerConf {
    /// The settings of a file that says nothing but its version.
    pub fn new() -> Option<Self> {
        Self::from_yaml("version: 1").ok()
    }

    /// [`ServerConf::new`], with what the command line says.
    pub fn new_with_opt_override(opt: &Opt) -> Option<Self> {
        let mut conf = Self::new()?;
        conf.merge_with_opt(opt);
        Some(conf)
    }

    /// Reads a settings file.
    ///
    /// # Errors
    /// `ReadError`, which names the file that cannot be read, or else as [`ServerConf::from_yaml`].
    pub fn load_from_yaml<P>(path: P) -> Result<Self>
    where
        P: AsRef<Path> + Display,
    {
        let text = std::fs::read_to_string(&path).or_err_with(ReadError, || {
            format!("cannot read the settings file {path}")
        })?;
        Self::from_yaml(&text).map_err(|e| e.more_context(format!("in the settings file {path}")))
    }

    /// Reads the settings file that the command line names, with what it says besides.
    ///
    /// # Errors
    /// `ReadError` when it names none, or else as [`ServerConf::load_from_yaml`].
    pub fn load_yaml_with_opt_override(opt: &Opt) -> Result<Self> {
        let Some(path) = &opt.conf else {
            return Error::e_explain(ReadError, "the command line names no settings file");
        };
        let mut conf = Self::load_from_yaml(path)?;
        conf.merge_with_opt(opt);
        Ok(conf)
    }

    /// Reads settings from a YAML document; an empty one gives the defaults.
    ///
    /// # Errors
    /// `ReadError`, which names the key, its value and what may stand there.
    pub fn from_yaml(conf_str: &str) -> Result<Self> {
        Self::from_yaml_with_defaults(conf_str, &Self::default())
    }

    /// Reads settings from a YAML document; keys that it does not name have the values of `defaults`.
    ///
    /// # Errors
    /// As [`ServerConf::from_yaml`].
    pub fn from_yaml_with_defaults(conf_str: &str, defaults: &ServerConf) -> Result<Self> {
        let document = yaml::parse(conf_str).map_err(|e| {
            Error::explain(ReadError, format!("the settings are no valid YAML: {e}"))
        })?;
        let named = match &document {
            Some(yaml::Node::Mapping(settings)) => keys::check(settings)?,
            Some(node) if node.plain() != Some(yaml::Plain::Null) => {
                let other = keys::show(node);
                return Error::e_explain(
                    ReadError,
                    format!("the settings are {other}: expected a mapping of keys to values"),
                );
            }
            _ => serde_json::Map::new(),
        };
        let mut settings = defaults.to_map();
        settings.extend(named);
        serde_json::from_value(settings.into()).or_err(ReadError, "the settings cannot be used")
    }

    /// These settings as a YAML document with every key.
    pub fn to_yaml(&self) -> String {
        keys::write(&self.to_map())
    }

    fn to_map(&self) -> serde_json::Map<String, serde_json::Value> {
        // Cannot fail: numbers, strings and lists of strings are all there is, and the one path is written lossily.
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(settings)) => settings,
            _ => serde_json::Map::new(),
        }
    }

    /// Returns these settings when all their values can be used.
    ///
    /// # Errors
    /// `ReadError`, which names the first key whose value cannot.
    pub fn validate(self) -> Result<Self> {
        Self::from_yaml(&self.to_yaml())?;
        Ok(self)
    }

    /// Takes over what the command line says: `daemon` when it is on there.
    pub fn merge_with_opt(&mut self, opt: &Opt) {
        self.daemon |= opt.daemon;
    }

    /// The keys of a settings file, one for each field.
    pub fn keys() -> impl Iterator<Item = &'static str> {
        keys::names()
    }

    /// The entries of a YAML document as they are written: a key, and the text of its value if that is a scalar. For a
    /// program that has keys of its own. None for what is no settings file.
    pub fn entries(conf_str: &str) -> Vec<(String, Option<String>)> {
        let Ok(Some(yaml::Node::Mapping(settings))) = yaml::parse(conf_str) else {
            return Vec::new();
        };
        let text = |value| match value {
            yaml::Node::Scalar { text, .. } => Some(text),
            _ => None,
        };
        let entries = settings.into_iter();
        entries.map(|(key, value)| (key, text(value))).collect()
    }

    /// The keys of a YAML document that are no settings of the server, each with the setting that it looks like, if
    /// there is one. A program that has no keys of its own may refuse them, or warn.
    pub fn unknown_keys(conf_str: &str) -> Vec<(String, Option<&'static str>)> {
        let entries = Self::entries(conf_str).into_iter();
        let unknown = entries.filter(|(key, _)| keys::names().all(|known| known != key));
        unknown
            .map(|(key, _)| {
                let meant = keys::likely_meant(&key);
                (key, meant)
            })
            .collect()
    }

    /// Options for the runtimes of services that do not override them.
    pub fn runtime_opts(&self) -> RuntimeOpts {
        let width = self.runtime_metrics_poll_time_histogram_resolution_micros;
        let histogram = RuntimeMetricsOpts {
            poll_time_histogram_resolution: width.map(Duration::from_micros),
            poll_time_histogram_scale: self.runtime_metrics_poll_time_histogram_scale,
            poll_time_histogram_buckets: self.runtime_metrics_poll_time_histogram_buckets,
            poll_time_histogram: self.runtime_metrics_poll_time_histogram,
        };
        RuntimeOpts {
            enable_alt_timer: self.runtime_enable_alt_timer,
            metrics: histogram,
        }
    }

    /// Returns how the endpoints of services accept connections.
    pub(crate) fn accepting(&self) -> accepting::Settings {
        accepting::Settings {
            strategy: self.accept_strategy,
            mutex_delay: Duration::from_millis(self.accept_mutex_delay_ms),
            worker_connections: self.worker_connections,
            shutdown_timeout: Duration::from_secs(self.shutdown_read_timeout_seconds),
            keep_idle: self.shutdown_drain_seconds.map(Duration::from_secs),
        }
    }

    /// Pools and threads of each that make upstream connections, when both are set and not 0.
    pub fn upstream_connect_offload_threadpool(&self) -> Option<(usize, usize)> {
        both(
            self.upstream_connect_offload_threadpools,
            self.upstream_connect_offload_thread_per_pool,
        )
    }

    /// Pools and threads of each that do downstream TLS handshakes, when both are set and not 0.
    pub fn downstream_tls_offload_threadpool(&self) -> Option<(usize, usize)> {
        both(
            self.downstream_tls_offload_threadpools,
            self.downstream_tls_offload_thread_per_pool,
        )
    }
}

fn both(pools: Option<usize>, threads: Option<usize>) -> Option<(usize, usize)> {
    pools.zip(threads).filter(|&(p, t)| p > 0 && t > 0)
}

/// The command line of a server.
#[derive(Parser, Debug, Default)]
#[command(name = "basic")]
pub struct Opt {
    /// Take over the listening sockets of the process that runs now
    ///
    /// The new process waits for them at `upgrade_sock`; the old one hands them over when it gets
    /// SIGQUIT, and ends when its connections have.
    #[arg(short, long)]
    pub upgrade: bool,

    /// Run in the background
    #[arg(short, long)]
    pub daemon: bool,

    /// Accepted and ignored, for test programs that pass on their own arguments
    #[arg(long, hide = true)]
    pub nocapture: bool,

    /// Check the settings and the setup, then exit
    #[arg(short, long)]
    pub test: bool,

    /// The settings file (YAML)
    #[arg(short, long)]
    pub conf: Option<String>,
}

impl Opt {
    /// Reads the arguments of the process; prints help or what is wrong, and exits, as clap does.
    pub fn parse_args() -> Self {
        Opt::parse()
    }

    /// Reads the given arguments, of which the first is the program's name.
    pub fn parse_from_args<I, T>(args: I) -> Self
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        Opt::parse_from(args)
    }
}

/// Writes a path that is not UTF-8 as near as it can be shown.
fn lossy_path<S: Serializer>(
    path: &Option<PathBuf>,
    to: S,
) -> std::result::Result<S::Ok, S::Error> {
    path.as_ref().map(|p| p.to_string_lossy()).serialize(to)
}
