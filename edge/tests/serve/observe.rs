//! What the proxy tells: access log, ids, traces, counts.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::tools::*;

/// A proxy with these keys beside `listen` and `sites`.
fn start(keys: &str, sites: &str) -> Edge {
    let address = free();
    Edge::start_whole(address, &file(address, keys, sites))
}

fn file(address: std::net::SocketAddr, keys: &str, sites: &str) -> String {
    format!("listen: {address}\n{keys}\nsites:\n{sites}")
}

/// Waits until a file has so many lines, and returns them.
#[track_caller]
fn lines(path: &Path, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    eventually("the lines are written", || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        all = text.lines().map(str::to_owned).collect();
        all.len() >= count
    });
    assert_eq!(all.len(), count, "{all:#?}");
    all
}

fn log_in(dir: &TempDir, more: &str) -> String {
    let path = dir.path().join("log");
    format!("access_log: {{to: {}{more}}}", path.display())
}

#[test]
fn a_line_of_json_tells_all_of_a_request() {
    let (dir, origin) = (TempDir::new().unwrap(), Origin::start("hello"));
    let edge = start(
        &format!(
            "{}\nrequest_id: x-request-id\ntracing: true",
            log_in(&dir, ", format: json")
        ),
        &format!(
            "  - hosts: a.test\n    routes: [{{path: /x, strip_prefix: /x, request_headers: {{set: {{user-agent: other}}}}, proxy: '{}'}}, {{path: /dead, proxy: '{}'}}]\n",
            origin.address,
            free()
        ),
    );
    let mut client = edge.connect();
    client.ask(
        "POST",
        "a.test",
        "/x?q=%22\\u",
        "User-Agent: \"\\\t\u{e9}\u{2028}\r\nContent-Length: 0\r\n",
    );
    client.ask("GET", "a.test", "/none", "");
    client.ask("GET", "b.test", "/", "Referer: r\r\n");
    edge.get("a.test", "/dead");
    let all = lines(&dir.path().join("log"), 4);
    let all: Vec<Value> = all
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let find = |uri: &str| all.iter().find(|line| line["uri"] == uri).unwrap();
    let one = find("/x?q=%22\\u");
    for (key, value) in [
        ("client_ip", "127.0.0.1"),
        ("method", "POST"),
        ("host", "a.test"),
        ("scheme", "http"),
        ("protocol", "HTTP/1.1"),
        ("site", "a.test"),
        ("route", "1 /x"),
        ("upstream", &origin.address.to_string()),
        ("header.user-agent", "\"\\\t\u{e9}\u{2028}"),
    ] {
        assert_eq!(one[key], value, "{key} of {one}");
    }
    assert_eq!(
        (&one["status"], &one["bytes"], &one["tries"]),
        (&200.into(), &5.into(), &1.into())
    );
    let (took, upstream) = (
        one["duration"].as_f64().unwrap(),
        one["upstream_duration"].as_f64().unwrap(),
    );
    assert!(took >= upstream && upstream > 0.0 && took < 60.0, "{one}");
    assert!(one["error"].is_null() && one["tls_version"].is_null());
    let time = one["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    let head = origin.last();
    let told = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
    };
    assert_eq!(one["request_id"], told("x-request-id: "));
    assert_eq!(one["trace_id"], told("traceparent: ")[3..35]);
    let missing = find("/none");
    assert_eq!(
        (&missing["status"], &missing["site"], &missing["route"]),
        (&404.into(), &"a.test".into(), &Value::Null)
    );
    let strange = find("/");
    assert_eq!(
        (&strange["site"], &strange["header.referer"]),
        (&Value::Null, &"r".into())
    );
    let dead = find("/dead");
    assert_eq!(dead["status"], 502);
    assert!(
        dead["error"].as_str().unwrap().contains("Connect"),
        "{dead}"
    );
}

