//! Every setting, and the test that fails without its effect.
//!
//! A field without a row here does not compile, and a row whose test is gone fails. The settings of a session stand in
//! `pingora-proxy/src/session/tests.rs`.

use std::path::Path;

use crate::apps::HttpServerOptions;
use crate::connectors::ConnectorOptions;
use crate::server::configuration::ServerConf;
use crate::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, PeerOptions};

/// A setting, the file of its test from the folder of the workspace, and the test.
type Row = (&'static str, &'static str, &'static str);

macro_rules! rows {
    ($type:ident { $($field:ident: $file:ident $test:ident,)* }) => {{
        let _ = |settings: $type| {
            let $type { $($field: _),* } = settings;
        };
        const ROWS: &[Row] = &[$((stringify!($field), $file, stringify!($test))),*];
        ROWS
    }};
}

const ACCEPT: &str = "pingora-core/src/listeners/accept/tests.rs";
const ATTEMPTS: &str = "pingora-proxy/tests/e2e/failures.rs";
const CONF: &str = "pingora-core/src/server/configuration/tests.rs";
const CONNECTIONS: &str = "pingora-proxy/tests/e2e/connections.rs";
const CONNECTORS: &str = "pingora-core/src/connectors/tests.rs";
const DAEMON: &str = "edge/tests/flags/daemon.rs";
const DAEMON_TIMES: &str = "pingora-core/src/server/daemon.rs";
const H2_LIFE: &str = "pingora-proxy/tests/h2/life.rs";
const H2_MEMORY: &str = "pingora-proxy/tests/memory_h2.rs";
const H2_ORIGINS: &str = "pingora-proxy/tests/h2_upstream/failures.rs";
const H2_STREAMS: &str = "pingora-proxy/tests/h2_upstream/connections.rs";
const H2_VERSIONS: &str = "pingora-core/src/connectors/http/v2/tests.rs";
const ORIGINS: &str = "pingora-proxy/tests/bad_input/origins.rs";
const PEER: &str = "pingora-core/src/upstreams/peer/tests.rs";
const PEERS: &str = "pingora-proxy/tests/settings/peers.rs";
const PREFACE: &str = "pingora-core/src/apps/preface/tests.rs";
const PROGRAM: &str = "edge/tests/flags/accept.rs";
const RUNTIMES: &str = "pingora-core/src/server/runtimes/tests.rs";
const SERVER: &str = "pingora-core/src/server/tests.rs";
const SERVERS: &str = "pingora-proxy/tests/settings/servers.rs";
const SHUTDOWN: &str = "pingora-proxy/tests/shutdown/by_hand.rs";
const SHUTDOWNS: &str = "pingora-proxy/tests/shutdown/in_a_server.rs";
const PERMITS: &str = "pingora-core/src/connectors/permit/tests.rs";
const SOCKETS: &str = "pingora-core/src/connectors/transport/tests.rs";
const STREAM: &str = "pingora-core/src/protocols/l4/stream/tests.rs";
const TAKEOVER: &str = "pingora-core/src/server/transfer_fd/tests.rs";
const TIME_LIMITS: &str = "pingora-proxy/tests/e2e/time_limits.rs";
const TLS_CLIENTS: &str = "pingora-core/src/protocols/tls/handshakes/clients.rs";
const TLS_OPENSSL: &str = "pingora-core/src/protocols/tls/handshakes/openssl.rs";
const TLS_PROGRAM: &str = "edge/tests/flags/tls.rs";
const TLS_PROXY: &str = "pingora-proxy/tests/tls/main.rs";
const TLS_SERVERS: &str = "pingora-core/src/protocols/tls/handshakes/servers.rs";
const TUNNELS: &str = "pingora-proxy/tests/h2/tunnels.rs";
const UPGRADES: &str = "pingora-proxy/tests/e2e/upgrades.rs";

fn of_servers() -> &'static [Row] {
    rows!(HttpServerOptions {
        h2c: PREFACE by_how_a_client_begins,
        allow_connect_method_proxying: TUNNELS connect_is_refused_unless_allowed,
        force_custom: SERVERS a_protocol_of_the_users_own_takes_every_connection,
        keepalive_request_limit: CONNECTIONS a_connection_is_reused_as_often_as_it_is_allowed,
        h2_idle_timeout: H2_LIFE an_idle_connection_closes,
        h2_ping_interval: H2_LIFE a_client_that_answers_no_ping_is_closed,
        tunnel_idle_timeout: UPGRADES
            a_tunnel_that_nothing_passes_is_closed_where_that_has_a_limit,
        h2_connection_send_buffer: H2_MEMORY every_answer_comes_through_a_small_buffer,
        lenient_line_ends: CONNECTIONS bare_line_feeds_pass_only_where_they_are_allowed,
    })
}

