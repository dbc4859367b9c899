//! What an operator sees of the reverse-proxy: its logs, and what it says when it starts.

use super::certs::{Authority, Leaf};
use super::tools::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_reverse-proxy");

/// Runs it with what is to be logged, or with the default for nothing.
fn with_log(level: &str, dir: &TempDir, args: &[&str]) -> Program {
    let socket = dir.path().join("s");
    let listen = format!("unix:{}", socket.display());
    let log = format!("RUST_LOG={level}");
    let env: &[&str] = match level {
        "" => &["-u", "RUST_LOG"],
        _ => &[&log],
    };
    let args = [env, &[BINARY, "--listen", &listen], args].concat();
    let mut program = Program::spawn_as_written("env", &socket, &args);
    program.wait_until_it_listens();
    program
}

#[test]
fn clients_that_leave_are_not_logged_unless_asked_for() {
    let origin = Origin::start(|mut stream, _| drop(stream.read(&mut [0; 1])));
    for (level, is_logged) in [("", false), ("debug", true)] {
        let dir = TempDir::new().unwrap();
        let mut program = with_log(level, &dir, &["--upstream", &origin.address()]);
        for _ in 0..20 {
            let mut client = program.connect();
            client
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
        }
        assert_eq!(status(&program.ask("GET", "/", "Host: b\r\n", "")), "400");
        program.signal(libc::SIGTERM);
        assert_eq!(program.wait(), Some(0));
        let logged = program.rest_of_log();
        assert_eq!(logged.contains("fail to proxy"), is_logged, "{logged}");
        assert!(is_logged || logged.is_empty(), "{logged}");
    }
}

#[test]
fn lines_of_one_kind_are_summed_up() {
    let dir = TempDir::new().unwrap();
    let nobody = format!("unix:{}", dir.path().join("nobody").display());
    let mut program = with_log("", &dir, &["--upstream", &nobody]);
    for _ in 0..100 {
        assert_eq!(status(&program.get("/")), "502");
    }
    program.signal(libc::SIGTERM);
    assert_eq!(program.wait(), Some(0));
    let logged = program.rest_of_log();
    let errors = logged.lines().filter(|line| line.contains("fail to proxy"));
    // More than one period, on a slow machine.
    assert!((6..50).contains(&errors.count()), "{logged}");
    assert!(
        logged.contains(" more like this: fail to proxy: "),
        "{logged}"
    );
}

/// Here it is full from the start.
#[test]
fn a_log_that_nobody_reads_stops_no_worker() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("s");
    let (mut read, mut log) = UnixStream::pair().unwrap();
    log.set_nonblocking(true).unwrap();
    while log.write(&[b'.'; 4096]).is_ok() {}
    log.set_nonblocking(false).unwrap();
    let listen = format!("unix:{}", socket.display());
    let nobody = format!("unix:{}", dir.path().join("nobody").display());
    let mut program = std::process::Command::new(BINARY)
        .args(["--listen", &listen, "--upstream", &nobody, "--threads", "1"])
        .env("RUST_LOG", "debug,pingora_core=warn")
        .env("RUNTIME_DIRECTORY", dir.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::os::fd::OwnedFd::from(log))
        .spawn()
        .unwrap();
    eventually("the program listens", || {
        UnixStream::connect(&socket).is_ok()
    });
    for _ in 0..100 {
        let mut client = connect(&socket);
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        client.write_all(request.as_bytes()).unwrap();
        assert_eq!(status(&read_to_end(client)), "502");
    }
    // Once somebody reads, it is all there.
    read.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("fail to proxy") {
        let mut part = [0; 65536];
        let size = read.read(&mut part).unwrap();
        assert_ne!(size, 0, "it ended");
        text.extend(part[..size].iter().filter(|byte| **byte != b'.'));
    }
    program.kill().unwrap();
    program.wait().unwrap();
}

#[test]
fn each_request_has_its_line_in_the_access_log() {
    let dir = TempDir::new().unwrap();
    let origin = Origin::saying("hello");
    let file = dir.path().join("access");
    let args = [
        "--upstream",
        &origin.address(),
        "--access-log",
        file.to_str().unwrap(),
    ];
    let mut program = with_log("", &dir, &args);
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    program.ask("POST", "/a?b", "User-Agent: me\r\n", "x");
    eventually("the line is written", || read().ends_with('\n'));
    let line = read();
    assert!(line.starts_with("- - - ["), "{line}");
    assert!(
        line.contains("\"POST /a?b HTTP/1.1\" 200 5 \"-\" \"me\" "),
        "{line}"
    );
    assert!(line.contains("origin"), "who answered: {line}");
    // At the end nothing is left behind.
    for _ in 0..100 {
        program.get("/");
    }
    program.signal(libc::SIGTERM);
    assert_eq!(program.wait(), Some(0));
    assert_eq!(read().lines().count(), 101);

    let nobody = format!("unix:{}", dir.path().join("nobody").display());
    let mut program = with_log("", &dir, &["--upstream", &nobody, "--access-log", "-"]);
    assert!(program.line().starts_with("listening on "));
    assert!(program.line().starts_with("try: "));
    let refused = program.get("/");
    assert!(
        refused.contains("\r\nServer: reverse-proxy\r\n"),
        "{refused}"
    );
    let line = program.line();
    assert!(line.contains("\"GET / HTTP/1.1\" 502 0 "), "{line}");
}

#[test]
fn it_says_that_it_listens_when_it_does() {
    let dir = TempDir::new().unwrap();
    for _ in 0..5 {
        let socket = dir.path().join("s");
        let mut program = Program::spawn(BINARY, &socket, &[]);
        assert!(program.line().starts_with("listening on "));
        assert!(UnixStream::connect(&socket).is_ok());
    }
}

