//! The clients: a process of their own, so that what the system counts for the server is the server's alone.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use benches::percentile;
use socket2::SockRef;

/// What to do, as arguments of the program.
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    /// Whether connections stay open until all are.
    pub(crate) hold: bool,
}

/// What the clients saw.
pub(crate) struct Seen {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) per_second: f64,
}

/// Clients that have done their part, and hold the connections that they were to hold until this is dropped.
pub(crate) struct Clients {
    _process: Process,
    pub(crate) seen: Seen,
}

/// A process that ends when its input does.
struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Clients {
    pub(crate) fn run(load: &Load) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("cannot run the clients: {e}");
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .arg("--client")
            .arg(load.address.to_string())
            .args(["--connections", &load.connections.to_string()])
            .args(["--clients", &load.threads.to_string()])
            .args(load.hold.then_some("--hold"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let process = Process { child, stdin };
        let seen = read(stdout).ok_or("the clients failed")?;
        Ok(Clients {
            _process: process,
            seen,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stdin = None;
        // Whatever it ends with, it has ended.
        let _ = self.child.wait();
    }
}

fn read(stdout: Option<ChildStdout>) -> Option<Seen> {
    let mut line = String::new();
    BufReader::new(stdout?).read_line(&mut line).ok()?;
    let numbers: Vec<f64> = line.split_whitespace().flat_map(str::parse).collect();
    let [p50, p99, per_second] = numbers[..] else {
        return None;
    };
    let nanos = |n: f64| Duration::from_nanos(n as u64);
    Some(Seen {
        p50: nanos(p50),
        p99: nanos(p99),
        per_second,
    })
}

/// The process of the clients.
pub(crate) fn main(load: &Load) -> Result<(), String> {
    let begin = Instant::now();
    let share = load.connections.div_ceil(load.threads);
    let results: Vec<std::io::Result<(Vec<u64>, Vec<TcpStream>)>> = std::thread::scope(|threads| {
        let clients: Vec<_> = (0..load.threads)
            .map(|n| {
                let mine = share.min(load.connections.saturating_sub(n * share));
                threads.spawn(move || connect(load, mine))
            })
            .collect();
        clients
            .into_iter()
            .map(|client| {
                let panicked = |_| Err(std::io::Error::other("a client panicked"));
                client.join().unwrap_or_else(panicked)
            })
            .collect()
    });
    let took = begin.elapsed();
    let (mut nanos, mut held) = (Vec::new(), Vec::new());
    for result in results {
        let (some, open) = result.map_err(|e| format!("a connection failed: {e}"))?;
        nanos.extend(some);
        held.extend(open);
    }
    let per_second = nanos.len() as f64 / took.as_secs_f64();
    let (p50, p99) = (percentile(&mut nanos, 0.5), percentile(&mut nanos, 0.99));
    println!("{p50} {p99} {per_second}");
    // Until the other process has counted.
    let mut end = Vec::new();
    std::io::stdin()
        .read_to_end(&mut end)
        .map_err(|e| e.to_string())?;
    drop(held);
    Ok(())
}

/// Connects so often, one after the other; each time the server says a byte.
fn connect(load: &Load, times: usize) -> std::io::Result<(Vec<u64>, Vec<TcpStream>)> {
    let (mut nanos, mut held) = (Vec::with_capacity(times), Vec::new());
    for _ in 0..times {
        let begin = Instant::now();
        let mut stream = TcpStream::connect(load.address)?;
        stream.read_exact(&mut [0])?;
        nanos.push(begin.elapsed().as_nanos() as u64);
        if load.hold {
            held.push(stream);
        } else {
            // Nothing stays behind to wait for stray packets: ports would run out.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
    }
    Ok((nanos, held))
}
