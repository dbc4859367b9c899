//! The text, read by a reader that is not ours, and the guide's table of it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use crate::observe::snapshot::{Certificate, Route, Site, Worker};
use crate::observe::{CacheUse, Class, EndpointCounts, Failure, Limit, MirrorUse, RouteCounts};

fn counted() -> Traffic {
    let counts = RouteCounts::default();
    counts.requests.count(Class::Success);
    counts.requests.count(Class::Server);
    counts.failures.count(Failure::Connect);
    counts.bytes_out.add(5);
    counts.retries.add(1);
    counts.cache.count(CacheUse::Hit);
    counts.limited.count(Limit::Rate);
    counts.mirrored.count(MirrorUse::Sent);
    counts.open.add(3);
    counts.durations.add(Duration::from_millis(30));
    counts.durations.add(Duration::from_secs(200));
    Traffic::of(&counts)
}

fn snapshot() -> Snapshot {
    let route = |name: &str| Route {
        name: name.to_owned(),
        traffic: counted(),
    };
    let site = Site {
        name: "a.test".to_owned(),
        routes: vec![route("1 /a\"b\\c\nd{}"), route("2 /é"), Route::default()],
        ..Site::default()
    };
    let mut endpoint = Endpoint {
        cluster: "a,b#2".to_owned(),
        server: "origin.test:80".to_owned(),
        address: "[::1]:80".to_owned(),
        max_requests: Some(5),
        max_connections: Some(7),
        connections: Some(6),
        up: true,
        ..Endpoint::default()
    };
    let counts = EndpointCounts::default();
    counts.responses.count(Class::Success);
    counts.failures.count(Failure::Tls);
    counts.durations.add(Duration::from_millis(1));
    endpoint.count(&counts);
    let mut snapshot = Snapshot {
        sites: vec![site],
        no_site: counted(),
        endpoints: vec![endpoint],
        workers: vec![Worker {
            cpu_seconds: Some(0.5),
            ..Worker::default()
        }],
        queues: vec![Queue {
            cluster: "a,b#2".to_owned(),
            waiting: 1,
            size: 2,
        }],
        names: vec![Name {
            cluster: "a,b#2".to_owned(),
            server: "app:80".to_owned(),
            lookups: Counts::of(&["answered", "failed"], [2, 1]),
            error: Some("no".to_owned()),
            age: Some(1.5),
        }],
        certificates: vec![Certificate {
            site: "a.test".to_owned(),
            not_after: Some(1_900_000_000),
            automatic: true,
            error: Some("no".to_owned()),
            ..Certificate::default()
        }],
        ..Snapshot::default()
    };
    let process = &mut snapshot.process;
    process.started = 1_795_785_424.25;
    process.resident_bytes = Some(1 << 20);
    process.open_files = Some(9);
    process.reloads.last_failed = Some(1_795_785_425.5);
    process.handshakes = Counts::of(&["1.3"], [4]);
    process.handshake_failures = Counts::of(&["no_certificate"], [2]);
    process.orders = Counts::of(&["issued", "failed"], [1, 0]);
    snapshot
}

/// Prints a line for each sample: its name, its labels, its value; and one for each metric.
const READER: &str = r#"
import sys
from prometheus_client.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    print("metric", family.name, family.type)
    for s in family.samples:
        labels = " ".join(f"{k}={v!r}" for k, v in sorted(s.labels.items()))
        print(s.name, labels, s.value)
"#;

/// Reads the text as Prometheus' own library for Python does, in the form of Debian's package of it or any other.
fn read(text: &str) -> String {
    let debian = "/usr/bin/python3";
    let python = if std::path::Path::new(debian).exists() {
        debian
    } else {
        "python3"
    };
    let mut reader = Command::new(python)
        .args(["-c", READER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    reader
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let read = reader.wait_with_output().unwrap();
    assert!(read.status.success(), "it cannot be read:\n{text}");
    String::from_utf8(read.stdout).unwrap()
}

#[test]
fn another_reader_reads_the_same() {
    let read = read(&prometheus(&snapshot()));
    for line in [
        r#"edge_requests_total route='1 /a"b\\c\nd{}' site='a.test' status='2xx' 1.0"#,
        r#"edge_requests_total route='2 /é' site='a.test' status='5xx' 1.0"#,
        "edge_requests_total route='' site='' status='2xx' 1.0",
        "edge_request_failures_total kind='connect' route='' site='' 1.0",
        "edge_request_duration_seconds_bucket le='0.025' route='' site='' 0.0",
        "edge_request_duration_seconds_bucket le='0.05' route='' site='' 1.0",
        "edge_request_duration_seconds_bucket le='100' route='' site='' 1.0",
        "edge_request_duration_seconds_bucket le='+Inf' route='' site='' 2.0",
        "edge_request_duration_seconds_count route='' site='' 2.0",
        "edge_request_duration_seconds_sum route='' site='' 200.03",
        "edge_requests_open route='' site='' 3.0",
        "edge_upstream_up address='[::1]:80' cluster='a,b#2' server='origin.test:80' 1.0",
        "edge_upstream_response_seconds_bucket address='[::1]:80' cluster='a,b#2' le='0.001' server='origin.test:80' 1.0",
        "edge_tls_handshakes_total version='1.3' 4.0",
        "edge_worker_cpu_seconds_total worker='0' 0.5",
        "edge_certificate_expiry_timestamp_seconds site='a.test' 1900000000.0",
        "edge_certificate_failing site='a.test' 1.0",
        "edge_certificate_orders_total result='issued' 1.0",
        "edge_tls_handshake_failures_total kind='no_certificate' 2.0",
        "process_start_time_seconds  1795785424.25",
        "metric edge_request_duration_seconds histogram",
    ] {
        assert!(read.lines().any(|l| l == line), "{line} is not in\n{read}");
    }
    assert!(!read.contains("route='3"), "nobody asked for it");
}

#[test]
fn every_metric_is_printed_once_with_its_labels() {
    let text = prometheus(&snapshot());
    for Metric {
        name,
        kind,
        labels,
        help,
    } in METRICS
    {
        let head = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        assert_eq!(text.matches(&head).count(), 1, "{head}");
        let (_, after) = text.split_once(&head).unwrap();
        let sample = after.lines().next().unwrap();
        assert!(sample.starts_with(name), "{name} has no sample: {sample}");
        for label in labels.split_terminator(',') {
            assert!(
                sample.contains(&format!("{label}=\"")),
                "{label} in {sample}"
            );
        }
    }
    assert_eq!(text.matches("# TYPE ").count(), METRICS.len());
}

#[test]
fn the_guide_has_the_table() {
    let mut table = String::from("| name | type | labels | |\n|---|---|---|---|\n");
    for Metric {
        name,
        kind,
        labels,
        help,
    } in METRICS
    {
        let labels = labels.trim_end_matches(',').replace(',', "`, `");
        let labels = if labels.is_empty() {
            labels
        } else {
            format!("`{labels}`")
        };
        writeln!(table, "| `{name}` | {kind} | {labels} | {help} |").unwrap();
    }
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guide/metrics.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    assert!(
        guide.contains(&table),
        "docs/guide/metrics.md lacks this table:\n{table}"
    );
}
