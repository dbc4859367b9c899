//! The least that a proxy can do: each client has a connection to the origin, and bytes are passed as they come.
//!
//! Two reads and two writes for a request and its answer, nothing is looked at.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::epoll::{Epoll, EpollFlags};

use crate::evented::{event, listen, serve, ByFd, Connections};

/// Listens there and passes everything to the origin; returns on failure only.
pub(crate) fn main(at: SocketAddr, origin: SocketAddr, workers: usize) -> Result<(), String> {
    let served =
        listen(at).and_then(|listener| serve(listener, workers, move || Floor::to(origin)));
    served.map_err(|e| e.to_string())
}

struct Floor {
    origin: SocketAddr,
    ends: ByFd<End>,
    buffer: Vec<u8>,
}

/// One end of a pair of connections.
struct End {
    stream: TcpStream,
    other: RawFd,
    /// What was read at the other end and could not be written here yet. As long as there is some, the other end
    /// is not read.
    rest: Vec<u8>,
}

/// The pair is to be closed.
struct Over;

impl Floor {
    fn to(origin: SocketAddr) -> Self {
        Floor {
            origin,
            ends: ByFd::new(),
            buffer: vec![0; 65536],
        }
    }

    fn pass(&mut self, epoll: &Epoll, fd: RawFd, flags: EpollFlags) -> Result<(), Over> {
        // An event of before its connection was closed.
        let Some(end) = self.ends.at(fd) else {
            return Ok(());
        };
        let other = end.other;
        if flags.contains(EpollFlags::EPOLLOUT) && !end.rest.is_empty() {
            let written = write(&mut end.stream, &end.rest)?;
            end.rest.drain(..written);
            if !end.rest.is_empty() {
                return Ok(());
            }
            self.want(epoll, fd)?;
            self.want(epoll, other)?;
        }
        let held = self
            .ends
            .at(other)
            .is_none_or(|other| !other.rest.is_empty());
        // A connection that was reset says so even when it is not to be read.
        if held || !flags.intersects(readable()) {
            return Ok(());
        }
        let end = self.ends.at(fd).ok_or(Over)?;
        let n = match end.stream.read(&mut self.buffer) {
            Ok(0) => return Err(Over),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return Err(Over),
        };
        let to = self.ends.at(other).ok_or(Over)?;
        let written = write(&mut to.stream, &self.buffer[..n])?;
        if written < n {
            to.rest.extend_from_slice(&self.buffer[written..n]);
            self.want(epoll, fd)?;
            self.want(epoll, other)?;
        }
        Ok(())
    }

    /// Asks for what this end can do now.
    fn want(&mut self, epoll: &Epoll, fd: RawFd) -> Result<(), Over> {
        let end = self.ends.at(fd).ok_or(Over)?;
        let mut wanted = EpollFlags::empty();
        if !end.rest.is_empty() {
            wanted |= EpollFlags::EPOLLOUT;
        }
        let other = end.other;
        if self
            .ends
            .at(other)
            .is_some_and(|other| other.rest.is_empty())
        {
            wanted |= EpollFlags::EPOLLIN;
        }
        let end = self.ends.at(fd).ok_or(Over)?;
        let asked = epoll.modify(&end.stream, &mut event(wanted, fd));
        asked.map_err(|_| Over)
    }
}

/// Also when it was reset: then reading tells so.
fn readable() -> EpollFlags {
    EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR
}

fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize, Over> {
    match stream.write(bytes) {
        Ok(n) => Ok(n),
        Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(_) => Err(Over),
    }
}

impl Connections for Floor {
    fn open(&mut self, epoll: &Epoll, client: TcpStream) -> io::Result<()> {
        let upstream = TcpStream::connect(self.origin)?;
        upstream.set_nonblocking(true)?;
        upstream.set_nodelay(true)?;
        let (a, b) = (client.as_raw_fd(), upstream.as_raw_fd());
        for (stream, other) in [(client, b), (upstream, a)] {
            let fd = stream.as_raw_fd();
            epoll.add(&stream, event(EpollFlags::EPOLLIN, fd))?;
            let rest = Vec::new();
            self.ends.put(
                fd,
                End {
                    stream,
                    other,
                    rest,
                },
            );
        }
        Ok(())
    }

    fn ready(&mut self, epoll: &Epoll, fd: RawFd, flags: EpollFlags) {
        if self.pass(epoll, fd, flags).is_err() {
            if let Some(end) = self.ends.take(fd) {
                self.ends.take(end.other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fetch, origin};

    /// More than fits into the buffers of the sockets, both ways, through several workers.
    #[test]
    fn all_bytes_pass() {
        let behind = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let origin = behind.local_addr().unwrap();
        std::thread::spawn(move || serve(behind, 2, origin::Origin::new));
        let front = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = front.local_addr().unwrap();
        std::thread::spawn(move || serve(front, 3, move || Floor::to(origin)));
        for _ in 0..6 {
            assert_eq!(fetch::get(address, "/big").unwrap(), origin::BIG);
            assert_eq!(fetch::get(address, "/").unwrap(), origin::SMALL.len());
            let sent = fetch::post(address, "/", &vec![b'x'; 3 << 20]).unwrap();
            assert_eq!(sent, origin::SMALL.len());
        }
    }
}
