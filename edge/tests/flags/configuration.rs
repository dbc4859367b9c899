//! Flags as a configuration: what tells of it, and its exchange while requests are served.

use super::tools::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_reverse-proxy");

#[test]
fn the_configuration_that_flags_make_can_be_seen_and_used() {
    let args = [
        "--listen",
        "127.0.0.1:8081",
        "--upstream",
        "http://10.0.0.1:90",
        "--upstream",
        "10.0.0.2",
    ];
    let (code, _, stderr) = run(BINARY, &[&args[..], &["adapt"]].concat());
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains("--upstream: bad address '10.0.0.2'"),
        "{stderr}"
    );
    let args = [
        &args[..4],
        &["--upstream", "10.0.0.1:90", "--read-timeout", "off"],
    ]
    .concat();
    let (code, text, stderr) = run(BINARY, &[&args[..], &["adapt"]].concat());
    assert_eq!((code, &*stderr), (Some(0), ""));
    for part in ["address: 10.0.0.1:90\n", "weight: 2\n", "read: \"off\"\n"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("edge.yaml");
    std::fs::write(&file, &text).unwrap();
    let (code, again, stderr) = run(BINARY, &["-c", file.to_str().unwrap(), "adapt"]);
    assert_eq!((code, &*stderr, again), (Some(0), "", text));
    let explain = ["explain", "GET", "http://a.test/x"];
    let (code, said, stderr) = run(BINARY, &[&args[..], &explain].concat());
    assert_eq!((code, &*stderr), (Some(0), ""));
    assert!(said.contains("10.0.0.1:90"), "{said}");
    let (code, _, stderr) = run(BINARY, &["adapt"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--upstream"), "{stderr}");
}

#[test]
fn a_file_without_a_setting_is_a_configuration_and_no_demo_is_served_in_its_place() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("edge.yaml");
    let name = file.to_str().unwrap();
    let pipe = Command::new("mkfifo").arg(dir.path().join("pipe")).status();
    assert!(pipe.unwrap().success());
    for (text, names) in [
        // It would be waited for until somebody writes into it.
        (
            &b"listen: '${file:pipe}'\n"[..],
            "it is a pipe, which can be read only once",
        ),
        (b"", "the key `listen` is missing"),
        (b"# nothing\n", "the key `listen` is missing"),
        (b"http: {routers: {}}\n", "unknown key `http`"),
        (
            b"server {\n  listen 80;\n}\n",
            "a configuration is a map of keys",
        ),
        (b"site: caf\xe9\n", "it is no UTF-8 (line 1)"),
    ] {
        std::fs::write(&file, text).unwrap();
        let (code, stdout, stderr) = run(BINARY, &["-t", "-c", name]);
        assert_eq!((code, &*stdout), (Some(1), ""), "{stderr}");
        assert!(stderr.contains(names), "{names} in {stderr}");
    }
    std::fs::write(&file, "threads: 1\n").unwrap();
    assert_eq!(run(BINARY, &["-t", "-c", name]).0, Some(0));
    std::fs::write(&file, "").unwrap();
    let upstream = ["-t", "-c", name, "--upstream", "127.0.0.1:90"];
    assert_eq!(run(BINARY, &upstream).0, Some(0));
}

#[test]
fn what_cannot_stand_together_names_the_flags() {
    for (args, names) in [
        (
            &["--admin", "0.0.0.0:9900"][..],
            "--admin: bad address '0.0.0.0:9900'",
        ),
        (&["--admin", "x"], "--admin: bad address 'x'"),
        (
            &["--admin", "127.0.0.1:1", "--listen", "127.0.0.1:1"],
            "--admin: 127.0.0.1:1 is listened on",
        ),
        (
            &["--listen", "127.0.0.1:0"],
            "--listen: bad address '127.0.0.1:0': the port is 0",
        ),
        (
            &["--upstream", "http://a:1", "--upstream", "https://a:1"],
            "--upstream: a:1 is given with TLS and without",
        ),
    ] {
        if args.iter().any(|arg| arg.starts_with("https:")) && !edge::HAS_TLS {
            continue;
        }
        let (code, stdout, stderr) = run(BINARY, &[args, &["-t"]].concat());
        assert_eq!((code, &*stdout), (Some(1), ""), "{args:?}: {stderr}");
        assert!(stderr.contains(names), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

/// The only time limit makes the difference: a request of a silent origin ends, or not.
#[test]
fn a_changed_file_of_settings_is_taken_while_requests_are_served() {
    let silent = Origin::start(|mut stream, _| drop(stream.read_to_end(&mut Vec::new())));
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (conf, new) = (at("conf.yaml"), at("new"));
    std::fs::write(&conf, "response_timeout: 1h\nread_timeout: 1h\n").unwrap();
    let (socket, upstream) = (dir.path().join("s"), silent.address());
    let listen = format!("unix:{}", socket.display());
    let args = ["RUST_LOG=edge=info", BINARY, "--listen", &listen];
    let args = [&args[..], &["--conf", &conf, "--upstream", &upstream]].concat();
    let mut program = Program::spawn_as_written("env", &socket, &args);
    program.wait_until_it_listens();
    let mut kept = program.connect();
    std::fs::write(&new, "response_timeout: soon\n").unwrap();
    std::fs::rename(&new, &conf).unwrap();
    program.signal(libc::SIGHUP);
    program.wait_for_log("response_timeout: bad time 'soon'");
    std::fs::write(&new, "response_timeout: 100ms\n").unwrap();
    std::fs::rename(&new, &conf).unwrap();
    program.signal(libc::SIGHUP);
    // Until then a request would wait for an hour.
    program.wait_for_log("SIGHUP: the configuration is taken");
    kept.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    assert_eq!(status(&read_to_end(kept)), "504");
}

#[test]
fn the_admin_interface_tells_of_flags_too() {
    let origin = Origin::saying("hello");
    let dir = TempDir::new().unwrap();
    let admin = dir.path().join("admin");
    let args = [
        "--upstream",
        &origin.address(),
        "--admin",
        &format!("unix:{}", admin.display()),
    ];
    let program = Program::start(BINARY, &dir.path().join("s"), &args);
    assert!(program.get("/").ends_with("hello"));
    eventually("the admin interface listens", || {
        UnixStream::connect(&admin).is_ok()
    });
    let ask = |method: &str, path: &str| {
        let mut stream = connect(&admin);
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        read_to_end(stream)
    };
    assert_eq!(status(&ask("GET", "/healthz")), "200");
    let config = ask("GET", "/api/config");
    assert!(config.contains(&origin.address()), "{config}");
    assert_eq!(status(&ask("POST", "/api/reload")), "200");
}

/// It is down until its name is found, which it never is here.
#[test]
fn a_name_that_is_not_found_keeps_nobody_from_starting() {
    let origin = Origin::saying("hello");
    let dir = TempDir::new().unwrap();
    let args = ["--upstream", "no.such.name.invalid:80"];
    let alone = Program::start(BINARY, &dir.path().join("alone"), &args);
    assert_eq!(status(&alone.get("/")), "502");
    let good = origin.address();
    let args = [&args[..], &["--upstream", &good]].concat();
    let program = Program::start(BINARY, &dir.path().join("both"), &args);
    for _ in 0..4 {
        assert!(program.get("/").ends_with("hello"));
    }
}

#[test]
fn upstreams_with_tls_and_in_the_clear_stand_side_by_side() {
    use super::certs::{Authority, Leaf};
    if !edge::HAS_TLS {
        return;
    }
    let authority = Authority::new();
    let leaf = Leaf {
        names: &["localhost"],
        ..Leaf::default()
    };
    let pair = authority.issue("pair", &leaf);
    let (dir, back) = (TempDir::new().unwrap(), free());
    let (listen, origin) = (back.to_string(), Origin::saying("clear"));
    let tls = ["--tls-cert", &pair.cert, "--tls-key", &pair.key];
    let args = [&["--listen", &listen][..], &tls].concat();
    let _back = Program::start(BINARY, &dir.path().join("back"), &args);
    eventually("it listens there too", || TcpStream::connect(back).is_ok());
    let (secure, clear) = (format!("https://{back}"), origin.address());
    let args = ["--upstream", &secure, "--upstream", &clear];
    let ca = authority.file();
    let trust = ["--upstream-ca", &ca, "--upstream-sni", "localhost"];
    let args = [&args[..], &trust, &["--threads", "1"]].concat();
    let front = Program::start(BINARY, &dir.path().join("front"), &args);
    let answers: Vec<_> = (0..20).map(|_| front.get("/")).collect();
    for part in ["demo origin", "clear"] {
        assert!(
            answers.iter().any(|answer| answer.contains(part)),
            "{part}: {answers:?}"
        );
    }
}

#[test]
fn the_binary_is_exchanged_by_the_address_that_it_listens_at() {
    let origin = Origin::saying("hello");
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let conf = at("conf.yaml");
    let settings = format!("upgrade_sock: {}\nshutdown_drain_seconds: 0\n", at("meet"));
    std::fs::write(&conf, settings).unwrap();
    let socket = dir.path().join("s");
    let listen = format!("unix:{}", socket.display());
    let upstream = origin.address();
    let args = [
        "--conf",
        &conf,
        "--listen",
        &listen,
        "--upstream",
        &upstream,
    ];
    let mut old = Command::new(BINARY)
        .args(args)
        .env("RUNTIME_DIRECTORY", dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("its control socket is there", || {
        let names = std::fs::read_dir(dir.path()).unwrap();
        let mut names = names.map(|entry| entry.unwrap().file_name());
        names.any(|name| name.to_string_lossy().starts_with("reverse-proxy-"))
    });
    let output = Command::new(BINARY)
        .args(args)
        .args(["upgrade", "--wait"])
        .env("RUNTIME_DIRECTORY", dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let new = said.split(' ').nth(1).and_then(|id| id.parse().ok());
    let _new = Daemon(new.unwrap_or_else(|| panic!("{said} {:?}", output.stderr)));
    assert!(old.wait().unwrap().success());
    let mut client = connect(&socket);
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    assert!(read_to_end(client).ends_with("hello"));
}
