//! The origin: answers requests of HTTP/1.1 at once, with 20 bytes, 1 KiB or 1 MiB, after it has read their bodies.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use nix::sys::epoll::{Epoll, EpollFlags};
use pingora_core::protocols::http::date;

use crate::evented::{event, listen, serve, ByFd, Connections};

/// The small answer.
pub(crate) const SMALL: &[u8] = b"twenty bytes of text";
/// Bytes of the answer to `/kib`.
pub(crate) const KIB: usize = 1 << 10;
/// Bytes of the answer to `/big`.
pub(crate) const BIG: usize = 1 << 20;

/// Listens there; returns on failure only.
pub(crate) fn main(at: SocketAddr, workers: usize) -> Result<(), String> {
    let served = listen(at).and_then(|listener| serve(listener, workers, Origin::new));
    served.map_err(|e| e.to_string())
}

/// The connections of a worker.
pub(crate) struct Origin {
    connections: ByFd<Connection>,
    buffer: Vec<u8>,
    small: Arc<[u8]>,
    kib: Arc<[u8]>,
    big: Arc<[u8]>,
    /// The head of an answer after which the connection ends.
    last: Arc<[u8]>,
    bad: Arc<[u8]>,
}

struct Connection {
    stream: TcpStream,
    /// What came and was not understood yet.
    input: Vec<u8>,
    /// Bytes of a request's body that are still to come.
    body: usize,
    /// What is to be answered when the body is there.
    answer: Option<Answer>,
    /// What is being written, and how far it is.
    output: Option<(Arc<[u8]>, usize)>,
    ends: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Small,
    Kib,
    Big,
    /// Small, and the connection ends.
    Last,
    /// It was no request, and the connection ends.
    Bad,
}

/// The connection is to be closed.
struct Over;

impl Origin {
    pub(crate) fn new() -> Self {
        // By which a cache tells how old an answer is.
        let date = date::get_cached_date();
        let date = String::from_utf8_lossy(date.as_bytes());
        let answer = |status: &str, field: &str, body: &[u8]| -> Arc<[u8]> {
            let head = format!(
                "HTTP/1.1 {status}\r\nDate: {date}\r\nServer: origin\r\n\
                 Content-Type: text/plain\r\nContent-Length: {}\r\n{field}\r\n",
                body.len()
            );
            [head.as_bytes(), body].concat().into()
        };
        let close = "Connection: close\r\n";
        Origin {
            connections: ByFd::new(),
            buffer: vec![0; 65536],
            small: answer("200 OK", "", SMALL),
            kib: answer("200 OK", "", &[b'x'; KIB]),
            big: answer("200 OK", "", &vec![b'x'; BIG]),
            last: answer("200 OK", close, SMALL),
            bad: answer("400 Bad Request", close, b""),
        }
    }

    fn turn(&mut self, epoll: &Epoll, fd: RawFd) -> Result<(), Over> {
        let Some(connection) = self.connections.at(fd) else {
            return Ok(());
        };
        let waited = connection.output.is_some();
        if !waited {
            match connection.stream.read(&mut self.buffer) {
                Ok(0) => return Err(Over),
                Ok(n) => connection.input.extend_from_slice(&self.buffer[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Over),
            }
        }
        loop {
            connection.write()?;
            if connection.output.is_some() {
                break;
            }
            let Some(answer) = connection.next() else {
                break;
            };
            connection.ends = matches!(answer, Answer::Last | Answer::Bad);
            let bytes = match answer {
                Answer::Small => &self.small,
                Answer::Kib => &self.kib,
                Answer::Big => &self.big,
                Answer::Last => &self.last,
                Answer::Bad => &self.bad,
            };
            connection.output = Some((bytes.clone(), 0));
        }
        let waits = connection.output.is_some();
        if waits != waited {
            let wanted = match waits {
                true => EpollFlags::EPOLLOUT,
                false => EpollFlags::EPOLLIN,
            };
            let asked = epoll.modify(&connection.stream, &mut event(wanted, fd));
            asked.map_err(|_| Over)?;
        }
        Ok(())
    }
}

impl Connection {
    fn write(&mut self) -> Result<(), Over> {
        while let Some((bytes, at)) = &mut self.output {
            match self.stream.write(&bytes[*at..]) {
                Ok(n) => *at += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Over),
            }
            if *at == bytes.len() {
                self.output = None;
                if self.ends {
                    return Err(Over);
                }
            }
        }
        Ok(())
    }

    /// The answer to a request that is there to its end.
    fn next(&mut self) -> Option<Answer> {
        if self.answer.is_none() {
            let end = self.input.windows(4).position(|four| four == b"\r\n\r\n");
            let Some(end) = end else {
                return (self.input.len() > MOST).then_some(Answer::Bad);
            };
            let (answer, body) = read(&self.input[..end]).unwrap_or((Answer::Bad, 0));
            self.input.drain(..end + 4);
            (self.answer, self.body) = (Some(answer), body);
        }
        let there = self.body.min(self.input.len());
        self.input.drain(..there);
        self.body -= there;
        match self.body {
            0 => self.answer.take(),
            _ => None,
        }
    }
}

/// No head is longer.
const MOST: usize = 65536;

/// What a request asks for, and the length of its body; `None` if that cannot be told.
fn read(head: &[u8]) -> Option<(Answer, usize)> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (_, path, version) = (words.next()?, words.next()?, words.next()?);
    let (mut body, mut close) = (0, version != "HTTP/1.1");
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            body = value.parse().ok()?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return None;
        } else if name.eq_ignore_ascii_case("connection") {
            close |= value.eq_ignore_ascii_case("close");
        }
    }
    let answer = match path {
        _ if close => Answer::Last,
        "/kib" => Answer::Kib,
        "/big" => Answer::Big,
        _ => Answer::Small,
    };
    Some((answer, body))
}

impl Connections for Origin {
    fn open(&mut self, epoll: &Epoll, stream: TcpStream) -> io::Result<()> {
        let fd = stream.as_raw_fd();
        epoll.add(&stream, event(EpollFlags::EPOLLIN, fd))?;
        let connection = Connection {
            stream,
            input: Vec::new(),
            body: 0,
            answer: None,
            output: None,
            ends: false,
        };
        self.connections.put(fd, connection);
        Ok(())
    }

    fn ready(&mut self, epoll: &Epoll, fd: RawFd, _: EpollFlags) {
        if self.turn(epoll, fd).is_err() {
            self.connections.take(fd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        let read = |head: &str| read(head.as_bytes());
        assert_eq!(read("GET / HTTP/1.1\r\nHost: x"), Some((Answer::Small, 0)));
        assert_eq!(read("GET /big HTTP/1.1"), Some((Answer::Big, 0)));
        assert_eq!(read("GET /kib HTTP/1.1"), Some((Answer::Kib, 0)));
        let post = "POST / HTTP/1.1\r\nCONTENT-LENGTH: 12";
        assert_eq!(read(post), Some((Answer::Small, 12)));
        let last = "GET / HTTP/1.1\r\nConnection: Close";
        assert_eq!(read(last), Some((Answer::Last, 0)));
        assert_eq!(read("GET / HTTP/1.0"), Some((Answer::Last, 0)));
        assert_eq!(read("POST / HTTP/1.1\r\nTransfer-Encoding: chunked"), None);
        assert_eq!(read("POST / HTTP/1.1\r\nContent-Length: -1"), None);
        assert_eq!(read("nonsense"), None);
    }
}
