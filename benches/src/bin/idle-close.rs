//! Measures the time in which a server closes its idle connections once its shutdown flag is set.
//!
//! The server is a process of its own with as many workers as asked for. Its connections have each had a request, and
//! wait for the next one; then it gets SIGTERM. What counts is the time from the flag to the FIN that the client sees
//! last, and the processor time of the server meanwhile. Beside it stands a program that does nothing but the system
//! calls that this takes: shutdown, read to the client's end, close.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use benches::table;
use clap::Parser;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use nix::sys::signal::{kill, SigSet, Signal};
use nix::time::{clock_gettime, ClockId};
use nix::unistd::Pid;
use pingora_core::apps::http_app::{HttpServer, ServeHttp};
use pingora_core::apps::{HttpServerApp, ReusedHttpStream};
use pingora_core::exchange::Registry;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{Server, ShutdownWatch};
use pingora_core::services::listening::Service;

#[derive(Parser)]
#[command(about = "Measures how long a server takes to close its idle connections at a shutdown.")]
struct Args {
    /// Idle connections.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Workers of the server; 0 for the bare system calls.
    #[arg(long, value_delimiter = ',', default_values_t = [0usize, 1, 2])]
    threads: Vec<usize>,
    /// Runs for each row, of which the fastest one counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Serve at this address, for the program itself.
    #[arg(long, hide = true)]
    serve: Option<SocketAddr>,
}

/// Answers with nothing.
struct Nothing;

#[async_trait]
impl ServeHttp for Nothing {
    async fn response(&self, _: &mut ServerSession) -> http::Response<Vec<u8>> {
        http::Response::new(Vec::new())
    }
}

/// Says when the flag is set.
struct Timed(Arc<HttpServer<Nothing>>);

#[async_trait]
impl HttpServerApp for Timed {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.0.process_new_http(session, shutdown).await
    }

    fn shutdown_registry(&self) -> Option<&Arc<Registry>> {
        self.0.shutdown_registry()
    }

    async fn http_cleanup(&self) {
        say_now();
        self.0.http_cleanup().await;
    }
}

/// A time that all processes share.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// The processor time of this process.
fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

fn serve(address: SocketAddr, threads: usize) -> ! {
    let conf = ServerConf {
        threads,
        work_stealing: false,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    let app = Timed(Arc::new(HttpServer::new_app(Nothing)));
    let mut service = Service::new("idle".into(), app);
    service.add_tcp(&address.to_string());
    server.add_service(service);
    server.run(Default::default());
    say_now();
    std::process::exit(0)
}

/// The bare system calls, below which nothing can be done.
fn serve_bare(address: SocketAddr, connections: usize) -> std::io::Result<()> {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTERM);
    stop.thread_block()?;
    let socket = TcpListener::bind(address)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut clients = Vec::with_capacity(connections);
    while clients.len() < connections {
        let (mut client, _) = socket.accept()?;
        if client.read(&mut [0; 512])? > 0 {
            client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
            let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
            epoll.add(&client, EpollEvent::new(events, clients.len() as u64))?;
            clients.push(Some(client));
        }
    }
    stop.wait()?;
    say_now();
    for client in clients.iter().flatten() {
        client.shutdown(Shutdown::Write)?;
    }
    let mut events = vec![EpollEvent::empty(); 1024];
    let mut left = connections;
    while left > 0 {
        let n = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..n] {
            if let Some(mut client) = clients[event.data() as usize].take() {
                // The client closes, or resets, and nothing else.
                let _ = client.read(&mut [0]);
                epoll.delete(&client)?;
                left -= 1;
            }
        }
    }
    say_now();
    Ok(())
}

fn say_now() {
    println!("{} {}", now().as_nanos(), used().as_nanos());
}

/// A server that runs.
struct Running {
    child: Child,
    says: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Running {
    fn start(connections: usize, threads: usize) -> std::io::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--serve", &address.to_string()])
            .args(["--threads", &threads.to_string()])
            .args(["--connections", &connections.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let says = child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
        while TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Running {
            child,
            says: BufReader::new(says),
            address,
        })
    }

    /// The time that it says next, and the processor time that it had used by then.
    fn says(&mut self) -> (Duration, Duration) {
        let mut line = String::new();
        self.says
            .read_line(&mut line)
            .expect("the server says when");
        let mut numbers = line
            .split_whitespace()
            .map(|n| n.parse().map(Duration::from_nanos));
        match (numbers.next(), numbers.next()) {
            (Some(Ok(at)), Some(Ok(used))) => (at, used),
            _ => panic!("not a time: {line:?}"),
        }
    }
}

/// A connection that has had a request.
fn idle(address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut part = [0; 512];
        let n = stream.read(&mut part)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&part[..n]);
    }
    Ok(stream)
}

/// From the flag to the last FIN, from the flag to the end of the process, and the processor time that it used for both.
fn run(connections: usize, threads: usize) -> std::io::Result<[Duration; 3]> {
    let mut server = Running::start(connections, threads)?;
    let mut clients = Vec::with_capacity(connections);
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for n in 0..connections {
        let client = idle(server.address)?;
        epoll.add(&client, EpollEvent::new(EpollFlags::EPOLLIN, n as u64))?;
        clients.push(Some(client));
    }
    kill(Pid::from_raw(server.child.id() as i32), Signal::SIGTERM)?;
    let mut left = connections;
    let mut last = Duration::ZERO;
    let mut events = vec![EpollEvent::empty(); 1024];
    while left > 0 {
        let n = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..n] {
            if clients[event.data() as usize].take().is_some() {
                left -= 1;
            }
        }
        last = now();
    }
    let (flag, before) = server.says();
    let (end, after) = server.says();
    server.child.wait()?;
    Ok([
        last.saturating_sub(flag),
        end.saturating_sub(flag),
        after.saturating_sub(before),
    ])
}

fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    if let Some(address) = args.serve {
        match args.threads[..] {
            [0] => return serve_bare(address, args.connections),
            [threads] => serve(address, threads),
            _ => panic!("one number of threads"),
        }
    }
    let mut rows = Vec::new();
    for &threads in &args.threads {
        let mut best = run(args.connections, threads)?;
        for _ in 1..args.runs {
            let other = run(args.connections, threads)?;
            for (best, other) in best.iter_mut().zip(other) {
                *best = other.min(*best);
            }
        }
        let workers = match threads {
            0 => "none: system calls".to_owned(),
            n => n.to_string(),
        };
        let mut row = vec![args.connections.to_string(), workers];
        row.extend(best.map(|time| format!("{:.1}", time.as_secs_f64() * 1e3)));
        rows.push(row);
    }
    let head = [
        "connections",
        "workers",
        "last FIN, ms",
        "end, ms",
        "processor, ms",
    ];
    print!("{}", table(&head, &rows));
    Ok(())
}
