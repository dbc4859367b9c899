//! A running proxy, its clients and its origins.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{mpsc, Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub const BINARY: &str = env!("CARGO_BIN_EXE_reverse-proxy");
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

/// A running proxy, with its file. Dropping it ends it.
pub struct Edge {
    child: Child,
    dir: TempDir,
    pub address: SocketAddr,
    stderr: BufReader<ChildStderr>,
}

/// Returns an address that is free at the moment.
///
/// Nobody else has its IP address: the kernel gives a port again that nobody listens at yet, and two tests would have one
/// proxy.
pub fn free() -> SocketAddr {
    static GIVEN: AtomicUsize = AtomicUsize::new(0);
    let number = GIVEN.fetch_add(1, Ordering::Relaxed);
    let [high, low] = [number / 250, number % 250].map(|part| u8::try_from(part + 1).unwrap());
    let listener = TcpListener::bind((Ipv4Addr::new(127, 77, high, low), 0)).unwrap();
    listener.local_addr().unwrap()
}

/// Connects to an address at which somebody listens, or is about to.
#[track_caller]
pub fn connect_to(address: SocketAddr) -> TcpStream {
    let mut stream = None;
    eventually("somebody listens", || {
        stream = TcpStream::connect(address).ok();
        stream.is_some()
    });
    stream.unwrap()
}

impl Edge {
    /// Runs a proxy of these sites, on one address, and waits until it listens.
    #[track_caller]
    pub fn start(sites: &str) -> Self {
        let address = free();
        Self::start_whole(address, &whole(address, sites))
    }

    /// Runs a proxy of this file, which listens at `address`.
    #[track_caller]
    pub fn start_whole(address: SocketAddr, text: &str) -> Self {
        Self::start_by(Command::new(BINARY), address, text)
    }

    /// As [`Edge::start_whole`], by a command that takes the arguments of the proxy.
    #[track_caller]
    pub fn start_by(command: Command, address: SocketAddr, text: &str) -> Self {
        Self::start_with(command, Stdio::null(), address, text)
    }

    /// As [`Edge::start_by`], with a socket as its standard output.
    #[track_caller]
    pub fn start_passing(
        command: Command,
        socket: OwnedFd,
        address: SocketAddr,
        text: &str,
    ) -> Self {
        Self::start_with(command, Stdio::from(socket), address, text)
    }

    #[track_caller]
    fn start_with(mut command: Command, stdout: Stdio, address: SocketAddr, text: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("edge.yaml");
        std::fs::write(&file, text).unwrap();
        let mut child = command
            .args(["--threads", "2", "-c"])
            .arg(&file)
            .env("RUST_LOG", "edge=info,warn")
            // Its control socket goes with the folder, also when it is killed.
            .env("RUNTIME_DIRECTORY", dir.path())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // With it go this process's copies of what it was given.
        drop(command);
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut edge = Edge {
            child,
            dir,
            address,
            stderr,
        };
        eventually("the proxy listens", || {
            assert_eq!(edge.child.try_wait().unwrap(), None, "it ended");
            TcpStream::connect(address).is_ok()
        });
        edge
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The number of files that it has open.
    pub fn open_files(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.id()));
        files.unwrap().count()
    }

    /// A number of its state, such as `VmRSS` in KiB or `Threads`.
    pub fn state(&self, name: &str) -> usize {
        let state = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = state.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("edge.yaml")
    }

    /// Puts other sites into the file, at once.
    pub fn write(&self, sites: &str) {
        self.write_whole(&whole(self.address, sites));
    }

    pub fn write_whole(&self, text: &str) {
        let new = self.dir.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    /// Has it finish the requests under way and end.
    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait_for_end(&mut self) {
        let mut status = None;
        eventually("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{status:?}");
    }

    pub fn hang_up(&self) {
        self.signal(libc::SIGHUP);
    }

    /// Has it hand its sockets to the process that waits for them.
    pub fn hand_over(&self) {
        self.signal(libc::SIGQUIT);
    }

    /// Has it open its logs anew.
    pub fn reopen_logs(&self) {
        self.signal(libc::SIGUSR1);
    }

    /// Sets the number of descriptors that it may have open, and returns what it was before. Those that it has stay.
    pub fn limit_files(&self, most: u64) -> u64 {
        let mut before = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: prlimit reads a structure that lives through the call, and fills the other.
        #[allow(unsafe_code)]
        let set = unsafe {
            let id = self.child.id() as i32;
            libc::prlimit(id, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut before);
            let new = libc::rlimit {
                rlim_cur: most,
                ..before
            };
            libc::prlimit(
                id,
                libc::RLIMIT_NOFILE,
                &raw const new,
                std::ptr::null_mut(),
            )
        };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        before.rlim_cur
    }

    fn signal(&self, signal: i32) {
        // SAFETY: kill takes two numbers and touches no memory of this process.
        #[allow(unsafe_code)]
        let sent = unsafe { libc::kill(self.child.id() as i32, signal) };
        assert_eq!(sent, 0);
    }

    /// Reads what it logs until a line has `text`, and returns the line.
    #[track_caller]
    pub fn wait_for_log(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.stderr.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "it ended without {text:?}");
            if line.contains(text) {
                return line;
            }
        }
    }

    pub fn connect(&self) -> Client {
        Client::of(TcpStream::connect(self.address).unwrap())
    }

    /// Connects to another address of it, once it listens there.
    #[track_caller]
    pub fn connect_to(&self, address: SocketAddr) -> Client {
        Client::of(connect_to(address))
    }

    /// Asks for a path of a host on a connection of its own.
    #[track_caller]
    pub fn get(&self, host: &str, path: &str) -> Answer {
        self.connect().ask("GET", host, path, "")
    }
}

