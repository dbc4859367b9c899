//! An HTTP session as its client sees it, of any version.

use std::time::Duration;

use bytes::Bytes;
use pingora_error::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use super::custom::client::Session;
use super::v1::client::HttpSession as Http1Session;
use super::v2::client::Http2Session;
use crate::exchange::ClientHooks;
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::{Digest, Stream};

/// An exchange with an upstream.
pub enum HttpSession<S = ()> {
    /// HTTP/1.x.
    H1(Http1Session),
    /// HTTP/2.
    H2(Http2Session),
    /// A protocol of the user's own.
    Custom(S),
}

/// One expression for every kind of session.
macro_rules! each {
    ($session:expr, $s:ident => $each:expr) => {
        match $session {
            HttpSession::H1($s) => $each,
            HttpSession::H2($s) => $each,
            HttpSession::Custom($s) => $each,
        }
    };
}

impl<S: Session> HttpSession<S> {
    /// The session, if it is HTTP/1.x.
    pub fn as_http1(&self) -> Option<&Http1Session> {
        match self {
            HttpSession::H1(s) => Some(s),
            HttpSession::H2(_) | HttpSession::Custom(_) => None,
        }
    }

    /// The session, if it is HTTP/2.
    pub fn as_http2(&self) -> Option<&Http2Session> {
        match self {
            HttpSession::H2(s) => Some(s),
            HttpSession::H1(_) | HttpSession::Custom(_) => None,
        }
    }

    /// The session, if it is of the user's own protocol.
    pub fn as_custom(&self) -> Option<&S> {
        match self {
            HttpSession::Custom(s) => Some(s),
            HttpSession::H1(_) | HttpSession::H2(_) => None,
        }
    }

    /// The session, if it is of the user's own protocol.
    pub fn as_custom_mut(&mut self) -> Option<&mut S> {
        match self {
            HttpSession::Custom(s) => Some(s),
            HttpSession::H1(_) | HttpSession::H2(_) => None,
        }
    }

    /// Writes the head of the request.
    ///
    /// # Errors
    /// Those of a write.
    pub async fn write_request_header(&mut self, req: Box<RequestHeader>) -> Result<()> {
        match self {
            HttpSession::H1(s) => s.write_request_header(req).await.map(|_| ()),
            HttpSession::H2(s) => s.write_request_header(req, false),
            HttpSession::Custom(s) => s.write_request_header(req, false).await,
        }
    }

    /// Writes a piece of the request body; `end` makes it the last.
    ///
    /// # Errors
    /// Those of a write.
    pub async fn write_request_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        match self {
            HttpSession::H1(s) => {
                s.queue_request_body(data)?;
                if end {
                    s.queue_request_end(None)?;
                }
                std::future::poll_fn(|cx| s.poll_flush(cx)).await
            }
            HttpSession::H2(s) => s.write_request_body(data, end).await,
            HttpSession::Custom(s) => s.write_request_body(data, end).await,
        }
    }

    /// Ends the request body.
    ///
    /// # Errors
    /// Those of a write.
    pub async fn finish_request_body(&mut self) -> Result<()> {
        match self {
            HttpSession::H1(s) => s.finish_body().await.map(|_| ()),
            HttpSession::H2(s) => s.finish_request_body(),
            HttpSession::Custom(s) => s.finish_request_body().await,
        }
    }

    /// Sets how long the upstream may be silent.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        match self {
            HttpSession::H1(s) => s.read_timeout = timeout,
            HttpSession::H2(s) => s.read_timeout = timeout,
            HttpSession::Custom(s) => s.set_read_timeout(timeout),
        }
    }

    /// Sets how long the upstream may take nothing of the request.
    pub fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        match self {
            HttpSession::H1(s) => s.write_timeout = timeout,
            HttpSession::H2(s) => s.write_timeout = timeout,
            HttpSession::Custom(s) => s.set_write_timeout(timeout),
        }
    }

    /// Reads the head of the response; see [`Http1Session::read_response`].
    ///
    /// # Errors
    /// Those of the read.
    pub async fn read_response_header(&mut self) -> Result<()> {
        match self {
            HttpSession::H1(s) => s.read_response().await.map(|_| ()),
            HttpSession::H2(s) => s.read_response_header().await,
            HttpSession::Custom(s) => s.read_response_header().await,
        }
    }

    /// The next piece of the response body; `None` after its end.
    ///
    /// # Errors
    /// Those of the read.
    pub async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        match self {
            HttpSession::H1(s) => s.read_body_bytes().await,
            HttpSession::H2(s) => s.read_response_body().await,
            HttpSession::Custom(s) => s.read_response_body().await,
        }
    }

    /// Returns whether the whole response is read.
    pub fn response_done(&mut self) -> bool {
        match self {
            HttpSession::H1(s) => s.is_body_done(),
            HttpSession::H2(s) => s.response_finished(),
            HttpSession::Custom(s) => s.response_finished(),
        }
    }

    /// The head of the response, once it is read.
    pub fn response_header(&self) -> Option<&ResponseHeader> {
        match self {
            HttpSession::H1(s) => s.resp_header(),
            HttpSession::H2(s) => s.response_header(),
            HttpSession::Custom(s) => s.response_header(),
        }
    }

    /// Gives the exchange up and closes what belongs to it.
    pub async fn shutdown(&mut self) {
        match self {
            HttpSession::H1(s) => s.shutdown().await,
            HttpSession::H2(s) => s.shutdown(),
            HttpSession::Custom(s) => s.shutdown(1, "shutdown").await,
        }
    }

    /// The digest of the connection.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            HttpSession::H1(s) => Some(s.digest()),
            HttpSession::H2(s) => s.digest(),
            HttpSession::Custom(s) => s.digest(),
        }
    }

    /// Returns what is known of the connection, to add to it.
    pub fn digest_mut(&mut self) -> Option<&mut Digest> {
        match self {
            HttpSession::H1(s) => Some(s.digest_mut()),
            HttpSession::H2(s) => s.digest_mut(),
            HttpSession::Custom(s) => s.digest_mut(),
        }
    }

    /// The upstream's address.
    pub fn server_addr(&self) -> Option<&SocketAddr> {
        each!(self, s => s.server_addr())
    }

    /// The local address of the connection.
    pub fn client_addr(&self) -> Option<&SocketAddr> {
        each!(self, s => s.client_addr())
    }

    /// The transport, where one belongs to the session alone.
    pub fn stream(&self) -> Option<&Stream> {
        match self {
            HttpSession::H1(s) => Some(s.stream()),
            HttpSession::H2(_) | HttpSession::Custom(_) => None,
        }
    }
}

impl<S: Session> ClientHooks for HttpSession<S> {
    async fn abandon(&mut self, e: &Error) {
        if let HttpSession::H1(s) = self {
            if s.drain_response().await {
                return;
            }
            s.note_failure(e);
        }
        self.shutdown().await;
    }

    async fn drain(&mut self) {
        if let HttpSession::H1(s) = self {
            s.drain_response().await;
        }
    }
}
