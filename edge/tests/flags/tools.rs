//! A program that runs for a test, and connections to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Far above what a slow machine needs: reached only when a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "did not happen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns an address that is free at the moment. Nobody else has its IP address: the kernel gives a port again that
/// nobody listens at yet.
pub fn free() -> SocketAddr {
    static GIVEN: AtomicU8 = AtomicU8::new(0);
    let number = GIVEN.fetch_add(1, Ordering::Relaxed) + 1;
    let listener = TcpListener::bind((Ipv4Addr::new(127, 78, 0, number), 0)).unwrap();
    listener.local_addr().unwrap()
}

/// Waits until somebody listens at an address: a program that listens at its Unix socket is about to.
#[track_caller]
pub fn wait_for_listener(address: SocketAddr) {
    eventually("it listens at the address", || {
        TcpStream::connect(address).is_ok()
    });
}

/// A running program that listens at a Unix socket. Dropping it ends it.
pub struct Program {
    child: Child,
    socket: PathBuf,
    stderr: BufReader<ChildStderr>,
    stdout: BufReader<ChildStdout>,
}

impl Program {
    /// Runs `binary --listen unix:SOCKET ARGS`, and waits until it listens.
    #[track_caller]
    pub fn start(binary: &str, socket: &Path, args: &[&str]) -> Self {
        let mut program = Program::spawn(binary, socket, args);
        program.wait_until_it_listens();
        program
    }

    /// Runs it, and does not wait.
    pub fn spawn(binary: &str, socket: &Path, args: &[&str]) -> Self {
        let listen = format!("unix:{}", socket.display());
        Program::spawn_as_written(binary, socket, &[&["--listen", &listen], args].concat())
    }

    /// Runs `binary ARGS`, of which one tells it to listen at `socket`, and does not wait.
    pub fn spawn_as_written(binary: &str, socket: &Path, args: &[&str]) -> Self {
        let mut child = Command::new(binary)
            .args(args)
            // Its control socket goes with the folder, also when it is killed.
            .env("RUNTIME_DIRECTORY", socket.parent().unwrap())
            .env("RUST_LOG", "warn,pingora_core::server::signals=info")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Program {
            child,
            socket: socket.into(),
            stderr,
            stdout,
        }
    }

    /// Waits until somebody accepts at its socket.
    #[track_caller]
    pub fn wait_until_it_listens(&mut self) {
        eventually("the program listens", || {
            assert_eq!(self.child.try_wait().unwrap(), None, "it ended");
            UnixStream::connect(&self.socket).is_ok()
        });
    }

    /// Its process number.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// Reads what it logs until a line has `text`.
    #[track_caller]
    pub fn wait_for_log(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(
                self.stderr.read_line(&mut line).unwrap(),
                0,
                "it ended without {text:?}"
            );
        }
    }

    /// All that it logs until its end.
    pub fn rest_of_log(&mut self) -> String {
        let mut log = String::new();
        self.stderr.read_to_string(&mut log).unwrap();
        log
    }

    /// A new connection to it.
    #[track_caller]
    pub fn connect(&self) -> UnixStream {
        connect(&self.socket)
    }

    /// What it answers to a request that stands alone on its connection.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, fields: &str, body: &str) -> String {
        let mut stream = self.connect();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
             Content-Length: {}\r\n{fields}\r\n{body}",
            body.len()
        )
        .unwrap();
        read_to_end(stream)
    }

    /// What it answers to a GET.
    #[track_caller]
    pub fn get(&self, path: &str) -> String {
        self.ask("GET", path, "", "")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        send_signal(self.pid(), signal);
    }

    /// Whether it ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it ended, and gives its exit code.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        eventually("the program ends", || {
            self.child.try_wait().unwrap().is_some()
        });
        self.child.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself, as some tests want it to.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that ends with the test, whatever its outcome.
pub struct Daemon(pub i32);

impl Drop for Daemon {
    fn drop(&mut self) {
        send_signal(self.0, libc::SIGINT);
    }
}

/// Sends a signal to a process.
#[track_caller]
pub fn send_signal(pid: i32, signal: i32) {
    // SAFETY: kill takes two numbers and touches no memory of this process.
    #[allow(unsafe_code)]
    let sent = unsafe { libc::kill(pid, signal) };
    assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
}

/// Connects, with a limit on how long reads and writes may take.
#[track_caller]
pub fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads to the end of the stream.
#[track_caller]
pub fn read_to_end(mut stream: UnixStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the answer ends");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads up to the end of a head.
#[track_caller]
pub fn read_head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the head ends");
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// The status of an answer.
#[track_caller]
pub fn status(answer: &str) -> &str {
    answer
        .split(' ')
        .nth(1)
        .unwrap_or_else(|| panic!("no status in {answer:?}"))
}

/// Runs a program to its end: exit code, stdout, stderr.
pub fn run(binary: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(binary).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// An origin at a socket of its own, which runs `serve` on a thread for each connection.
pub struct Origin {
    dir: TempDir,
}

impl Origin {
    /// `serve` gets each connection with the head of its first request read.
    pub fn start(serve: impl Fn(UnixStream, String) + Send + Sync + 'static) -> Self {
        let dir = TempDir::new().unwrap();
        Origin::serve_at(&dir.path().join("origin"), serve);
        Origin { dir }
    }

    /// Listens at `path` from now on, until the test program ends.
    pub fn serve_at(path: &Path, serve: impl Fn(UnixStream, String) + Send + Sync + 'static) {
        let listener = UnixListener::bind(path).unwrap();
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let serve = serve.clone();
                std::thread::spawn(move || {
                    let head = read_head(&mut stream);
                    serve(stream, head);
                });
            }
        });
    }

    /// Answers every request with `body`, and closes.
    pub fn saying(body: &'static str) -> Self {
        Origin::start(move |mut stream, _| answer(&mut stream, body))
    }

    /// As it is written on a command line.
    pub fn address(&self) -> String {
        format!("unix:{}", self.dir.path().join("origin").display())
    }
}

/// Writes a whole answer.
pub fn answer(stream: &mut UnixStream, body: &str) {
    // A proxy that hung up shows in what the client sees.
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
}

/// Builds a program on upstream's crates, and returns where it is.
pub fn build_upstream() -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/upstream-0.9.1");
    // A folder of its own: these crates have the names of the ones under test.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("upstream-0.9.1");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--manifest-path"])
        .arg(project.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target)
        .status()
        .unwrap();
    assert!(built.success());
    target.join("debug/upstream-process")
}
