//! A client that sends bytes as they are, and reads what comes.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The end of an exchange.
pub struct Got {
    /// All that came.
    pub bytes: Vec<u8>,
    /// The proxy closed the connection, and did not keep it open for longer than the client waits.
    pub closed: bool,
}

/// The turn of a client that has sent all.
#[derive(Clone, Copy, PartialEq)]
pub enum Then {
    /// It closes its direction.
    Closes,
    /// It waits.
    Waits(Duration),
}

/// Sends `bytes` on a connection of their own.
pub fn exchange(proxy: &Path, bytes: &[u8], then: Then) -> std::io::Result<Got> {
    let mut stream = UnixStream::connect(proxy)?;
    // A proxy that has refused the beginning reads no more.
    let _ = stream.write_all(bytes);
    let wait = match then {
        Then::Waits(wait) => wait,
        Then::Closes => {
            let _ = stream.shutdown(Shutdown::Write);
            Duration::from_secs(60)
        }
    };
    stream.set_read_timeout(Some(wait))?;
    let mut got = Got {
        bytes: Vec::new(),
        closed: false,
    };
    let mut piece = [0; 16 * 1024];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => got.closed = true,
            Ok(n) => {
                got.bytes.extend_from_slice(&piece[..n]);
                continue;
            }
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => got.closed = true,
            Err(_) => {}
        }
        return Ok(got);
    }
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Reads the final responses in `bytes`; an error says what is wrong with them.
pub fn responses(mut bytes: &[u8]) -> Result<Vec<Response>, String> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
        let end = end.ok_or("a head that is cut short")?;
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "a head that is no text")?;
        bytes = &bytes[end + 4..];
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or("");
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .or(line.strip_prefix("HTTP/1.0 "));
        let status = status.and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
        let status = status.ok_or_else(|| format!("a status line that is none: {line:?}"))?;
        let mut length = None;
        let mut chunked = false;
        for line in lines {
            let Some((name, value)) = line.split_once(':') else {
                return Err(format!("a field line that is none: {line:?}"));
            };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.parse::<usize>().map_err(|e| e.to_string())?);
            }
            chunked |= name.eq_ignore_ascii_case("transfer-encoding");
        }
        if (100..200).contains(&status) {
            continue;
        }
        let (body, rest) = if status == 204 || status == 304 {
            (Vec::new(), bytes)
        } else if chunked {
            dechunked(bytes)?
        } else if let Some(length) = length {
            let (body, rest) = bytes
                .split_at_checked(length)
                .ok_or("a body that is cut short")?;
            (body.to_vec(), rest)
        } else {
            (bytes.to_vec(), &bytes[bytes.len()..])
        };
        bytes = rest;
        all.push(Response { status, body });
    }
    Ok(all)
}

fn dechunked(mut bytes: &[u8]) -> Result<(Vec<u8>, &[u8]), String> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|w| w == b"\r\n");
        let end = end.ok_or("a chunk that is cut short")?;
        let size = std::str::from_utf8(&bytes[..end]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size.split(';').next()?, 16).ok());
        let size = size.ok_or("a chunk without a size")?;
        bytes = &bytes[end + 2..];
        if size == 0 {
            let end = bytes.windows(2).position(|w| w == b"\r\n");
            let end = end.ok_or("trailers that are cut short")?;
            return match end {
                0 => Ok((body, &bytes[2..])),
                _ => Err("trailers, which nobody sent".into()),
            };
        }
        let chunk = bytes.get(..size).ok_or("a chunk that is cut short")?;
        body.extend_from_slice(chunk);
        bytes = bytes.get(size + 2..).ok_or("a chunk that is cut short")?;
    }
}
