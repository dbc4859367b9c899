//! Servers that do as they are told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tempfile::TempDir;

use crate::tools::eventually;

/// What becomes of a request.
pub enum Act {
    /// It is answered with this status and body.
    Answer(u16, String),
    /// The connection is closed.
    Close,
    /// Nothing happens until the other side closes.
    Wait,
    /// These bytes are sent, and then all that is received.
    Echo(String),
}

/// A server of HTTP/1.1.
pub struct Script {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    pub open: Arc<AtomicUsize>,
}

impl Script {
    /// Does with each request what `act` says of its head and body.
    pub fn start(act: impl Fn(&str, &str) -> Act + Send + Sync + 'static) -> Self {
        Self::start_at(TcpListener::bind("127.0.0.1:0").unwrap(), act)
    }

    pub fn start_at(
        listener: TcpListener,
        act: impl Fn(&str, &str) -> Act + Send + Sync + 'static,
    ) -> Self {
        let script = Script {
            address: listener.local_addr().unwrap(),
            heads: Arc::default(),
            open: Arc::default(),
        };
        let (heads, open) = (script.heads.clone(), script.open.clone());
        let act = Arc::new(act);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (heads, open, act) = (heads.clone(), open.clone(), act.clone());
                std::thread::spawn(move || {
                    open.fetch_add(1, Ordering::SeqCst);
                    serve(stream.unwrap(), &heads, &*act);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        script
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.heads.lock().unwrap().len()
    }
}

pub fn serve(stream: TcpStream, heads: &Mutex<Vec<String>>, act: &dyn Fn(&str, &str) -> Act) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match stream.read_line(&mut head) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        let length = head.to_lowercase();
        let length = length
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        heads.lock().unwrap().push(head.clone());
        match act(&head, &String::from_utf8_lossy(&body)) {
            Act::Answer(status, body) => {
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}");
                if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            Act::Close => return,
            Act::Wait => {
                let _ = stream.read(&mut [0]);
                return;
            }
            Act::Echo(answer) => {
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
                let mut part = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut part) {
                    if stream.get_mut().write_all(&part[..count]).is_err() {
                        return;
                    }
                }
                return;
            }
        }
    }
}

/// nginx, which answers with the version of HTTP that it was asked in.
pub struct Nginx {
    _dir: TempDir,
    child: Child,
}

impl Nginx {
    /// Starts it with the lines of a server.
    pub fn start(address: SocketAddr, server: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let at = dir.path().display();
        let conf = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;
             events {{}}
             http {{
                 access_log off;
                 client_body_temp_path {at}/bodies; proxy_temp_path {at}/proxy;
                 fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
                 server {{ {server} location / {{ return 200 '$server_protocol $http_host'; }} }}
             }}"
        );
        let file = dir.path().join("conf");
        std::fs::write(&file, conf).unwrap();
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let child = Command::new("nginx")
            .env("PATH", path)
            .args([
                "-p",
                &at.to_string(),
                "-e",
                &format!("{at}/error.log"),
                "-c",
            ])
            .arg(file)
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need nginx (nginx-light is enough)");
        let mut nginx = Nginx { _dir: dir, child };
        eventually("nginx listens", || {
            assert_eq!(nginx.child.try_wait().unwrap(), None, "nginx ended");
            TcpStream::connect(address).is_ok()
        });
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path and the message of a call.
type Call = (String, Vec<u8>);

/// A server of gRPC in the clear: it sends each message back, and its health service says a status.
pub struct Grpc {
    pub address: SocketAddr,
    /// What the health service says: 1 for SERVING.
    pub status: Arc<AtomicUsize>,
    /// The paths and messages that it was sent.
    pub calls: Arc<Mutex<Vec<Call>>>,
}

impl Grpc {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let grpc = Grpc {
            address: listener.local_addr().unwrap(),
            status: Arc::new(AtomicUsize::new(1)),
            calls: Arc::default(),
        };
        let (status, calls) = (grpc.status.clone(), grpc.calls.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let (status, calls) = (status.clone(), calls.clone());
                    tokio::spawn(grpc_connection(stream, status, calls));
                }
            });
        });
        grpc
    }
}

async fn grpc_connection(
    stream: tokio::net::TcpStream,
    status: Arc<AtomicUsize>,
    calls: Arc<Mutex<Vec<Call>>>,
) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (status, calls) = (status.clone(), calls.clone());
        tokio::spawn(async move {
            let path = request.uri().path().to_owned();
            let (mut body, mut message) = (request.into_body(), Vec::new());
            while let Some(Ok(part)) = body.data().await {
                let _ = body.flow_control().release_capacity(part.len());
                message.extend_from_slice(&part);
            }
            calls.lock().unwrap().push((path.clone(), message.clone()));
            let answer = match &*path {
                "/grpc.health.v1.Health/Check" => {
                    let status = status.load(Ordering::SeqCst) as u8;
                    vec![0, 0, 0, 0, 2, 8, status]
                }
                _ => message,
            };
            let head = http::Response::builder().header("content-type", "application/grpc");
            let mut stream = respond
                .send_response(head.body(()).unwrap(), false)
                .unwrap();
            stream.send_data(Bytes::from(answer), false).unwrap();
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            stream.send_trailers(trailers).unwrap();
        });
    }
}
