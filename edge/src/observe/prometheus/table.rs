//! The metrics that there are. `docs/guide/metrics.md` has the same table.

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its labels, with a comma between each two.
    pub labels: &'static str,
    /// The thing that it counts.
    pub help: &'static str,
}

/// Declares metrics: name, kind, labels, help.
macro_rules! metrics {
    ($($name:ident $kind:ident [$($label:ident),*] $help:literal)*) => {
        /// All metrics, in the order in which they are printed.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: stringify!($name),
            kind: stringify!($kind),
            labels: concat!($(stringify!($label), ",",)* ""),
            help: $help,
        }),*];
    };
}

metrics! {
    edge_requests_total counter [site, route, status]
        "Requests that have ended, by class of the status: 2xx and so on, none without an answer."
    edge_request_failures_total counter [site, route, kind]
        "Requests that have ended with an error."
    edge_request_duration_seconds histogram [site, route]
        "Time from the head of a request to the end of its response."
    edge_requests_open gauge [site, route]
        "Requests under way."
    edge_request_body_bytes_total counter [site, route]
        "Bytes of the bodies of requests."
    edge_response_body_bytes_total counter [site, route]
        "Bytes of the bodies of responses."
    edge_retries_total counter [site, route]
        "Further tries of requests."
    edge_cache_requests_total counter [site, route, result]
        "Requests by the part that the cache had."
    edge_limited_requests_total counter [site, route, limit]
        "Requests that a limit or rule has kept from being served."
    edge_queued_requests_total counter [site, route]
        "Requests that have waited for a server with room."
    edge_queue_seconds_total counter [site, route]
        "Time for which they have waited."
    edge_mirrored_requests_total counter [site, route, result]
        "Copies of requests for other servers."
    edge_upstream_responses_total counter [cluster, server, address, status]
        "Tries that a server answered, by class of the status."
    edge_upstream_failures_total counter [cluster, server, address, kind]
        "Tries that failed at a server."
    edge_upstream_response_seconds histogram [cluster, server, address]
        "Time from the choice of a server to the head of its response."
    edge_upstream_requests_open gauge [cluster, server, address]
        "Tries under way."
    edge_upstream_requests_max gauge [cluster, server, address]
        "Tries that may be under way, of a server that has such a limit."
    edge_upstream_connections_open gauge [cluster, server, address]
        "Connections open to a server whose connections have a limit, over all routes."
    edge_upstream_connections_max gauge [cluster, server, address]
        "Connections that may be open to it."
    edge_upstream_up gauge [cluster, server, address]
        "1 while requests go to the server, 0 while it is left alone."
    edge_upstream_queue_length gauge [cluster]
        "Requests that wait for a server with room."
    edge_upstream_queue_max gauge [cluster]
        "Requests that may wait for one."
    edge_upstream_name_lookups_total counter [cluster, server, result]
        "Look-ups of the name of a server: answered or failed."
    edge_upstream_name_failing gauge [cluster, server]
        "1 if the last look-up of a name failed, so that its last known addresses stay; 0 if not."
    edge_upstream_name_age_seconds gauge [cluster, server]
        "Time since the last answer for the name of a server."
    edge_connections_total counter []
        "Connections of clients that were accepted."
    edge_connections_open gauge []
        "Connections of clients that are open."
    edge_tls_handshakes_total counter [version]
        "Handshakes of TLS with clients."
    edge_tls_resumed_total counter []
        "Handshakes of TLS that took up an earlier session."
    edge_tls_handshake_failures_total counter [kind]
        "Handshakes of TLS with clients that failed."
    edge_refused_requests_total counter []
        "Requests that were refused before a route was looked for: malformed, too large, or too slow."
    edge_worker_requests_total counter [worker]
        "Requests that have ended, by worker."
    edge_worker_requests_open gauge [worker]
        "Requests under way, by worker."
    edge_worker_cpu_seconds_total counter [worker]
        "Time of the processor that a worker has used."
    edge_access_log_dropped_lines_total counter []
        "Lines of the access log that were dropped, since it was opened."
    edge_reloads_total counter [result]
        "Reloads of the configuration: taken or failed."
    edge_reload_timestamp_seconds gauge [result]
        "Time of the last reload, in seconds since the beginning of 1970."
    edge_reload_failing gauge []
        "1 if the last reload failed, 0 if not."
    edge_certificate_expiry_timestamp_seconds gauge [site]
        "End of the time of a site's certificate, in seconds since the beginning of 1970."
    edge_certificate_orders_total counter [result]
        "Tries for automatic certificates: issued, failed, or denied by the rule of those on demand."
    edge_certificate_failing gauge [site]
        "Hosts of a site whose last try for an automatic certificate failed."
    edge_build_info gauge [version]
        "Always 1."
    process_start_time_seconds gauge []
        "Start of the process, in seconds since the beginning of 1970."
    process_resident_memory_bytes gauge []
        "Memory of the process."
    process_open_fds gauge []
        "Open files and sockets of the process."
}