/// Sets a flag when it is dropped, also by a failure.
pub struct SetAtEnd<'a>(pub &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn whole(address: SocketAddr, sites: &str) -> String {
    format!("listen: {address}\nsites:\n{sites}")
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A kept connection.
pub struct Client<S = TcpStream>(BufReader<S>);

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        let found = lines.find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        });
        found
    }
}

impl Client {
    pub fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }
}

impl<S: Read + Write> Client<S> {
    #[allow(dead_code, reason = "only tests of TLS have another stream")]
    pub fn over(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    #[allow(dead_code, reason = "as above")]
    pub fn stream(&self) -> &S {
        self.0.get_ref()
    }

    pub fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// Reads a line, with its end.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "it was closed");
        line
    }

    /// Reads to the end of the connection.
    pub fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).unwrap();
        rest
    }

    /// Waits for the end of a connection on which nothing else is to come.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0) | Err(_))
    }

    /// Sends a request and reads the answer.
    #[track_caller]
    pub fn ask(&mut self, method: &str, host: &str, path: &str, fields: &str) -> Answer {
        let answer = self.try_ask(method, host, path, fields);
        answer.expect("a whole answer")
    }

    /// As [`Client::ask`], on a connection that may be closed.
    pub fn try_ask(
        &mut self,
        method: &str,
        host: &str,
        path: &str,
        fields: &str,
    ) -> Option<Answer> {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        self.0.get_mut().write_all(request.as_bytes()).ok()?;
        let head = read_head(&mut self.0)?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let mut answer = Answer {
            status,
            head,
            body: String::new(),
        };
        let length = answer.field("content-length").unwrap_or("0");
        let silent = method == "HEAD" || status == 304;
        let mut body = vec![0; if silent { 0 } else { length.parse().ok()? }];
        self.0.read_exact(&mut body).ok()?;
        answer.body = String::from_utf8(body).ok()?;
        Some(answer)
    }
}

/// Reads a head; `None` at the end of the stream.
fn read_head(stream: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// A server that answers with its name and the head that it was sent.
pub struct Origin {
    pub address: SocketAddr,
    /// The connections that it accepted.
    pub connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    pub fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Origin {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            heads: Arc::default(),
        };
        let (connections, heads) = (origin.connections.clone(), origin.heads.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                connections.fetch_add(1, Ordering::Relaxed);
                let heads = heads.clone();
                std::thread::spawn(move || serve(stream, name, &heads));
            }
        });
        origin
    }

    /// Returns the head of the last request.
    pub fn last(&self) -> String {
        self.heads.lock().unwrap().last().cloned().unwrap()
    }
}

/// A server that holds its first request until it is told.
pub struct Held {
    pub address: SocketAddr,
    came: mpsc::Receiver<mpsc::Sender<()>>,
}

impl Held {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, came) = mpsc::channel();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = BufReader::new(stream);
            read_head(&mut stream).unwrap();
            let (held, released) = mpsc::channel();
            tell.send(held).unwrap();
            // An error says that what held it is dropped.
            let _ = released.recv();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            stream.get_mut().write_all(answer).unwrap();
        });
        Self { address, came }
    }

    /// Waits until the request has come. It is answered when what is returned is dropped.
    pub fn wait(&self) -> mpsc::Sender<()> {
        self.came.recv_timeout(PATIENCE).expect("a request")
    }
}

fn serve(stream: TcpStream, name: &str, heads: &Mutex<Vec<String>>) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    while let Some(head) = read_head(&mut stream) {
        heads.lock().unwrap().push(head);
        let length = name.len();
        let answer =
            format!("HTTP/1.1 200 OK\r\nX-Origin: a\r\nContent-Length: {length}\r\n\r\n{name}");
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