fn of_connectors() -> &'static [Row] {
    rows!(ConnectorOptions {
        ca_file: TLS_PROXY curl_and_nginx_exchange_files_of_all_sizes,
        cert_key_file: TLS_CLIENTS certificates_of_clients,
        debug_ssl_keylog: TLS_PROGRAM secrets_are_logged_where_the_settings_want_it,
        keepalive_pool_size: PEERS no_more_connections_are_kept_than_is_set,
        offload_threadpool: CONNECTORS connecting_on_other_threads,
        bind_to_v4: PEERS connections_come_from_the_address_that_is_set,
        bind_to_v6: PEERS connections_come_from_an_address_of_ipv6,
        keepalive_pool_callback: PEERS reuse_is_told,
    })
}

fn of_peers() -> &'static [Row] {
    rows!(HttpPeer {
        _address: SOCKETS options_are_set,
        scheme: TLS_PROXY versions_are_chosen_in_the_handshakes,
        sni: TLS_CLIENTS a_connection_and_what_is_known_of_it,
        proxy: SOCKETS through_a_proxy,
        client_cert_key: TLS_CLIENTS certificates_of_clients,
        group_key: PEER the_key_covers_what_a_connection_cannot_change,
        options: SOCKETS options_are_set,
    })
}

fn of_peer_options() -> &'static [Row] {
    rows!(PeerOptions {
        bind_to: SOCKETS binding,
        connection_timeout: SOCKETS a_peer_that_does_not_answer,
        total_connection_timeout: CONNECTORS the_total_time_is_bounded,
        read_timeout: ATTEMPTS a_silent_origin_is_given_up_after_the_read_timeout,
        response_header_timeout: TIME_LIMITS a_head_that_comes_byte_by_byte_is_given_up,
        tls_handshake_timeout: TLS_CLIENTS a_silent_server_is_given_up,
        idle_timeout: PEERS an_idle_connection_to_a_peer_ends,
        write_timeout: PEERS a_peer_that_takes_nothing_ends_with_the_write_timeout,
        verify_cert: TLS_CLIENTS certificates_that_are_refused_and_the_switches,
        verify_hostname: TLS_CLIENTS certificates_that_are_refused_and_the_switches,
        alternative_cn: TLS_CLIENTS an_address_or_another_name,
        alpn: H2_VERSIONS the_version_follows_what_the_peer_takes,
        ca: TLS_CLIENTS certificates_that_are_refused_and_the_switches,
        tcp_keepalive: SOCKETS options_are_set,
        tcp_recv_buf: SOCKETS options_are_set,
        dscp: SOCKETS options_are_set,
        h2_ping_interval: H2_ORIGINS a_connection_on_which_no_ping_is_answered_is_given_up,
        max_h2_streams: H2_STREAMS no_connection_has_more_streams_than_it_may,
        h2_stream_window_size: PEERS windows,
        h2_connection_window_size: PEERS windows,
        allow_h1_response_invalid_content_length: ORIGINS
            a_malformed_length_counts_as_none_where_that_is_allowed,
        http_upstream_request_policy: PEERS policies,
        extra_proxy_headers: SOCKETS through_a_proxy,
        curves: TLS_CLIENTS groups_are_chosen_by_name,
        second_keyshare: TLS_OPENSSL a_second_key_share,
        tcp_fast_open: SOCKETS fast_open,
        tracer: STREAM the_tracer_is_told_of_the_end,
        connect_permit: PERMITS without_a_place_there_is_no_connection_and_the_server_is_not_to_blame,
        custom_l4: SOCKETS custom_connections,
        upstream_tcp_sock_tweak_hook: SOCKETS a_hook_that_fails,
        proxy_digest_user_data_hook: SOCKETS through_a_proxy,
        upstream_tls_handshake_complete_hook: TLS_CLIENTS a_hook_looks_at_the_session,
    })
}