#[test]
fn lines_have_the_form_that_the_file_says_and_another_one_after_a_reload() {
    let dir = TempDir::new().unwrap();
    let sites = "  - routes: [{path: /quiet, access_log: false, respond: 200}, {respond: {status: 203, body: abc}}]\n";
    let edge = start(&log_in(&dir, ""), sites);
    let log = dir.path().join("log");
    edge.connect()
        .ask("GET", "h", "/a\"b", "User-Agent: x y\r\n");
    edge.get("h", "/quiet");
    let line = &lines(&log, 1)[0];
    let (begin, end) = line.split_once('[').unwrap();
    assert_eq!(begin, "127.0.0.1 - - ");
    let (_, end) = end.split_once("] ").unwrap();
    assert_eq!(end, "\"GET /a\\x22b HTTP/1.1\" 203 3 \"-\" \"x y\"");
    let keys = log_in(&dir, ", format: 'mine {status} {header.x}|{query}'");
    edge.write_whole(&file(edge.address, &keys, sites));
    edge.hang_up();
    let mut client = edge.connect();
    eventually("the form is another", || {
        client.ask("GET", "h", "/?q=1", "X: \\\t;\r\n");
        let text = std::fs::read_to_string(&log).unwrap();
        text.ends_with("mine 203 \\x5C\\x09;|q=1\n")
    });
}

#[test]
fn a_log_that_was_moved_away_is_opened_anew_when_it_is_told() {
    let dir = TempDir::new().unwrap();
    let edge = start(
        &log_in(&dir, ", format: '{uri}'"),
        "  - routes: {respond: 200}\n",
    );
    let log = dir.path().join("log");
    edge.get("h", "/1");
    lines(&log, 1);
    std::fs::rename(&log, dir.path().join("old")).unwrap();
    edge.reopen_logs();
    eventually("the file is there", || log.exists());
    edge.get("h", "/2");
    assert_eq!(lines(&log, 1), ["/2"]);
    assert_eq!(lines(&dir.path().join("old"), 1), ["/1"]);
}

#[test]
fn a_sample_has_all_that_failed() {
    let dir = TempDir::new().unwrap();
    let mut edge = start(
        &log_in(&dir, ", format: '{uri} {status}', sample: 0%"),
        "  - routes: [{path: /bad, respond: 503}, {respond: 200}]\n",
    );
    for path in ["/1", "/bad", "/2", "/bad"] {
        edge.get("h", path);
    }
    edge.terminate();
    edge.wait_for_end();
    let text = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(
        text, "/bad 503\n/bad 503\n",
        "all that waited is written at the end"
    );
}

#[test]
fn a_request_keeps_the_id_that_a_trusted_proxy_gave_it_alone() {
    let origin = Origin::start("o");
    let sites = format!("  - routes: {{proxy: '{}'}}\n", origin.address);
    let id = || {
        let head = origin.last();
        let ids: Vec<_> = head
            .lines()
            .filter_map(|line| line.strip_prefix("x-id: "))
            .collect();
        assert_eq!(ids.len(), 1, "{head}");
        ids[0].to_owned()
    };
    for (keys, kept) in [
        ("request_id: X-Id", false),
        ("request_id: {header: x-id, trust: proxies}", false),
        (
            "request_id: {header: x-id, trust: proxies}\ntrusted_proxies: 127.0.0.1",
            true,
        ),
    ] {
        let edge = start(keys, &sites);
        let mut client = edge.connect();
        client.ask("GET", "h", "/", "x-id: mine-1\r\n");
        assert_eq!(id() == "mine-1", kept, "{keys}");
        client.ask("GET", "h", "/", "x-id: <script>\r\nX_Id: evil\r\n");
        assert_eq!(id().len(), 32);
        assert!(!origin.last().contains("evil"), "{keys}");
        client.ask("GET", "h", "/", "");
        assert_eq!(id().len(), 32);
    }
}

