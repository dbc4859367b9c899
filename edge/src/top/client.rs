//! Asks the admin interface.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use crate::config::values::Address;

/// The longest time for a connection, a write or a read.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer.
const LONGEST: u64 = 64 << 20;

/// The admin interface as a client sees it.
pub(super) struct Client {
    address: Address,
    token: Option<String>,
}

impl Client {
    pub(super) fn new(address: &Address, token: Option<&str>) -> Self {
        Self {
            address: address.clone(),
            token: token.map(str::to_owned),
        }
    }

    /// Asks for the state of the process.
    ///
    /// # Errors
    ///
    /// The interface is not reached, refuses, or answers with something else, in a line.
    pub(super) fn status(&self) -> Result<Value, String> {
        let answer = self.ask("/api/status").map_err(|e| {
            format!(
                "the admin interface at {} is not reached: {e}",
                self.address
            )
        })?;
        let odd = || format!("{} gives no answer of an admin interface", self.address);
        let end = answer.windows(4).position(|part| part == b"\r\n\r\n");
        let (head, body) = answer.split_at(end.ok_or_else(odd)?);
        let status = head.split(|b| *b == b' ').nth(1).unwrap_or_default();
        match status {
            b"200" => serde_json::from_slice(&body[4..]).map_err(|_| odd()),
            b"401" => Err(format!("{} wants another token: --token", self.address)),
            b"421" => Err(format!(
                "{} does not go by this name: see `allow_hosts`",
                self.address
            )),
            _ => Err(odd()),
        }
    }

    fn ask(&self, path: &str) -> io::Result<Vec<u8>> {
        let (host, mut stream): (String, Box<dyn Stream>) = match &self.address {
            Address::Unix(path) => ("localhost".into(), Box::new(UnixStream::connect(path)?)),
            other => (other.to_string(), Box::new(connect(&other.to_string())?)),
        };
        stream.limit()?;
        let token = self.token.as_ref();
        let token = token.map_or_else(String::new, |token| {
            format!("Authorization: Bearer {token}\r\n")
        });
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{token}\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(LONGEST).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// A connection whose reads and writes take a limited time.
trait Stream: Read + Write {
    fn limit(&self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn limit(&self) -> io::Result<()> {
        self.set_read_timeout(Some(TIMEOUT))?;
        self.set_write_timeout(Some(TIMEOUT))
    }
}

impl Stream for UnixStream {
    fn limit(&self) -> io::Result<()> {
        self.set_read_timeout(Some(TIMEOUT))?;
        self.set_write_timeout(Some(TIMEOUT))
    }
}
