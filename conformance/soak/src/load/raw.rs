//! Answers of HTTP/1.1 as they come off a connection, for requests that are written by hand.

use std::io;

use hyper::header::{HeaderMap, HeaderName, HeaderValue, CONTENT_LENGTH, TRANSFER_ENCODING};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::answer::number;
use super::line::whole;
use crate::ledger::End;

/// Reads one answer after another.
pub struct Reader<S> {
    stream: S,
    read: Vec<u8>,
}

/// The head of an answer.
pub struct Head {
    pub status: u16,
    pub fields: HeaderMap,
}

/// The body of an answer, and the fields after it.
#[derive(Debug)]
pub struct Body {
    pub bytes: Vec<u8>,
    pub trailers: HeaderMap,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    /// Reads a head.
    ///
    /// # Errors
    ///
    /// The end of the request that it would have answered.
    pub async fn head(&mut self) -> Result<Head, End> {
        match self.until(b"\r\n\r\n").await {
            Ok(Some(head)) => {
                let text = String::from_utf8_lossy(&head).into_owned();
                parse(&text).ok_or(End::Wrong(text))
            }
            Ok(None) => {
                let read = self.read.len();
                Err(End::Lost(format!("closed after {read} bytes of a head")))
            }
            Err(e) => Err(End::Lost(whole(&e))),
        }
    }

    /// Reads the body that follows a head, unless its request was a HEAD.
    ///
    /// # Errors
    ///
    /// The end of the request, when the body does not end as its head has said.
    pub async fn body(&mut self, fields: &HeaderMap) -> Result<Body, End> {
        let mut body = Body {
            bytes: Vec::new(),
            trailers: HeaderMap::new(),
        };
        let read = if fields.contains_key(TRANSFER_ENCODING) {
            self.chunks(&mut body).await
        } else if let Some(len) = number(fields, CONTENT_LENGTH.as_str()) {
            self.exactly(len as usize, &mut body.bytes).await
        } else {
            self.until_end(&mut body.bytes).await
        };
        let cut = |why: String| End::Cut(format!("{why} after {} bytes", body.bytes.len()));
        match read {
            Ok(true) => Ok(body),
            Ok(false) => Err(cut("closed".to_owned())),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(End::Wrong(whole(&e))),
            Err(e) => Err(cut(whole(&e))),
        }
    }

    /// Waits for the end of the connection, which the last answer has announced.
    ///
    /// # Errors
    ///
    /// The bytes that came in its place.
    pub async fn end(&mut self) -> Result<(), String> {
        while self.read.is_empty() {
            match self.more().await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(e) => return Err(whole(&e)),
            }
        }
        Err(String::from_utf8_lossy(&self.read).into_owned())
    }

    async fn chunks(&mut self, body: &mut Body) -> io::Result<bool> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        loop {
            let Some(line) = self.line().await? else {
                return Ok(false);
            };
            let size = usize::from_str_radix(&line, 16);
            let size = size.map_err(|_| wrong("the size of a chunk is none"))?;
            if size == 0 {
                break;
            }
            if !self.exactly(size, &mut body.bytes).await? {
                return Ok(false);
            }
            match self.line().await? {
                None => return Ok(false),
                Some(rest) if rest.is_empty() => {}
                Some(_) => return Err(wrong("a chunk is longer than its size")),
            }
        }
        loop {
            match self.line().await? {
                None => return Ok(false),
                Some(line) if line.is_empty() => return Ok(true),
                Some(line) => {
                    let (name, value) = field(&line).ok_or_else(|| wrong("a trailer is none"))?;
                    body.trailers.append(name, value);
                }
            }
        }
    }

    /// A line without its end; `None` when the connection ends before that.
    async fn line(&mut self) -> io::Result<Option<String>> {
        let line = self.until(b"\r\n").await?;
        Ok(line.map(|line| String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()))
    }

    async fn until(&mut self, mark: &[u8]) -> io::Result<Option<Vec<u8>>> {
        loop {
            let at = self.read.windows(mark.len()).position(|w| w == mark);
            if let Some(at) = at {
                let rest = self.read.split_off(at + mark.len());
                return Ok(Some(std::mem::replace(&mut self.read, rest)));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// Moves so many bytes. Returns false when the connection ends before.
    async fn exactly(&mut self, len: usize, to: &mut Vec<u8>) -> io::Result<bool> {
        let mut left = len;
        loop {
            let now = left.min(self.read.len());
            to.extend(self.read.drain(..now));
            left -= now;
            if left == 0 {
                return Ok(true);
            }
            if !self.more().await? {
                return Ok(false);
            }
        }
    }

    async fn until_end(&mut self, to: &mut Vec<u8>) -> io::Result<bool> {
        while self.more().await? {}
        to.append(&mut self.read);
        Ok(true)
    }

    /// Reads on. Returns false at the end of the connection.
    async fn more(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.read).await? > 0)
    }
}

fn parse(text: &str) -> Option<Head> {
    let mut lines = text.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let status = status.parse().ok()?;
    let mut fields = HeaderMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = field(line)?;
        fields.append(name, value);
    }
    Some(Head { status, fields })
}

fn field(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    Some((name, HeaderValue::from_str(value.trim()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl std::future::Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(future)
    }

    #[test]
    fn answers_come_one_after_the_other() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ntw\r\n1\r\no\r\n0\r\nx-sum: 7\r\n\r\n\
            HTTP/1.1 404 Not Found\r\n\r\nthe rest";
        let mut reader = Reader::new(&bytes[..]);
        run(async {
            for (status, text, sum) in [
                (200, "one", None),
                (200, "two", Some("7")),
                (404, "the rest", None),
            ] {
                let head = reader.head().await.expect("a head");
                assert_eq!(head.status, status);
                let body = reader.body(&head.fields).await.expect("a body");
                assert_eq!(body.bytes, text.as_bytes());
                let told = body.trailers.get("x-sum");
                assert_eq!(told.map(|value| value.as_bytes()), sum.map(str::as_bytes));
            }
            assert_eq!(reader.end().await, Ok(()));
            assert!(matches!(reader.head().await, Err(End::Lost(_))));
        });
    }

    #[test]
    fn a_body_that_ends_early_is_cut() {
        for bytes in [
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\none",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n",
        ] {
            let mut reader = Reader::new(bytes.as_bytes());
            let end = run(async {
                let head = reader.head().await.expect("a head");
                reader.body(&head.fields).await
            });
            assert!(matches!(end, Err(End::Cut(_))), "{bytes:?}: {end:?}");
        }
    }

    #[test]
    fn bytes_behind_the_last_answer_are_told() {
        let mut reader = Reader::new(&b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore"[..]);
        run(async {
            let head = reader.head().await.expect("a head");
            reader.body(&head.fields).await.expect("a body");
            assert_eq!(reader.end().await, Err("more".to_owned()));
        });
    }
}
