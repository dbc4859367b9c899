//! What the settings of a daemon make of it.

use super::tools::*;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_reverse-proxy");

/// A process that is not a child. It ends with the test, whatever its outcome.
struct Daemon(i32);

impl Daemon {
    fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.0.to_string()).join(file)
    }

    /// The first number behind a name of `/proc/PID/status`.
    fn status(&self, name: &str) -> u32 {
        let status = std::fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let ids = line.unwrap().trim_start_matches(':').split_whitespace();
        ids.map(|id| id.parse().unwrap()).next().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        send_signal(self.0, libc::SIGINT);
    }
}

#[test]
fn a_daemon_runs_as_its_settings_say() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let work = dir.path().canonicalize().unwrap();
    // Only root may become somebody else.
    let is_root = std::fs::metadata("/proc/self")
        .map(|of_process| std::os::unix::fs::MetadataExt::uid(&of_process) == 0)
        .unwrap();
    let somebody = if is_root {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(dir.path(), open).unwrap();
        "user: \"65534\"\ngroup: \"0\"\n"
    } else {
        ""
    };
    let settings = format!(
        "pid_file: {}\nerror_log: {}\nworking_directory: {}\ndaemon: true\n\
         daemon_wait_for_ready: true\n{somebody}",
        at("pid"),
        at("log"),
        work.display()
    );
    std::fs::write(at("conf.yaml"), settings).unwrap();
    let socket = dir.path().join("s");
    let args = ["--conf", &at("conf.yaml"), "--access-log", &at("access")];
    let mut parent = Program::spawn(BINARY, &socket, &args);
    assert_eq!(parent.wait(), Some(0));
    // The command returned, so all of this is there without a wait.
    UnixStream::connect(&socket).expect("it listens");
    let pid = std::fs::read_to_string(at("pid")).unwrap();
    let daemon = Daemon(pid.trim().parse().unwrap());
    let link = |file| std::fs::read_link(daemon.proc(file)).unwrap();
    assert_eq!(link("cwd"), work);
    assert_eq!(link("fd/2"), work.join("log"));
    assert_eq!(link("fd/1"), Path::new("/dev/null"));
    // By a thread that is the daemon's own.
    assert_eq!(status(&parent.get("/")), "200");
    eventually("the line is written", || {
        std::fs::read_to_string(at("access"))
            .unwrap()
            .contains("\"GET / ")
    });
    if is_root {
        assert_eq!((daemon.status("Uid"), daemon.status("Gid")), (65534, 0));
    }
}
