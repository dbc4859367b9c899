//! A server that answers as a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request that a server was sent.
#[derive(Clone)]
pub struct Asked {
    pub head: String,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    pub fn method(&self) -> &str {
        self.head.split(' ').next().unwrap()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// A server that answers each request by a function of it and of the number of requests before it. A connection closes
/// after an answer with `Connection: close`.
pub struct Scripted {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

type Script = dyn Fn(&Asked, usize) -> String + Send + Sync;

impl Scripted {
    pub fn start(script: impl Fn(&Asked, usize) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (shared, script): (_, Arc<Script>) = (asked.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, asked, script) = (stream.unwrap(), shared.clone(), script.clone());
                std::thread::spawn(move || serve(stream, &asked, &*script));
            }
        });
        Self { address, asked }
    }

    /// Returns the number of requests.
    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Looks at the last request.
    pub fn last<T>(&self, look: impl FnOnce(&Asked) -> T) -> T {
        look(self.asked.lock().unwrap().last().unwrap())
    }
}

/// Makes an answer with this body.
pub fn answer(fields: &str, body: &str) -> String {
    status(200, fields, body)
}

pub fn status(status: u16, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{fields}\r\n{body}")
}

fn serve(stream: TcpStream, asked: &Mutex<Vec<Asked>>, script: &Script) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match stream.read_line(&mut head) {
                Ok(1..) => {}
                _ => return,
            }
        }
        let mut request = Asked {
            head,
            body: Vec::new(),
        };
        let length = request.field("content-length").map(|n| n.parse().unwrap());
        request.body = vec![0; length.unwrap_or(0)];
        if stream.read_exact(&mut request.body).is_err() {
            return;
        }
        if request.field("transfer-encoding") == Some("chunked") {
            match chunked(&mut stream) {
                Some(body) => request.body = body,
                None => return,
            }
        }
        let number = {
            let mut asked = asked.lock().unwrap();
            asked.push(request.clone());
            asked.len() - 1
        };
        let head_only = request.method() == "HEAD";
        let answer = script(&request, number);
        let end = answer.find("\r\n\r\n").unwrap() + 4;
        let sent = if head_only { &answer[..end] } else { &answer };
        if stream.get_mut().write_all(sent.as_bytes()).is_err() {
            return;
        }
        if answer[..end].contains("Connection: close") {
            return;
        }
    }
}

/// Reads a chunked body; `None` at the end of the stream.
fn chunked(stream: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim_end(), 16).ok()?;
        // With the line end behind it.
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}
