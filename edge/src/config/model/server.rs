//! The settings of the process.

use std::path::PathBuf;

use crate::config::section::{choice, section};

section! {
    /// The process: its threads, its user, its end. A change takes a restart.
    pub struct Server("the settings of the process") {
        /// Worker threads. If unset, one for each core.
        threads: Option<u32> = None,
        /// True if idle workers take over connections of busy ones. Without it a connection stays with one worker, which
        /// costs less.
        work_stealing: bool = false,
        /// True to run in the background.
        daemon: bool = false,
        /// The file that holds the process id of a daemon. If unset, `/tmp/pingora.pid`.
        pid_file: Option<PathBuf> = None,
        /// The file that the standard error of a daemon is appended to. If unset, it is discarded.
        error_log: Option<PathBuf> = None,
        /// The user that a daemon runs as, by name or number.
        user: Option<String> = None,
        /// The group that a daemon runs as. If unset, the user's own.
        group: Option<String> = None,
        /// The folder that a daemon runs in. If unset, the one that it was started in.
        working_directory: Option<PathBuf> = None,
        /// True if the command that starts a daemon returns only when it listens.
        daemon_wait_for_ready: bool = false,
        /// Seconds that this command waits at most. If unset, 600.
        daemon_ready_timeout_seconds: Option<u32> = None,
        /// Seconds after which a daemon reports that it does not listen. If unset, 60.
        daemon_notify_timeout_seconds: Option<u32> = None,
        /// The socket over which a process hands its listening sockets to the next one. If unset,
        /// `/tmp/pingora_upgrade.sock`.
        upgrade_sock: Option<PathBuf> = None,
        /// The number of times, one second apart, that each side of an upgrade tries to reach the other. If unset, 5.
        upgrade_sock_connect_accept_max_retries: Option<u32> = None,
        /// Seconds that a graceful stop may last. If unset, 300.
        grace_period_seconds: Option<u32> = None,
        /// Seconds that threads get to end after that. If unset, 5.
        graceful_shutdown_timeout_seconds: Option<u32> = None,
        /// The treatment of requests that arrive during a stop.
        shutdown_policy: ShutdownPolicy = ShutdownPolicy::Finish,
        /// Seconds that a client gets during a stop to complete the head of a request or a handshake. If unset, 5.
        shutdown_read_timeout_seconds: Option<u32> = None,
        /// Seconds that idle connections stay open after a stop began. If unset, 0 for a stop and 5 for an upgrade.
        shutdown_drain_seconds: Option<u32> = None,
        /// Milliseconds after which a worker tries again for its turn at accepting (`accept: mutex`). If unset, 500.
        accept_mutex_delay_ms: Option<u32> = None,
        /// The most connections of one worker (`accept: mutex`). If unset, half of its share of the open-file limit.
        worker_connections: Option<u32> = None,
        /// Tasks that accept at one socket (`accept: shared`). If unset, 1.
        listener_tasks_per_fd: Option<u32> = None,
        /// Idle connections to servers that are kept, for each worker. If unset, 1024.
        upstream_keepalive_pool_size: Option<u32> = None,
        /// The most times that a request is sent to servers, the first included. If unset, 16.
        max_retries: Option<u32> = None,
        /// IPv4 addresses to connect to servers from. If unset, the system chooses.
        client_bind_to_ipv4: Vec<String> = Vec::new(),
        /// IPv6 addresses to connect to servers from. If unset, the system chooses.
        client_bind_to_ipv6: Vec<String> = Vec::new(),
        /// The certificates (PEM) to trust in servers where `tls` names none. If unset, those of the system.
        ca_file: Option<PathBuf> = None,
        /// True if TLS keys of connections to servers are written to the file that `SSLKEYLOGFILE` names.
        upstream_debug_ssl_keylog: bool = false,
        /// Pools of threads that make connections to servers apart from the workers. If unset, none.
        upstream_connect_offload_threadpools: Option<u32> = None,
        /// Threads of each of those pools.
        upstream_connect_offload_thread_per_pool: Option<u32> = None,
        /// Pools of threads that do TLS handshakes with clients apart from the workers. If unset, none.
        downstream_tls_offload_threadpools: Option<u32> = None,
        /// Threads of each of those pools.
        downstream_tls_offload_thread_per_pool: Option<u32> = None,
        /// The most threads for blocking work. If unset, 512.
        max_blocking_threads: Option<u32> = None,
        /// Seconds after which an idle thread for blocking work ends. If unset, 10.
        blocking_threads_ttl_seconds: Option<u32> = None,
        /// Timeouts longer than so many seconds use the timer of the runtime. If unset, 900.
        fast_timeout_to_tokio_threshold_seconds: Option<u32> = None,
    }
}

choice! {
    /// The treatments of requests that arrive during a stop.
    pub enum ShutdownPolicy("a policy of a stop") {
        /// Requests that have begun to arrive are served, each as the last request of its connection.
        Finish = "finish",
        /// Connections are dropped where they would begin a request.
        Strict = "strict",
    }
}
