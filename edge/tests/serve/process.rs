//! The settings of the process.

use super::tools::*;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use tempfile::TempDir;

fn file(dir: &TempDir, server: &str) -> String {
    let file = dir.path().join("edge.yaml");
    let text = format!(
        "listen: {}\nsites: {{routes: {{respond: 204}}}}\nserver: {server}\n",
        free()
    );
    std::fs::write(&file, text).unwrap();
    file.to_string_lossy().into_owned()
}

/// Returns the line that it prints when it listens.
fn first_line(dir: &TempDir, args: &[&str]) -> String {
    let mut child = Command::new(BINARY)
        .args(args)
        .env("RUNTIME_DIRECTORY", dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    line
}

#[test]
fn the_file_says_how_many_threads_there_are_and_a_flag_says_it_louder() {
    let dir = TempDir::new().unwrap();
    let file = file(&dir, "{threads: 3, work_stealing: true}");
    let line = first_line(&dir, &["-c", &file]);
    assert!(line.contains(", 3 worker thread(s)"), "{line}");
    let line = first_line(&dir, &["-c", &file, "--threads", "2"]);
    assert!(line.contains(", 2 worker thread(s)"), "{line}");
}

#[test]
fn what_cannot_be_used_is_refused() {
    let dir = TempDir::new().unwrap();
    for (server, why) in [
        ("{user: no-such-user}", "there is no user no-such-user"),
        ("{pid_file: /no/such/pid}", "cannot write /no/such/pid"),
        ("{threads: 70000}", "`server`: threads: "),
    ] {
        let file = file(&dir, server);
        let said = Command::new(BINARY)
            .args(["-t", "-c", &file])
            .output()
            .unwrap();
        let stderr = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(1), "{server}: {stderr}");
        assert!(stderr.contains(why), "{server}: {stderr}");
    }
}

/// The service could not write to what a check of another user makes.
#[test]
fn a_check_makes_no_access_log() {
    let dir = TempDir::new().unwrap();
    let logs = dir.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let config = dir.path().join("edge.yaml");
    let check = |log: &str, args: &[&str]| {
        let log = logs.join(log).display().to_string();
        let text = format!(
            "listen: 127.0.0.1:80\nsites: {{routes: {{respond: 204}}}}\naccess_log: {{to: '{log}'}}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(BINARY);
        command.env("RUNTIME_DIRECTORY", dir.path());
        let said = command.args(args).arg("-c").arg(&config).output().unwrap();
        (said.status.code(), String::from_utf8(said.stderr).unwrap())
    };
    assert_eq!(check("log", &["-t"]), (Some(0), String::new()));
    let (_, why) = check("log", &["upgrade"]);
    assert!(why.contains("is there to upgrade"), "{why}");
    assert_eq!(std::fs::read_dir(&logs).unwrap().count(), 0);
    let (code, why) = check("none/log", &["-t"]);
    assert_eq!(code, Some(1));
    assert!(
        why.contains("`access_log`: ") && why.contains("no directory"),
        "{why}"
    );
    // One that is there stays as it is.
    std::fs::write(logs.join("log"), "a line\n").unwrap();
    assert_eq!(check("log", &["-t"]), (Some(0), String::new()));
    assert_eq!(std::fs::read(logs.join("log")).unwrap(), b"a line\n");
}

#[test]
fn other_settings_take_a_restart() {
    let address = free();
    let text = |threads: u8| {
        format!("listen: {address}\nsites: {{routes: {{respond: 204}}}}\nserver: {{threads: {threads}}}\n")
    };
    let mut edge = Edge::start_whole(address, &text(2));
    edge.write_whole(&text(3));
    edge.hang_up();
    edge.wait_for_log("`server`: other settings of the process take a restart");
    assert_eq!(edge.get("a", "/").status, 204);
}

#[test]
fn a_daemon_serves_the_file_and_reads_it_again() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let address = free();
    let text = |status: u16| {
        format!(
            "listen: {address}\nsites: {{routes: {{respond: {status}}}}}\nserver: {{daemon: true, pid_file: {}, error_log: {}}}\n",
            at("pid"),
            at("log")
        )
    };
    let (file, new) = (at("edge.yaml"), at("new"));
    std::fs::write(&file, text(201)).unwrap();
    // Seen from the folder of the one who starts it, and a daemon runs in another one.
    let mut command = Command::new(BINARY);
    let started = command
        .args(["-c", "edge.yaml"])
        .env("RUNTIME_DIRECTORY", dir.path())
        .current_dir(dir.path())
        .status();
    assert!(started.unwrap().success());
    let mut pid = None;
    eventually("it writes its process id", || {
        let text = std::fs::read_to_string(at("pid")).unwrap_or_default();
        pid = text.trim().parse::<i32>().ok();
        pid.is_some()
    });
    let ask = || {
        let stream = TcpStream::connect(address).ok()?;
        Some(Client::of(stream).ask("GET", "a", "/", "").status)
    };
    eventually("it serves", || ask() == Some(201));
    std::fs::write(&new, text(202)).unwrap();
    std::fs::rename(&new, &file).unwrap();
    eventually("it takes the new file", || ask() == Some(202));
    // SAFETY: kill takes two numbers and touches no memory of this process.
    #[allow(unsafe_code)]
    let sent = unsafe { libc::kill(pid.unwrap(), libc::SIGKILL) };
    assert_eq!(sent, 0);
}