fn of_policies() -> &'static [Row] {
    rows!(HttpUpstreamRequestPolicy {
        strip_hop_by_hop: PEERS policies,
        strip_connection_nominated: PEERS policies,
        reject_malformed_connection_nominations: PEERS policies,
        h1_upgrade: PEERS policies,
    })
}

/// Returns what runtimes and endpoints are told by the settings is acted upon by tokio, and tested with the endpoints.
fn of_the_process() -> &'static [Row] {
    rows!(ServerConf {
        version: RUNTIMES what_has_no_effect_is_told,
        daemon: DAEMON a_daemon_runs_as_its_settings_say,
        error_log: DAEMON a_daemon_runs_as_its_settings_say,
        pid_file: DAEMON a_daemon_runs_as_its_settings_say,
        upgrade_sock: PROGRAM no_connection_is_lost_when_one_process_follows_another,
        user: DAEMON a_daemon_runs_as_its_settings_say,
        group: DAEMON a_daemon_runs_as_its_settings_say,
        working_directory: DAEMON a_daemon_runs_as_its_settings_say,
        threads: RUNTIMES threads_are_apart_or_share_their_work,
        listener_tasks_per_fd: SERVER what_services_find_when_they_start,
        work_stealing: RUNTIMES threads_are_apart_or_share_their_work,
        runtime_enable_alt_timer: CONF what_runtimes_are_told,
        ca_file: TLS_PROXY curl_and_nginx_exchange_files_of_all_sizes,
        grace_period_seconds: SERVER the_grace_period_bounds_the_wait,
        graceful_shutdown_timeout_seconds: SERVER the_grace_period_bounds_the_wait,
        client_bind_to_ipv4: PEERS connections_come_from_the_address_that_is_set,
        client_bind_to_ipv6: PEERS connections_come_from_an_address_of_ipv6,
        upstream_keepalive_pool_size: PEERS no_more_connections_are_kept_than_is_set,
        upstream_connect_offload_threadpools: CONNECTORS options_from_the_configuration,
        upstream_connect_offload_thread_per_pool: CONNECTORS options_from_the_configuration,
        downstream_tls_offload_threadpools: TLS_SERVERS handshakes_on_other_threads,
        downstream_tls_offload_thread_per_pool: TLS_SERVERS handshakes_on_other_threads,
        upstream_debug_ssl_keylog: TLS_PROGRAM secrets_are_logged_where_the_settings_want_it,
        max_retries: ATTEMPTS tries_end_at_the_configured_number,
        upgrade_sock_connect_accept_max_retries: TAKEOVER tries_are_as_many_as_is_set,
        max_blocking_threads: RUNTIMES threads_for_blocking_work_are_limited,
        blocking_threads_ttl_seconds: RUNTIMES idle_threads_for_blocking_work_end,
        fast_timeout_to_tokio_threshold_seconds: SERVER what_services_find_when_they_start,
        runtime_metrics_poll_time_histogram: CONF what_runtimes_are_told,
        runtime_metrics_poll_time_histogram_scale: CONF what_runtimes_are_told,
        runtime_metrics_poll_time_histogram_resolution_micros: CONF what_runtimes_are_told,
        runtime_metrics_poll_time_histogram_buckets: CONF what_runtimes_are_told,
        daemon_wait_for_ready: DAEMON a_daemon_runs_as_its_settings_say,
        daemon_ready_timeout_seconds: DAEMON_TIMES how_long_is_waited,
        daemon_notify_timeout_seconds: DAEMON_TIMES how_long_is_waited,
        shutdown_policy: SHUTDOWN strict_is_the_check_of_the_flag_alone,
        shutdown_read_timeout_seconds: SHUTDOWNS a_head_that_is_never_completed_ends_with_its_connection,
        shutdown_drain_seconds: SHUTDOWN
            idle_connections_are_kept_for_one_more_request_while_it_drains,
        accept_strategy: CONF what_endpoints_are_told,
        accept_mutex_delay_ms: CONF what_endpoints_are_told,
        worker_connections: ACCEPT turns_fill_all_workers_and_no_more,
    })
}

#[test]
fn every_setting_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let all = [
        of_servers(),
        of_connectors(),
        of_peers(),
        of_peer_options(),
        of_policies(),
        of_the_process(),
    ];
    for (setting, file, test) in all.into_iter().flatten() {
        let text = std::fs::read_to_string(root.join(file)).expect(file);
        let found = text.contains(&format!("fn {test}("));
        assert!(found, "{setting}: there is no {test} in {file}");
    }
}
