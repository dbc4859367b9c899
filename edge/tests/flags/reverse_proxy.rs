//! The reverse-proxy.

use super::tools::*;
use std::net::TcpListener;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_reverse-proxy");

#[test]
fn it_has_something_to_show_without_any_upstream() {
    let dir = TempDir::new().unwrap();
    let mut program = Program::start(BINARY, &dir.path().join("s"), &["--threads", "1"]);
    let listening = program.line();
    assert!(listening.starts_with("listening on unix:"), "{listening}");
    assert!(listening.contains("the demo origin"), "{listening}");
    assert!(program.line().starts_with("try: curl "));

    assert_eq!(status(&program.get("/")), "200");
    assert_eq!(status(&program.get("/status/418")), "418");
    assert_eq!(status(&program.get("/status/204")), "204");
    assert_eq!(status(&program.get("/status/99")), "404");
    assert_eq!(status(&program.get("/nowhere")), "404");
    let bytes = program.get("/bytes/100000");
    assert_eq!(
        bytes.split_once("\r\n\r\n").map(|(_, body)| body.len()),
        Some(100_000)
    );
    let echo = program.ask("POST", "/echo", "Content-Type: text/plain\r\n", "hello");
    assert!(echo.ends_with("\r\n\r\nhello"), "{echo}");
}

#[test]
fn upstreams_take_turns() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let dir = TempDir::new().unwrap();
    let args = [
        "--threads",
        "1",
        "--upstream",
        &a.address(),
        "--upstream",
        &b.address(),
    ];
    let program = Program::start(BINARY, &dir.path().join("s"), &args);
    let answers: Vec<_> = (0..6)
        .filter_map(|_| program.get("/").chars().last())
        .collect();
    assert!(answers == ['a', 'b', 'a', 'b', 'a', 'b'] || answers == ['b', 'a', 'b', 'a', 'b', 'a']);
}

#[test]
fn it_listens_at_every_address_it_is_given() {
    let origin = Origin::saying("hello");
    let dir = TempDir::new().unwrap();
    let second = dir.path().join("second");
    let listen = format!("unix:{}", second.display());
    let args = ["--listen", &listen, "--upstream", &origin.address()];
    let program = Program::start(BINARY, &dir.path().join("first"), &args);
    assert!(program.get("/").ends_with("hello"));
    eventually("the second address listens", || {
        std::os::unix::net::UnixStream::connect(&second).is_ok()
    });
}

#[test]
fn an_upstream_that_cannot_be_reached_is_a_502() {
    let dir = TempDir::new().unwrap();
    let nobody = format!("unix:{}", dir.path().join("nobody").display());
    let program = Program::start(BINARY, &dir.path().join("s"), &["--upstream", &nobody]);
    assert_eq!(status(&program.get("/")), "502");
}

#[test]
fn an_upstream_that_cannot_be_reached_is_passed_over_for_one_that_can() {
    let origin = Origin::saying("hello");
    let dir = TempDir::new().unwrap();
    let nobody = format!("unix:{}", dir.path().join("nobody").display());
    let args = ["--upstream", &nobody, "--upstream", &origin.address()];
    let program = Program::start(BINARY, &dir.path().join("s"), &args);
    for _ in 0..4 {
        assert!(program.get("/").ends_with("hello"));
    }
}

#[test]
fn what_keeps_it_from_starting_is_told_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let dir = TempDir::new().unwrap();
    let bad_conf = dir.path().join("bad.yaml");
    std::fs::write(&bad_conf, "threads: many\n").unwrap();
    let bad_conf = bad_conf.to_str().unwrap();
    for (args, names) in [
        (["--listen", "nonsense"], "'nonsense'"),
        (["--listen", "localhost:80"], "'localhost:80'"),
        (["--listen", &taken], taken.as_str()),
        (["--upstream", "1.2.3.4"], "'1.2.3.4'"),
        (["--threads", "0"], "--threads"),
        (["--conf", "/no/such/file"], "/no/such/file"),
        (["--conf", bad_conf], bad_conf),
        (["-t", "--upstream=x"], "'x'"),
    ] {
        let (code, stdout, stderr) = run(BINARY, &args);
        assert_eq!(code, Some(1), "{args:?}: {stderr}");
        assert_eq!(stdout, "", "{args:?}");
        assert!(stderr.starts_with("reverse-proxy: "), "{args:?}: {stderr}");
        assert!(stderr.contains(names), "{args:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    }
}

#[test]
fn good_settings_pass_the_test_and_nothing_is_started() {
    let dir = TempDir::new().unwrap();
    let conf = dir.path().join("good.yaml");
    std::fs::write(&conf, "threads: 3\nmy_own_key: 1\n").unwrap();
    let (code, stdout, _) = run(BINARY, &["-t", "-c", conf.to_str().unwrap()]);
    assert_eq!(code, Some(0));
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
}

#[test]
fn help_names_every_flag_and_its_default() {
    let (code, stdout, _) = run(BINARY, &["--help"]);
    assert_eq!(code, Some(0));
    for text in [
        "--listen <ADDR>",
        "127.0.0.1:8080",
        "--upstream <ADDR>",
        "--threads <N>",
        "--conf <FILE>",
        "--work-stealing",
        "--tls-cert <FILE>",
        "--tls-key <FILE>",
        "--h2c",
        "--upstream-tls",
        "--upstream-h2",
        "--upstream-ca <FILE>",
        "--upstream-sni <NAME>",
        "-d, --daemon",
        "-u, --upgrade",
        "-t, --test",
        "SIGTERM",
    ] {
        assert!(stdout.contains(text), "{text} is not in {stdout}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn it_takes_no_huge_pages() {
    let dir = TempDir::new().unwrap();
    let proxy = Program::start(BINARY, &dir.path().join("s"), &[]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    // Kernels before 5.0 do not tell.
    let told = status.lines().find_map(|l| l.strip_prefix("THP_enabled:"));
    assert_eq!(told.map_or("0", str::trim), "0");
}

#[test]
fn sigterm_ends_it_well() {
    let origin = Origin::saying("hello");
    let dir = TempDir::new().unwrap();
    let conf = dir.path().join("conf.yaml");
    std::fs::write(
        &conf,
        "grace_period_seconds: 1\ngraceful_shutdown_timeout_seconds: 1\n",
    )
    .unwrap();
    let args = [
        "--upstream",
        &origin.address(),
        "--conf",
        conf.to_str().unwrap(),
    ];
    let mut program = Program::start(BINARY, &dir.path().join("s"), &args);
    assert!(program.get("/").ends_with("hello"));
    program.signal(libc::SIGTERM);
    assert_eq!(program.wait(), Some(0));
}

#[test]
fn a_daemon_serves_with_its_demo_origin_too() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let conf = at("conf.yaml");
    let settings = format!("pid_file: {}\nerror_log: {}\n", at("pid"), at("log"));
    std::fs::write(&conf, settings).unwrap();
    let socket = dir.path().join("s");
    let mut parent = Program::spawn(BINARY, &socket, &["--daemon", "--conf", &conf]);
    assert_eq!(parent.wait(), Some(0));
    let mut pid = None;
    eventually("the daemon writes its process number", || {
        pid = std::fs::read_to_string(at("pid"))
            .ok()
            .and_then(|text| text.trim().parse().ok());
        pid.is_some()
    });
    let _daemon = Daemon(pid.unwrap());
    eventually("the daemon listens", || {
        std::os::unix::net::UnixStream::connect(&socket).is_ok()
    });
    assert_eq!(status(&parent.get("/")), "200");
}
