//! Listening sockets.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use tokio::net::{TcpListener, UnixListener};

use super::stream::Stream;

/// A listening TCP or Unix socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix stream socket.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(s: TcpListener) -> Self {
        Listener::Tcp(s)
    }
}

impl From<UnixListener> for Listener {
    fn from(s: UnixListener) -> Self {
        Listener::Unix(s)
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Listener::Tcp(l) => l.as_raw_fd(),
            Listener::Unix(l) => l.as_raw_fd(),
        }
    }
}

impl Listener {
    /// Waits for a connection and accepts it.
    ///
    /// A TCP connection comes with `TCP_NODELAY` set: what is written is buffered by us and complete when
    /// it is flushed, so that waiting for more would only delay it.
    ///
    /// # Errors
    /// The error of `accept`; too many open files, for one, is a reason to try again later.
    ///
    /// # Cancel safety
    /// No connection is lost when the future is dropped.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(l) => {
                let (stream, peer) = l.accept().await?;
                Ok(Stream::accepted(stream, peer))
            }
            Listener::Unix(l) => l.accept().await.map(|(stream, _)| stream.into()),
        }
    }
}
