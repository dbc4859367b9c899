//! A protocol of the tests' own: frames over a Unix socket, one exchange after the other.
//!
//! | frame | payload |
//! |---|---|
//! | `H` | a first line, `METHOD target` or a status, and a line for each field |
//! | `D` | a piece of the body |
//! | `T` | trailers, a line each; they end the message |
//! | `E` | nothing: the end of the message |
//! | `M` | a custom message |
//! | `X` | nothing: the sender's custom messages fail |
//! | `R` | nothing: the sender gives the exchange up |

mod client;
mod peers;
mod server;

pub use client::{Frames, Kept};
pub use peers::{bridge_client, CustomOrigin};
pub use server::{serve, Served};

use bytes::Bytes;
use futures::channel::mpsc as unbounded;
use futures::Stream;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, Mutex};

/// A kind and a payload.
pub type Frame = (u8, Bytes);

pub type Reader = Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;

/// A peer that is spoken to in this protocol.
pub fn custom_peer(path: &Path) -> HttpPeer {
    use pingora_core::protocols::tls::CustomALPN;
    use pingora_core::upstreams::peer::ALPN;
    let mut peer = HttpPeer::new_uds(&path.to_string_lossy(), false, String::new()).unwrap();
    peer.options.alpn = ALPN::Custom(CustomALPN::new(b"frames".to_vec()));
    peer
}

pub async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let mut head = [0; 5];
    from.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes(head[1..].try_into().unwrap());
    let mut payload = vec![0; length as usize];
    from.read_exact(&mut payload).await.ok()?;
    Some((head[0], payload.into()))
}

pub async fn write_frame(
    to: &mut (impl AsyncWrite + Unpin),
    kind: u8,
    payload: &[u8],
) -> io::Result<()> {
    let mut frame = vec![kind];
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend(payload);
    to.write_all(&frame).await?;
    to.flush().await
}

/// The writing half of a connection, which several share.
#[derive(Clone)]
pub struct Sink(Arc<Mutex<Box<dyn AsyncWrite + Send + Sync + Unpin>>>);

impl Sink {
    pub fn new(half: impl AsyncWrite + Send + Sync + Unpin + 'static) -> Self {
        Sink(Arc::new(Mutex::new(Box::new(half))))
    }

    pub async fn send(&self, kind: u8, payload: &[u8]) -> Result<()> {
        let sent = write_frame(&mut *self.0.lock().await, kind, payload).await;
        sent.map_err(|e| Error::because(ErrorType::WriteError, "a frame", e))
    }

    pub async fn close(&self) {
        let _ = self.0.lock().await.shutdown().await;
    }
}

/// Writes custom messages between the other frames.
pub struct MessageSink(pub Sink);

#[async_trait::async_trait]
impl CustomMessageWrite for MessageSink {
    fn set_write_timeout(&mut self, _: Option<Duration>) {}

    async fn write_custom_message(&mut self, msg: Bytes) -> Result<()> {
        self.0.send(b'M', &msg).await
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The custom messages of one exchange after the other.
#[derive(Clone, Default)]
pub struct Inbox(Arc<std::sync::Mutex<Option<unbounded::UnboundedSender<Result<Bytes>>>>>);

impl Inbox {
    /// Those of the exchange that begins.
    pub fn reader(&self) -> Reader {
        let (sender, reader) = unbounded::unbounded();
        *self.0.lock().unwrap() = Some(sender);
        Box::new(reader)
    }

    fn put(&self, message: Result<Bytes>) {
        if let Some(sender) = &*self.0.lock().unwrap() {
            let _ = sender.unbounded_send(message);
        }
    }

    fn end(&self) {
        *self.0.lock().unwrap() = None;
    }
}

/// Sorts what comes: frames of exchanges, and custom messages.
pub fn sort(
    mut from: impl AsyncRead + Send + Unpin + 'static,
    inbox: Inbox,
) -> mpsc::Receiver<Frame> {
    let (frames, sorted) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = read_frame(&mut from) => next,
                () = frames.closed() => None,
            };
            let Some((kind, payload)) = next else {
                return inbox.end();
            };
            match kind {
                b'M' => {
                    inbox.put(Ok(payload));
                    continue;
                }
                b'X' => {
                    inbox.put(Err(gone()));
                    continue;
                }
                b'E' | b'T' | b'R' => inbox.end(),
                _ => {}
            }
            if frames.send((kind, payload)).await.is_err() {
                return;
            }
        }
    });
    sorted
}

/// `name: value`, a line each.
pub fn fields(headers: &http::HeaderMap) -> String {
    let mut lines = String::new();
    for (name, value) in headers {
        lines += &format!("{name}: {}\n", value.to_str().unwrap());
    }
    lines
}

pub fn parse_fields<'a>(lines: impl Iterator<Item = &'a str>) -> http::HeaderMap {
    let each = lines.filter_map(|line| line.split_once(": "));
    each.map(|(name, value)| {
        let name = http::HeaderName::try_from(name).unwrap();
        (name, value.parse().unwrap())
    })
    .collect()
}

pub fn gone() -> Box<Error> {
    Error::explain(ErrorType::ConnectionClosed, "the other side has gone")
}