#[test]
fn a_trace_goes_on_with_a_span_of_its_own() {
    const ID: &str = "0af7651916cd43dd8448eb211c80319c";
    let origin = Origin::start("o");
    let edge = start(
        "tracing: {propagate: true, sample: 0%}",
        &format!("  - routes: {{proxy: '{}'}}\n", origin.address),
    );
    let mut client = edge.connect();
    let mut told = |fields: &str| {
        client.ask("GET", "h", "/", fields);
        let head = origin.last();
        let find = |name: &str| {
            let all = head.lines().filter_map(|line| line.strip_prefix(name));
            all.map(str::to_owned).collect::<Vec<_>>()
        };
        let parents = find("traceparent: ");
        assert_eq!(parents.len(), 1, "{head}");
        (parents[0].clone(), find("tracestate: "))
    };
    let parent = format!("traceparent: 00-{ID}-b7ad6b7169203331-01\r\n");
    let (first, state) = told(&format!("{parent}tracestate: a=1\r\ntracestate: b=2\r\n"));
    assert!(
        first.starts_with(&format!("00-{ID}-")) && first.ends_with("-01"),
        "{first}"
    );
    assert!(!first.contains("b7ad6b7169203331"), "{first}");
    assert_eq!(state, ["a=1,b=2"]);
    let (second, _) = told(&parent);
    assert_ne!(first, second, "each request has a span of its own");
    for bad in [
        String::new(),
        "traceparent: 00-x\r\n".to_owned(),
        format!("{parent}{parent}"),
    ] {
        let (made, state) = told(&format!("{bad}tracestate: a=1\r\n"));
        assert!(
            made.len() == 55 && !made.contains(ID) && made.ends_with("-00"),
            "{made}"
        );
        assert_eq!(state, [""; 0]);
    }
}

#[test]
fn requests_tries_and_failures_are_counted_where_they_belong() {
    let (origin, dead, own) = (Origin::start("four"), free(), free());
    let sites = format!(
        "  - hosts: a.test\n    routes: [{{path: /one, proxy: {{to: ['{dead}', '{}']}}}}, {{path: /dead, proxy: '{dead}'}}, {{path: /here, respond: 204}}]\n  - hosts: b.test\n    routes: {{respond: 200}}\n",
        origin.address
    );
    let edge = start(&format!("admin: '{own}'"), &sites);
    let snapshot = || -> Value {
        let output = std::process::Command::new("curl")
            .args([
                "-s",
                "--max-time",
                "60",
                &format!("http://{own}/api/status"),
            ])
            .output()
            .unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        status["snapshot"].clone()
    };
    let mut client = edge.connect();
    for _ in 0..4 {
        assert_eq!(client.ask("GET", "a.test", "/one", "").body, "four");
    }
    client.ask("GET", "a.test", "/here", "");
    client.ask("GET", "a.test", "/nowhere", "");
    client.ask("GET", "c.test", "/", "");
    assert_eq!(edge.get("a.test", "/dead").status, 502);
    eventually("all have ended", || snapshot()["process"]["requests"] == 8);
    let now = snapshot();
    let site = &now["sites"][0];
    let one = &site["routes"][0];
    assert_eq!(
        (&one["requests"]["2xx"], &one["bytes_out"], &one["open"]),
        (&4.into(), &16.into(), &0.into())
    );
    assert_eq!(
        (&one["retries"], &one["durations"]["count"]),
        (&1.into(), &4.into()),
        "{one}"
    );
    assert_eq!(site["routes"][1]["requests"]["5xx"], 1);
    assert_eq!(site["routes"][1]["failures"]["connect"], 1);
    assert_eq!(site["routes"][2]["requests"]["2xx"], 1);
    assert_eq!(site["no_route"]["requests"]["4xx"], 1);
    assert_eq!(site["total"]["durations"]["count"], 7);
    assert_eq!(now["no_site"]["requests"].as_object().unwrap().len(), 1);
    assert_eq!(
        now["sites"][1]["total"]["requests"],
        Value::Object(Default::default())
    );
    let all = now["endpoints"].as_array().unwrap();
    let of = |address: String| all.iter().find(|one| one["address"] == address).unwrap();
    assert_eq!(of(origin.address.to_string())["responses"]["2xx"], 4);
    let first = of(dead.to_string());
    assert_eq!(
        (&first["failures"]["connect"], &first["open"]),
        (&1.into(), &0.into())
    );
    let sum: u64 = now["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["requests"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, 8);
    edge.write_whole(&file(
        edge.address,
        &format!("admin: '{own}'"),
        "  - hosts: a.test\n    routes: [{path: /one, respond: 200}]\n",
    ));
    edge.hang_up();
    eventually("the other site is gone", || {
        snapshot()["sites"]
            .as_array()
            .is_some_and(|all| all.len() == 1)
    });
    let now = snapshot();
    assert_eq!(
        now["sites"][0]["routes"][0]["requests"]["2xx"], 4,
        "the same route"
    );
    assert_eq!(
        (&now["endpoints"], &now["process"]["reloads"]["taken"]),
        (&Value::Array(Vec::new()), &1.into())
    );
}
