//! Everything that is set at a session, and the test that fails without its effect.
//!
//! A field without a row does not compile; a setter without one, and a row whose test is gone, fail. The settings of
//! servers and peers stand in `pingora-core/src/settings.rs`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Session;

/// What is set, the file of its test from the folder of the workspace, and the test.
type Row = (&'static str, &'static str, &'static str);

const CACHE_HITS: &str = "pingora-proxy/tests/cache/hits.rs";
const COMPRESSION: &str = "pingora-proxy/tests/settings/compression.rs";
const CORE: &str = "pingora-core/src/protocols/http/server/tests.rs";
const CUSTOM: &str = "pingora-core/src/protocols/http/custom/tests.rs";
const GRPC_WEB: &str = "pingora-proxy/tests/grpc/http1.rs";
const PHASES: &str = "pingora-proxy/tests/e2e/phases.rs";
const SESSIONS: &str = "pingora-proxy/tests/settings/sessions.rs";
const SUBREQUESTS: &str = "pingora-proxy/tests/subrequests/background.rs";
const TIME_LIMITS: &str = "pingora-proxy/tests/e2e/time_limits.rs";

fn fields() -> Vec<Row> {
    let _ = |session: Session| {
        let Session {
            downstream_session: _,
            cache: _,
            upstream_compression: _,
            ignore_downstream_range: _,
            // Of the cache's fills, which are not there yet.
            upstream_headers_mutated_for_cache: _,
            subrequest_ctx: _,
            subrequest_spawner: _,
            downstream_modules_ctx: _,
            // Built from the proxy's modules for each request.
            #[cfg(feature = "upstream_modules")]
                upstream_modules_ctx: _,
            upstream: _,
            upstream_time_limit: _,
            upstream_due: _,
            retry_decided: _,
            try_spared: _,
            cache_write: _,
            messages: _,
            buffered: _,
        } = session;
    };
    vec![
        (
            "downstream_session",
            SESSIONS,
            "interim_answers_are_left_out",
        ),
        (
            "cache",
            CACHE_HITS,
            "a_fresh_response_is_served_without_the_origin",
        ),
        (
            "ignore_downstream_range",
            CACHE_HITS,
            "ranges_can_be_left_out",
        ),
        (
            "upstream_compression",
            COMPRESSION,
            "it_compresses_for_clients_that_take_it",
        ),
        (
            "subrequest_ctx",
            SUBREQUESTS,
            "a_lock_that_nobody_takes_is_released",
        ),
        ("subrequest_spawner", SUBREQUESTS, "it_outlives_its_parent"),
        (
            "downstream_modules_ctx",
            GRPC_WEB,
            "a_client_of_grpc_web_gets_the_status_in_the_body",
        ),
    ]
}

/// The setters of this session and of the one that it dereferences to.
const SETTERS: [Row; 14] = [
    ("set_abort_on_close", CORE, "how_http1_ends"),
    (
        "set_close_on_response_before_downstream_finish",
        CORE,
        "how_http1_ends",
    ),
    (
        "set_connection_user_context",
        PHASES,
        "what_a_request_leaves_for_its_connection_is_there_for_the_next",
    ),
    ("set_ignore_info_resp", CORE, "informational_responses"),
    (
        "set_keepalive",
        SESSIONS,
        "a_connection_is_kept_as_long_and_as_often_as_is_set",
    ),
    (
        "set_keepalive_reuses_remaining",
        SESSIONS,
        "a_connection_is_kept_as_long_and_as_often_as_is_set",
    ),
    ("set_min_send_rate", CORE, "a_client_that_takes_little"),
    ("set_pipelined_prefix", CORE, "how_http1_ends"),
    ("set_pipelining_enabled", CORE, "what_http1_alone_has"),
    // HTTP can do at any time what it allows to custom sessions.
    (
        "set_proxy_tasks_enabled",
        CUSTOM,
        "unit_is_a_server_session_that_never_works",
    ),
    ("set_read_timeout", CORE, "a_body_that_does_not_come"),
    (
        "set_total_drain_timeout",
        CORE,
        "the_rest_of_a_body_that_does_not_come",
    ),
    (
        "set_upstream_time_limit",
        TIME_LIMITS,
        "a_request_as_a_whole_has_a_limit",
    ),
    ("set_write_timeout", CORE, "a_client_that_takes_nothing"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).expect(file)
}

#[test]
fn everything_has_its_test() {
    for (what, file, test) in fields().iter().chain(&SETTERS) {
        let found = read(file).contains(&format!("fn {test}("));
        assert!(found, "{what}: there is no {test} in {file}");
    }
}

#[test]
fn every_setter_has_its_row() {
    let sources = [
        "pingora-proxy/src/session.rs",
        "pingora-core/src/protocols/http/server.rs",
        "pingora-core/src/protocols/http/server/connection.rs",
    ];
    let mut setters = BTreeSet::new();
    for source in sources.map(read) {
        let all = source.split("    pub fn set_").skip(1);
        setters.extend(all.map(|rest| {
            let name =
                rest.split(|c: char| !c.is_ascii_lowercase() && c != '_' && !c.is_ascii_digit());
            format!("set_{}", name.into_iter().next().unwrap_or_default())
        }));
    }
    let rows: BTreeSet<String> = SETTERS.iter().map(|row| row.0.to_string()).collect();
    assert_eq!(setters, rows);
}