#[test]
fn a_certificate_that_is_not_valid_is_told_of() {
    if !edge::HAS_TLS {
        return;
    }
    let authority = Authority::new();
    let dir = TempDir::new().unwrap();
    for (years, words) in [
        ((2020, 2021), "has expired on 2021-01-01"),
        ((2098, 2099), "is not valid before 2098-01-01"),
    ] {
        let leaf = Leaf {
            years,
            ..Leaf::default()
        };
        let pair = authority.issue("pair", &leaf);
        let tls = ["--tls-cert", &pair.cert, "--tls-key", &pair.key];
        let (code, _, stderr) = run(BINARY, &[&tls[..], &["-t"]].concat());
        assert_eq!(code, Some(0));
        assert!(stderr.contains(words), "{stderr}");
        let mut program = with_log("", &dir, &tls);
        program.wait_for_log(words);
    }
    let pair = authority.issue("pair", &Leaf::default());
    let tls = ["--tls-cert", &pair.cert, "--tls-key", &pair.key];
    let (_, stdout, stderr) = run(BINARY, &[&tls[..], &["-t"]].concat());
    assert!(stdout.contains("is valid until 2099-01-01"), "{stdout}");
    assert_eq!(stderr, "");
    // And when it is exchanged: one that cannot be used, and one that has expired.
    let mut program = with_log("", &dir, &tls);
    std::fs::write(&pair.cert, "nothing").unwrap();
    program.wait_for_log("the old one stays in use");
    let leaf = Leaf {
        years: (2020, 2021),
        ..Leaf::default()
    };
    authority.issue("pair", &leaf);
    program.wait_for_log("has expired on 2021-01-01");
}

#[test]
fn what_cannot_be_used_names_its_flag_or_setting() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (empty, conf) = (at("empty.pem"), at("conf.yaml"));
    std::fs::write(&empty, "").unwrap();
    let with = |settings: &str| {
        std::fs::write(&conf, settings).unwrap();
        run(BINARY, &["-t", "--conf", &conf])
    };
    let no_ca = [
        "--upstream",
        "https://127.0.0.1:1",
        "--upstream-ca",
        &empty,
        "-t",
    ];
    let mut refused = vec![
        (
            run(BINARY, &["--listen", "localhost:80", "-t"]),
            "--listen: bad address",
        ),
        (
            run(BINARY, &["--upstream", "x", "-t"]),
            "--upstream: bad address 'x'",
        ),
        (
            run(BINARY, &["--upstream", "no.such.name.invalid:80", "-t"]),
            "--upstream: cannot look up",
        ),
        (
            run(BINARY, &["--access-log", "/no/such/file", "-t"]),
            "--access-log: cannot write",
        ),
        (
            with("user: no-such-user\n"),
            "user: there is no user no-such-user",
        ),
        (
            with("group: no-such-group\n"),
            "group: there is no group no-such-group",
        ),
        (
            with("pid_file: /no/such/pid\n"),
            "pid_file: cannot write /no/such/pid",
        ),
        (
            with("error_log: /no/such/log\n"),
            "error_log: cannot write /no/such/log",
        ),
        (
            with("connect_timeout: soon\n"),
            "connect_timeout: bad time 'soon'",
        ),
    ];
    if edge::HAS_TLS {
        let what = format!("--upstream-ca: no certificate in {empty}");
        let (code, stdout, stderr) = run(BINARY, &no_ca);
        assert!(stderr.contains(&what), "{stderr}");
        refused.push(((code, stdout, stderr), "--upstream-ca"));
    }
    for ((code, _, stderr), names) in refused {
        assert_eq!(code, Some(1), "{names}: {stderr}");
        assert!(stderr.contains(names), "{names}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    let (code, _, stderr) = run(BINARY, &["--connect-timeout", "soon"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--connect-timeout"), "{stderr}");
    for (settings, warning) in [
        ("thread: 3\n", "unknown setting thread: is threads meant?"),
        (
            "threads: 1\nlisteners: [a]\n",
            "unknown setting listeners: use the flag --listen",
        ),
        (
            "threads: 1\nupstreams: [a]\n",
            "unknown setting upstreams: use the flag --upstream",
        ),
        (
            "threads: 1\nmy_own: 1\n",
            "unknown setting my_own is not heeded",
        ),
    ] {
        let (code, _, stderr) = with(settings);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.contains(warning), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn a_second_daemon_leaves_the_pid_file_of_the_first() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let conf = at("conf.yaml");
    std::fs::write(&conf, format!("pid_file: {}\n", at("pid"))).unwrap();
    let daemon = |socket: &str| {
        let args = ["--daemon", "--conf", &conf];
        let mut program = Program::spawn(BINARY, &dir.path().join(socket), &args);
        (program.wait(), program.rest_of_log())
    };
    let (code, log) = daemon("a");
    assert_eq!(code, Some(0), "{log}");
    let mut pid = None;
    eventually("the daemon writes its process number", || {
        let text = std::fs::read_to_string(at("pid")).unwrap_or_default();
        pid = text.trim().parse().ok();
        pid.is_some()
    });
    let first = Daemon(pid.unwrap());
    let (code, log) = daemon("b");
    assert_eq!(code, Some(1));
    assert!(log.contains(&format!("process {} runs", first.0)), "{log}");
    let text = std::fs::read_to_string(at("pid")).unwrap();
    assert_eq!(text.trim(), first.0.to_string());
}
