//! An origin that reads strictly, notes what it was sent, and says in its answers what it answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::strict::{self, Fault, Request};

/// What came to the origin.
#[derive(Clone, Debug)]
pub enum Seen {
    Request(Request),
    /// Bytes that are no request, whatever follows.
    Malformed(&'static str, Vec<u8>),
}

/// What the origin answers a request with.
pub struct Answer {
    pub bytes: Vec<u8>,
    pub then: After,
}

/// What the origin does with a connection after its answer.
#[derive(Clone, Copy, PartialEq)]
pub enum After {
    Keeps,
    Closes,
    /// It closes when no further request comes soon: whoever waits for more of the answer shall not wait for long.
    Lingers,
}

const LINGER: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);

/// A listening origin. Its threads end with the process.
#[derive(Clone)]
pub struct Origin {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Origin {
    /// Starts one that echoes.
    pub fn start() -> std::io::Result<Self> {
        Self::answering(|request| Answer {
            bytes: echo(request),
            then: after(request),
        })
    }

    pub fn answering(
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let origin = Origin {
            address: listener.local_addr()?,
            seen: Arc::default(),
        };
        let (seen, answer) = (origin.seen.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (seen.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Ok(origin)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes what has come since the last call.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

/// The body of the answer to a request: enough to tell it from another one.
pub fn told(request: &Request) -> String {
    let sum = request.body.iter().fold(0u32, |sum, b| {
        sum.wrapping_mul(31).wrapping_add(u32::from(*b))
    });
    let (method, target) = (&request.method, &request.target);
    format!("{method} {target} {} {sum:08x}\n", request.body.len())
}

/// What a request says of its connection.
pub fn after(request: &Request) -> After {
    match request.persistent {
        true => After::Keeps,
        false => After::Closes,
    }
}

pub fn echo(request: &Request) -> Vec<u8> {
    let body = told(request);
    let length = body.len();
    let body = if request.method == "HEAD" { "" } else { &body };
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Seen>>,
    answer: &(dyn Fn(&Request) -> Answer + Send + Sync),
) {
    let note = |what| seen.lock().unwrap_or_else(|e| e.into_inner()).push(what);
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    let _ = stream.set_nodelay(true);
    let mut patience = PATIENCE;
    loop {
        let _ = stream.set_read_timeout(Some(patience));
        match stream.read(&mut piece) {
            // A request that the proxy gave up is none.
            Ok(0) | Err(_) => return,
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
        }
        while !bytes.is_empty() {
            match strict::request(&bytes) {
                Ok((request, used)) => {
                    bytes.drain(..used);
                    let answer = answer(&request);
                    // Before the answer: who has that finds the note.
                    note(Seen::Request(request));
                    if stream.write_all(&answer.bytes).is_err() || answer.then == After::Closes {
                        return;
                    }
                    patience = match answer.then {
                        After::Lingers => LINGER,
                        _ => PATIENCE,
                    };
                }
                Err(Fault::Incomplete) => break,
                Err(Fault::Malformed(why)) => {
                    return note(Seen::Malformed(why, bytes));
                }
            }
        }
    }
}
