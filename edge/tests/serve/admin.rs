//! The admin interface, asked with curl.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::tools::*;

const SITES: &str = "  - routes: {respond: 201}\n";
const JSON: [&str; 2] = ["-H", "Content-Type: application/json"];

/// A proxy with an admin interface.
struct Admin {
    edge: Edge,
    address: SocketAddr,
}

/// Starts one whose key `admin` has this address and more.
fn start(more: &str) -> Admin {
    let (address, own) = (free(), free());
    let edge = Edge::start_whole(address, &file(address, own, more, SITES));
    let admin = Admin { edge, address: own };
    eventually("it listens", || admin.get("/healthz").0 == 200);
    admin
}

fn file(address: SocketAddr, own: SocketAddr, more: &str, sites: &str) -> String {
    format!("listen: {address}\nadmin: {{address: '{own}'{more}}}\nsites:\n{sites}")
}

/// Runs curl; returns the status, the head and the body.
fn curl(arguments: &[&str]) -> (u16, String, String) {
    let mut child = Command::new("curl")
        .args(["-s", "-i", "--max-time", "60"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().flush().unwrap();
    let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let Some((head, body)) = output.split_once("\r\n\r\n") else {
        return (0, output, String::new());
    };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

impl Admin {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn get(&self, path: &str) -> (u16, String, String) {
        curl(&[&self.url(path)])
    }

    fn post(&self, path: &str, body: &str, more: &[&str]) -> (u16, String, String) {
        let url = self.url(path);
        let mut arguments = vec!["-X", "POST", "-d", body];
        arguments.extend(JSON);
        arguments.extend(more);
        arguments.push(&url);
        curl(&arguments)
    }

    fn json(&self, path: &str) -> Value {
        let (status, _, body) = self.get(path);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

#[test]
fn health_and_status_are_told() {
    let admin = start("");
    assert_eq!(admin.get("/readyz").2, "ready\n");
    let mut client = admin.edge.connect();
    assert_eq!(client.ask("GET", "a", "/", "").status, 201);
    let status = admin.json("/api/status");
    assert_eq!(status["draining"], false);
    let listeners = status["listeners"].as_array().unwrap();
    assert_eq!(listeners[0]["address"], admin.edge.address.to_string());
    assert_eq!(status["workers"].as_array().unwrap().len(), 2);
    // Those that looked whether it listens may still be there.
    eventually("one connection is open", || {
        let status = admin.json("/api/status");
        let workers = status["workers"].as_array().unwrap().iter();
        let open = workers.map(|worker| worker["connections"].as_u64().unwrap());
        open.sum::<u64>() == 1
    });
    let (status, head, body) = curl(&["-I", &admin.url("/api/status")]);
    assert_eq!((status, &*body), (200, ""), "{head}");
    assert_eq!(admin.get("/nothing").0, 404);
    assert_eq!(admin.post("/nothing", "", &[]).0, 404);
    assert_eq!(
        curl(&["-X", "PUT", "-H", JSON[1], &admin.url("/healthz")]).0,
        404
    );
    assert_eq!(curl(&["-X", "PUT", "-H", JSON[1], &admin.url("/")]).0, 405);
}

#[test]
fn every_answer_keeps_browsers_to_itself() {
    let admin = start(", token: 0123456789abcdef");
    for path in ["/healthz", "/", "/api/status", "/nothing"] {
        let (_, head, _) = admin.get(path);
        for field in [
            "cache-control: no-store",
            "x-content-type-options: nosniff",
            "frame-ancestors 'none'",
            "default-src 'none'; script-src 'self'; style-src 'self';",
            "referrer-policy: no-referrer",
        ] {
            assert!(head.contains(field), "{path}: {field}: {head}");
        }
        assert!(!head.contains("unsafe"), "{head}");
        assert!(!head.contains("access-control-allow"), "{head}");
    }
}

#[test]
fn a_name_that_is_not_ours_leads_nowhere() {
    let admin = start(", allow_hosts: admin.example");
    let asked = |host: &str| {
        let host = format!("Host: {host}");
        curl(&["-H", &host, &admin.url("/api/status")]).0
    };
    let port = admin.address.port();
    assert_eq!(asked(&format!("localhost:{port}")), 200);
    assert_eq!(asked("admin.example"), 200);
    assert_eq!(asked(&format!("evil.example:{port}")), 421);
    let host = ["-H", "Host: evil.example"];
    assert_eq!(admin.post("/api/reload", "", &host).0, 421);
}

#[test]
fn a_page_of_another_site_changes_nothing() {
    let admin = start("");
    let url = admin.url("/api/drain");
    assert_eq!(curl(&["-d", "x=1", &url]).0, 415);
    for field in ["Origin: http://evil.example", "Sec-Fetch-Site: cross-site"] {
        assert_eq!(admin.post("/api/drain", "", &["-H", field]).0, 403);
    }
    assert_eq!(admin.json("/api/status")["draining"], false);
    let own = format!("Origin: http://{}", admin.address);
    assert_eq!(admin.post("/api/drain", "", &["-H", &own]).0, 200);
    assert_eq!(admin.json("/api/status")["draining"], true);
}

#[test]
fn who_knows_the_token_comes_in_by_header_or_by_cookie() {
    let admin = start(", token: \"${env:PATH:-x}0123456789abcdef\"");
    let token = format!("{}0123456789abcdef", std::env::var("PATH").unwrap());
    assert_eq!(admin.get("/healthz").0, 200);
    for path in ["/", "/api/status", "/api/config", "/nothing"] {
        assert_eq!(admin.get(path).0, 401, "{path}");
    }
    assert_eq!(admin.post("/api/reload", "", &[]).0, 401);
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(curl(&["-H", &bearer, &admin.url("/api/status")]).0, 200);
    assert_eq!(admin.post("/api/login", "{\"token\": \"x\"}", &[]).0, 401);
    assert_eq!(admin.post("/api/login", "{", &[]).0, 400);
    let login = serde_json::json!({ "token": token }).to_string();
    let (status, head, _) = admin.post("/api/login", &login, &[]);
    assert_eq!(status, 200, "{head}");
    let cookie = head
        .lines()
        .find(|line| line.starts_with("set-cookie:"))
        .unwrap();
    assert!(cookie.contains("httponly; samesite=strict"), "{cookie}");
    let cookie = cookie.split([' ', ';']).nth(1).unwrap();
    let with_cookie = |path: &str| curl(&["-b", cookie, &admin.url(path)]);
    assert_eq!(with_cookie("/api/status").0, 200);
    // The token came from the environment.
    let (_, _, config) = with_cookie("/api/config");
    assert!(config.contains("token: \\\"(not shown)\\\""), "{config}");
    assert!(!config.contains("0123456789abcdef"), "{config}");
    assert_eq!(admin.post("/api/logout", "", &["-b", cookie]).0, 200);
    assert_eq!(with_cookie("/api/status").0, 401);
}

#[test]
fn a_reload_is_answered_with_what_came_of_it() {
    let admin = start(", token: 0123456789abcdef");
    let (address, own) = (admin.edge.address, admin.address);
    let bearer = ["-H", "Authorization: Bearer 0123456789abcdef"];
    let write = |token: &str, sites: &str| {
        let more = format!(", token: {token}");
        admin.edge.write_whole(&file(address, own, &more, sites));
    };
    let reload = |bearer: &[&str]| {
        let (status, _, body) = admin.post("/api/reload", "", bearer);
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    write(
        "0123456789abcdef",
        "  - routes: [{respond: 999}, {respnd: 200}]\n",
    );
    let (status, answer) = reload(&bearer);
    assert_eq!((status, &answer["ok"]), (422, &Value::Bool(false)));
    let errors: Vec<_> = answer["errors"].as_array().unwrap().iter().collect();
    assert_eq!(errors.len(), 2);
    let first = errors[0].as_str().unwrap();
    assert!(
        first.contains("edge.yaml:4:24: `999` is not a status"),
        "{first}"
    );
    assert_eq!(admin.edge.get("a", "/").status, 201);

    write("fedcba9876543210", "  - routes: {respond: 202}\n");
    let (status, answer) = reload(&bearer);
    assert_eq!((status, &answer["ok"]), (200, &Value::Bool(true)));
    let diff = answer["diff"].as_str().unwrap();
    assert!(
        diff.contains("-          status: 201\n+          status: 202\n"),
        "{diff}"
    );
    assert!(!diff.contains("fedcba"), "{diff}");
    eventually("it is taken", || admin.edge.get("a", "/").status == 202);
    // The token has changed too.
    assert_eq!(admin.post("/api/reload", "", &bearer).0, 401);
    let bearer = "Authorization: Bearer fedcba9876543210";
    let (_, _, body) = curl(&["-H", bearer, &admin.url("/api/status")]);
    let status: Value = serde_json::from_str(&body).unwrap();
    let configuration = &status["configuration"];
    // A change of the file may be found beside what was asked for.
    assert!(configuration["refused"].as_u64().unwrap() >= 1);
    let reloads = configuration["reloads"].as_array().unwrap();
    assert_eq!(reloads.last().unwrap()["trigger"], "start");
    assert!(reloads
        .iter()
        .any(|reload| reload["trigger"] == "admin" && reload["ok"] == true));
    assert!(!body.contains("fedcba"), "{body}");
}

#[test]
fn another_place_takes_a_restart() {
    let mut admin = start("");
    let (address, other) = (admin.edge.address, free());
    admin.edge.write_whole(&file(address, other, "", SITES));
    admin.edge.hang_up();
    let line = admin.edge.wait_for_log("the configuration is not taken");
    assert!(line.contains("which takes a restart"), "{line}");
    assert_eq!(admin.get("/healthz").0, 200);
}

#[test]
fn a_draining_process_is_not_ready_and_closes_connections() {
    let admin = start("");
    let mut client = admin.edge.connect();
    assert_eq!(client.ask("GET", "a", "/", "").field("connection"), None);
    assert_eq!(admin.post("/api/drain", "", &[]).0, 200);
    assert_eq!(admin.get("/readyz").0, 503);
    let answer = client.ask("GET", "a", "/", "");
    assert_eq!(answer.field("connection"), Some("close"), "{answer:?}");
    assert_eq!(admin.post("/api/undrain", "", &[]).0, 200);
    assert_eq!(admin.get("/readyz").0, 200);
    let answer = admin.edge.get("a", "/");
    assert_eq!(answer.field("connection"), None, "{answer:?}");
}

#[test]
fn a_stopping_process_says_so_until_its_last_request_is_done() {
    let origin = Held::start();
    let (address, own) = (free(), free());
    let sites = format!("  - routes: {{proxy: '{}'}}\n", origin.address);
    let edge = Edge::start_whole(address, &file(address, own, "", &sites));
    let mut admin = Admin { edge, address: own };
    eventually("it listens", || admin.get("/readyz").0 == 200);
    let mut client = admin.edge.connect();
    let waiting = std::thread::spawn(move || client.ask("GET", "a", "/", ""));
    let held = origin.wait();
    admin.edge.terminate();
    eventually("it is not ready", || admin.get("/readyz").0 == 503);
    drop(held);
    assert_eq!(waiting.join().unwrap().status, 200);
    admin.edge.wait_for_end();
}

#[test]
fn a_unix_socket_is_for_its_user() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::TempDir::new().unwrap();
    let socket = dir.path().join("admin.sock");
    let address = free();
    let shown = socket.display();
    let text = format!("listen: {address}\nadmin: 'unix:{shown}'\nsites:\n{SITES}");
    let _edge = Edge::start_whole(address, &text);
    let ask = |host: &str| {
        let url = format!("http://{host}/healthz");
        curl(&["--unix-socket", socket.to_str().unwrap(), &url]).0
    };
    eventually("it listens", || ask("localhost") == 200);
    assert_eq!(ask("evil.example"), 421);
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_drained_server_gets_no_requests_until_it_is_restored() {
    let (one, other) = (Origin::start("one"), Origin::start("other"));
    let (address, own) = (free(), free());
    let sites = format!(
        "  - routes: {{proxy: {{to: ['{}', '{}']}}}}\n",
        one.address, other.address
    );
    let edge = Edge::start_whole(address, &file(address, own, "", &sites));
    let admin = Admin { edge, address: own };
    eventually("it listens", || admin.get("/healthz").0 == 200);
    let body = format!("{{\"endpoint\": \"{}\", \"cluster\": 0}}", one.address);
    let (status, _, answer) = admin.post("/api/endpoints/drain", &body, &[]);
    assert_eq!(status, 200, "{answer}");
    for _ in 0..10 {
        assert_eq!(admin.edge.get("a", "/").body, "other");
    }
    let status = admin.json("/api/status");
    let endpoints = &status["clusters"][0]["endpoints"];
    assert_eq!(endpoints[0]["status"], "drained", "{endpoints}");
    assert_eq!(endpoints[1]["status"], "up", "{endpoints}");
    // A request is counted at its end, which its client may see a little earlier.
    eventually("all are counted", || {
        let status = admin.json("/api/status");
        let route = &status["snapshot"]["sites"][0]["routes"][0];
        status["total"]["requests"]["2xx"] == 10 && route["requests"]["2xx"] == 10
    });
    assert_eq!(admin.post("/api/endpoints/undrain", &body, &[]).0, 200);
    eventually("it gets requests", || {
        admin.edge.get("a", "/").body == "one"
    });
    for (body, expected) in [
        ("{}", 400),
        ("{\"endpoint\": \"10.0.0.1:1\"}", 404),
        (&*body.replace(": 0", ": 7"), 404),
        (&*body.replace(": 0", ": \"x\""), 404),
        (&*body.replace(": 0", ": -1"), 404),
    ] {
        assert_eq!(
            admin.post("/api/endpoints/drain", body, &[]).0,
            expected,
            "{body}"
        );
    }
}

#[test]
fn what_is_stored_is_purged_on_demand() {
    let origin = Origin::start("stored");
    let (address, own) = (free(), free());
    let route = format!(
        "{{proxy: {{to: '{}', cache: {{ttl: 1h}}}}}}",
        origin.address
    );
    let sites = format!("  - routes: {route}\n");
    let edge = Edge::start_whole(address, &file(address, own, "", &sites));
    let admin = Admin { edge, address: own };
    eventually("it listens", || admin.get("/healthz").0 == 200);
    let is_hit = |path: &str| {
        let answer = admin.edge.get("a.test", path);
        let status = answer
            .field("cache-status")
            .expect("Cache-Status")
            .to_owned();
        status.contains("; hit")
    };
    for body in [
        "{\"url\": \"http://a.test/x\"}",
        "{\"prefix\": \"a.test/\"}",
    ] {
        is_hit("/x");
        eventually("it is stored", || is_hit("/x"));
        assert_eq!(admin.json("/api/status")["cache"]["entries"], 1);
        let (status, _, answer) = admin.post("/api/cache/purge", body, &[]);
        assert_eq!((status, answer.trim()), (200, "{\"removed\":1}"));
        assert!(!is_hit("/x"), "{body}");
    }
    for body in ["{}", "{\"url\": 5}", "{\"url\": \"a\", \"prefix\": \"a\"}"] {
        assert_eq!(admin.post("/api/cache/purge", body, &[]).0, 400, "{body}");
    }
}

#[test]
fn metrics_are_told() {
    let admin = start("");
    assert_eq!(admin.edge.get("a", "/").status, 201);
    let (status, head, _) = admin.get("/metrics");
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    eventually("it is counted", || {
        let (_, _, body) = admin.get("/metrics");
        let line = body.lines().find(|line| line.contains("=\"2xx\""));
        line.is_some_and(|line| line.ends_with(" 1"))
    });
}

#[test]
fn top_prints_the_main_figures() {
    let admin = start(", token: 0123456789abcdef");
    let address = admin.address.to_string();
    let top = |more: &[&str]| {
        let output = Command::new(BINARY)
            .args(["top", "--once"])
            .args(more)
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.success(), text)
    };
    assert_eq!(admin.edge.get("a", "/").status, 201);
    let (ok, text) = top(&["--admin", &address, "--token", "0123456789abcdef"]);
    assert!(
        ok && text.contains("serving") && text.contains("SITE"),
        "{text}"
    );
    // A configuration knows both.
    let file = admin.edge.file();
    let (ok, text) = top(&["-c", file.to_str().unwrap()]);
    assert!(ok && text.contains("WORKER"), "{text}");
    let (ok, text) = top(&["--admin", &address]);
    assert!(!ok && text.contains("wants another token"), "{text}");
    let (ok, text) = top(&["--admin", &free().to_string()]);
    assert!(!ok && text.contains("is not reached"), "{text}");
    let (ok, text) = top(&["--admin", "nowhere"]);
    assert!(!ok && text.contains("is no address"), "{text}");
    let output = Command::new(BINARY)
        .args(["top", "--admin", &address])
        .output()
        .unwrap();
    assert!(!output.status.success());
}

#[test]
fn the_last_lines_of_the_log_are_told() {
    let admin = start("");
    let lines = |after: u64| admin.json(&format!("/api/log?after={after}"));
    admin.edge.write_whole("listen: nothing");
    assert_eq!(admin.post("/api/reload", "", &[]).0, 422);
    let mut next = 0;
    eventually("it is told", || {
        let told = lines(0);
        next = told["next"].as_u64().unwrap();
        let mut all = told["lines"].as_array().unwrap().iter();
        all.any(|line| {
            line["level"] == "ERROR" && line["text"].as_str().unwrap().contains("is not taken")
        })
    });
    assert!(lines(next)["next"].as_u64().unwrap() >= next);
    for wrong in ["after=x", "of=x", "x=1"] {
        assert_eq!(admin.get(&format!("/api/log?{wrong}")).0, 400, "{wrong}");
    }
}

#[test]
fn the_last_lines_of_the_access_log_are_told() {
    let admin = start("");
    let lines = |after: u64| admin.json(&format!("/api/log?of=requests&after={after}"));
    assert_eq!(lines(0)["is_written"], false);
    let folder = tempfile::TempDir::new().unwrap();
    let log = folder.path().join("access.log");
    let text = file(admin.edge.address, admin.address, "", SITES);
    let text = format!(
        "access_log: {{to: {}, format: common}}\n{text}",
        log.display()
    );
    admin.edge.write_whole(&text);
    assert_eq!(admin.post("/api/reload", "", &[]).0, 200);
    let mut client = admin.edge.connect();
    for n in 1..=3 {
        assert_eq!(client.ask("GET", "a", &format!("/{n}"), "").status, 201);
    }
    eventually("they are told", || lines(0)["next"] == 3);
    let told = lines(1);
    let told = told["lines"].as_array().unwrap();
    let texts = told.iter().map(|line| line["text"].as_str().unwrap());
    let wanted = ["GET /2 HTTP/1.1", "GET /3 HTTP/1.1"];
    assert!(
        told.len() == 2
            && texts
                .zip(wanted)
                .all(|(text, wanted)| text.contains(wanted)),
        "{told:?}"
    );
}

#[test]
fn the_dashboard_is_made_of_files_of_its_own() {
    let admin = start(", token: 0123456789abcdef");
    let (status, head, page) = admin.get("/");
    assert_eq!(status, 401);
    assert!(head.contains("content-type: text/html"), "{head}");
    assert!(page.contains("<form id=\"login\""), "{page}");
    let bearer = "Authorization: Bearer 0123456789abcdef";
    let (status, _, page) = curl(&["-H", bearer, &admin.url("/")]);
    assert_eq!(status, 200);
    let parts = page.split('"').filter(|part| part.starts_with("/assets/"));
    let mut count = 0;
    for part in parts {
        count += 1;
        assert_eq!(admin.get(part).0, 200, "{part}");
    }
    assert!(count >= 4, "{page}");
    assert!(
        !page.contains("http://") && !page.contains("https://"),
        "{page}"
    );
}

#[test]
fn a_request_is_explained() {
    let admin = start("");
    let answer =
        admin.json("/api/explain?url=http://a/x&method=PUT&header=x-a:%20b&client=10.0.0.1");
    assert_eq!(answer["path"], "/x", "{answer}");
    for query in ["", "?url=/&methd=x", "?url=/&client=x", "?url=/&header=x"] {
        assert_eq!(admin.get(&format!("/api/explain{query}")).0, 400, "{query}");
    }
}
