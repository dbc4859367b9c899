//! One end of a connection, with bytes written and read by hand.

use super::PATIENCE;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// A connected socket, and what was read from it but not yet asked for.
pub struct Wire {
    stream: UnixStream,
    unread: Vec<u8>,
}

/// An HTTP/1 message as it stood on the wire, with its body decoded.
#[derive(Debug)]
pub struct Response {
    /// The start line and the fields, without the empty line.
    pub head: String,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The trailer fields, as they stood.
    pub trailers: String,
}

impl Response {
    /// The status code.
    #[track_caller]
    pub fn status(&self) -> u16 {
        status(&self.head)
    }

    /// The value of a field, if there is exactly one such field.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }
}

#[track_caller]
fn status(head: &str) -> u16 {
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.unwrap_or_else(|| panic!("no status in {head:?}"))
}

#[track_caller]
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut found = head
        .split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim());
    let value = found.next();
    assert!(
        found.next().is_none(),
        "{name} stands more than once in {head:?}"
    );
    value
}

impl Wire {
    /// Over a connected Unix socket.
    pub fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Wire {
            stream,
            unread: Vec::new(),
        }
    }

    /// Over a connected TCP socket: reads, writes and shutdown are the same calls for both.
    pub fn over_tcp(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Wire::new(UnixStream::from(OwnedFd::from(stream)))
    }

    /// Sends all of it.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .expect("the peer takes the bytes");
    }

    /// Sends as much as the peer takes; a peer that hung up is no failure.
    pub fn send_if_taken(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends in pieces that end at each of these positions. A piece is sent when the one before
    /// left this machine's queue, so the peer can see it alone.
    #[track_caller]
    pub fn send_split(&mut self, bytes: &[u8], at: &[usize]) {
        let mut sent = 0;
        for &end in at.iter().chain([&bytes.len()]) {
            self.send(&bytes[sent..end]);
            sent = end;
            super::eventually("the peer reads the piece", || self.all_was_read());
        }
    }

    /// Whether the peer has read everything that was sent (Unix sockets keep no copy once the
    /// receiver took it).
    fn all_was_read(&self) -> bool {
        let mut queued: libc::c_int = 0;
        // SAFETY: TIOCOUTQ writes one int to the pointer, which is valid for the call.
        #[allow(unsafe_code)]
        let asked = unsafe { libc::ioctl(self.stream.as_raw_fd(), libc::TIOCOUTQ, &mut queued) };
        assert_eq!(asked, 0, "{}", io::Error::last_os_error());
        queued == 0
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads more; false at the end of the stream. A reset counts as one.
    #[track_caller]
    fn fill(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(size) => {
                    self.unread.extend_from_slice(&piece[..size]);
                    return size > 0;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return false,
                Err(e) => panic!("no more bytes came: {e}; unread: {:?}", show(&self.unread)),
            }
        }
    }

    /// Whether another byte comes before the end of the stream. Waits for either.
    #[track_caller]
    pub fn has_more(&mut self) -> bool {
        !self.unread.is_empty() || self.fill()
    }

    /// Reads up to and including `mark`.
    #[track_caller]
    pub fn read_until(&mut self, mark: &str) -> String {
        let mark = mark.as_bytes();
        loop {
            if let Some(at) = self.unread.windows(mark.len()).position(|w| w == mark) {
                let read = self.unread.drain(..at + mark.len()).collect();
                return String::from_utf8(read).expect("text");
            }
            let more = self.fill();
            assert!(
                more,
                "the stream ended before {:?}: {:?}",
                show(mark),
                show(&self.unread)
            );
        }
    }

    /// Reads so many bytes.
    #[track_caller]
    pub fn read_exact(&mut self, size: usize) -> Vec<u8> {
        while self.unread.len() < size {
            let more = self.fill();
            assert!(
                more,
                "the stream ended within {size} bytes: {:?}",
                show(&self.unread)
            );
        }
        self.unread.drain(..size).collect()
    }

    /// Reads to the end of the stream.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.unread)
    }

    /// Waits for the end of the stream, before which nothing may come.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "instead of the end came {:?}", show(&rest));
    }

    /// Reads a head, and gives it without its empty line.
    #[track_caller]
    pub fn read_head(&mut self) -> String {
        let mut head = self.read_until("\r\n\r\n");
        head.truncate(head.len() - 4);
        head
    }

    /// Reads a request or a response that has a body if its head says so.
    #[track_caller]
    pub fn read_message(&mut self) -> Response {
        let head = self.read_head();
        self.read_body(head, false)
    }

    /// Reads the final response to a request that is not HEAD; interim responses are skipped.
    #[track_caller]
    pub fn read_response(&mut self) -> Response {
        loop {
            let head = self.read_head();
            match status(&head) {
                100 | 102..=199 => continue,
                101 | 204 | 304 => return bodiless(head),
                _ => return self.read_body(head, true),
            }
        }
    }

    /// Reads the response to a HEAD.
    #[track_caller]
    pub fn read_response_to_head(&mut self) -> Response {
        bodiless(self.read_head())
    }

    #[track_caller]
    fn read_body(&mut self, head: String, until_close: bool) -> Response {
        if field(&head, "Transfer-Encoding").is_some_and(|te| te.ends_with("chunked")) {
            let (body, trailers) = self.read_chunks();
            return Response {
                head,
                body,
                trailers,
            };
        }
        let body = match field(&head, "Content-Length") {
            Some(length) => self.read_exact(length.parse().expect("a length")),
            None if until_close => self.read_to_end(),
            None => Vec::new(),
        };
        Response {
            head,
            body,
            trailers: String::new(),
        }
    }

    #[track_caller]
    fn read_chunks(&mut self) -> (Vec<u8>, String) {
        let mut body = Vec::new();
        loop {
            let line = self.read_until("\r\n");
            let size = line.trim_end().split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).expect("a chunk size");
            if size == 0 {
                break;
            }
            body.extend(self.read_exact(size));
            assert_eq!(self.read_until("\r\n"), "\r\n", "after a chunk");
        }
        let mut trailers = String::new();
        loop {
            match self.read_until("\r\n").as_str() {
                "\r\n" => return (body, trailers),
                line => trailers.push_str(line),
            }
        }
    }
}

/// Has closing a TCP socket send a reset.
pub fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the structure is valid for the call, and of the size that is given.
    #[allow(unsafe_code)]
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of_val(&linger) as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

fn bodiless(head: String) -> Response {
    Response {
        head,
        body: Vec::new(),
        trailers: String::new(),
    }
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned()
}
