//! Single requests, to see that a peer answers what the origin does, and connections that then do nothing.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Bytes of the body that is answered to a GET.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<usize> {
    get_on(&mut connect(address)?, path)
}

/// Bytes of the body that is answered to a POST of this one.
#[cfg(test)]
pub(crate) fn post(address: SocketAddr, path: &str, body: &[u8]) -> Result<usize> {
    let mut stream = connect(address)?;
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    answer(&mut stream)
}

pub(crate) fn get_on(stream: &mut TcpStream, path: &str) -> Result<usize> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    answer(stream)
}

pub(crate) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn answer(stream: &mut TcpStream) -> Result<usize> {
    let mut input = Vec::new();
    let mut buffer = [0; 16384];
    let mut more = |input: &mut Vec<u8>| match stream.read(&mut buffer)? {
        0 => Err(Error::from(ErrorKind::UnexpectedEof)),
        n => {
            input.extend_from_slice(&buffer[..n]);
            Ok(())
        }
    };
    let end = loop {
        if let Some(at) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        more(&mut input)?;
    };
    let length = length(&input[..end])?;
    while input.len() < end + length {
        more(&mut input)?;
    }
    Ok(length)
}

/// The length of the body of an answer, which is to be a good one.
fn length(head: &[u8]) -> Result<usize> {
    let head = String::from_utf8_lossy(head);
    let first = head.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) != Some("200") {
        return Err(Error::other(format!("the answer is {first:?}")));
    }
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = lengths
        .next()
        .and_then(|(_, value)| value.trim().parse().ok());
    length.ok_or_else(|| Error::other("the answer has no length"))
}

/// So many connections, on each of which a request was answered. They stay open.
pub(crate) fn idle(address: SocketAddr, n: usize) -> std::result::Result<Vec<TcpStream>, String> {
    let mut open = Vec::with_capacity(n);
    for i in 0..n {
        let opened = connect(address).and_then(|mut stream| {
            get_on(&mut stream, "/")?;
            Ok(stream)
        });
        open.push(opened.map_err(|e| format!("connection {} of {n}: {e}", i + 1))?);
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let of = |head: &str| length(head.as_bytes());
        assert_eq!(
            of("HTTP/1.1 200 OK\r\ncontent-LENGTH: 7\r\n\r\n").unwrap(),
            7
        );
        assert!(of("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 7\r\n\r\n").is_err());
        assert!(of("HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
