//! An HTTP session as its server sees it, of any version.

use std::fmt;

use bytes::{Bytes, BytesMut};
use http::header::AsHeaderName;
use http::{HeaderMap, HeaderValue};
use pingora_error::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use super::custom::server::Session as CustomSession;
use super::subrequest::server::HttpSession as SessionSubrequest;
use super::v1::proto::Refusal;
use super::v1::server::{HttpSession as SessionV1, Inner};
use super::v2::server::{HttpSession as SessionV2, Idle};
use super::{error_resp, HttpTask};
use crate::protocols::Stream;

/// An exchange with a client.
pub enum Session {
    /// HTTP/1.x.
    H1(SessionV1),
    /// HTTP/2: one stream.
    H2(SessionV2),
    /// A request that the proxy makes to itself.
    Subrequest(SessionSubrequest),
    /// A protocol of the user's own.
    Custom(Box<dyn CustomSession>),
}

/// One expression for every kind of session.
macro_rules! each {
    ($session:expr, $s:ident => $each:expr) => {
        match $session {
            Session::H1($s) => $each,
            Session::H2($s) => $each,
            Session::Subrequest($s) => $each,
            Session::Custom($s) => $each,
        }
    };
}

/// Calls a method that only HTTP/1.x has, or gives what stands for it elsewhere.
macro_rules! h1 {
    ($session:expr, $s:ident => $h1:expr, else $other:expr) => {
        match $session {
            Session::H1($s) => $h1,
            Session::H2(_) | Session::Subrequest(_) | Session::Custom(_) => $other,
        }
    };
}

// After the macros, which they use.
mod connection;
mod hooks;
mod refused;
#[cfg(test)]
mod tests;

pub use refused::RefusedRequest;

impl Session {
    /// A session for the first request of an HTTP/1.x connection.
    pub fn new_http1(stream: Stream) -> Self {
        Session::H1(SessionV1::new(stream))
    }

    /// A session for a stream of an HTTP/2 connection.
    pub fn new_http2(session: SessionV2) -> Self {
        Session::H2(session)
    }

    /// A session for a request that the proxy makes to itself.
    pub fn new_subrequest(session: SessionSubrequest) -> Self {
        Session::Subrequest(session)
    }

    /// A session of a protocol of the user's own.
    pub fn new_custom(session: Box<dyn CustomSession>) -> Self {
        Session::Custom(session)
    }

    /// The session, if it is HTTP/1.x.
    pub fn as_http1(&self) -> Option<&SessionV1> {
        h1!(self, s => Some(s), else None)
    }

    /// The session, if it is an HTTP/2 stream.
    pub fn as_http2(&self) -> Option<&SessionV2> {
        match self {
            Session::H2(s) => Some(s),
            Session::H1(_) | Session::Subrequest(_) | Session::Custom(_) => None,
        }
    }

    /// Waits for the client to give up an HTTP/2 stream; `None` for other sessions.
    pub fn watch_h2_stream_close(&mut self) -> Option<Idle<'_>> {
        match self {
            Session::H2(s) => Some(s.idle()),
            Session::H1(_) | Session::Subrequest(_) | Session::Custom(_) => None,
        }
    }

    /// The session, if it is a subrequest.
    pub fn as_subrequest(&self) -> Option<&SessionSubrequest> {
        match self {
            Session::Subrequest(s) => Some(s),
            Session::H1(_) | Session::H2(_) | Session::Custom(_) => None,
        }
    }

    /// The session, if it is a subrequest.
    pub fn as_subrequest_mut(&mut self) -> Option<&mut SessionSubrequest> {
        match self {
            Session::Subrequest(s) => Some(s),
            Session::H1(_) | Session::H2(_) | Session::Custom(_) => None,
        }
    }

    /// The session, if it is of the user's own protocol.
    pub fn as_custom(&self) -> Option<&dyn CustomSession> {
        match self {
            Session::Custom(s) => Some(s.as_ref()),
            Session::H1(_) | Session::H2(_) | Session::Subrequest(_) => None,
        }
    }

    /// The session, if it is of the user's own protocol.
    pub fn as_custom_mut(&mut self) -> Option<&mut Box<dyn CustomSession>> {
        match self {
            Session::Custom(s) => Some(s),
            Session::H1(_) | Session::H2(_) | Session::Subrequest(_) => None,
        }
    }

    /// Returns true if it is an HTTP/2 stream.
    pub fn is_http2(&self) -> bool {
        matches!(self, Session::H2(_))
    }

    /// Returns true if it is of the user's own protocol.
    pub fn is_custom(&self) -> bool {
        matches!(self, Session::Custom(_))
    }

    /// Returns true if it is a request that the proxy makes to itself.
    pub fn is_subrequest(&self) -> bool {
        matches!(self, Session::Subrequest(_))
    }

    /// The kind of session in a word, for logs.
    pub fn session_type(&self) -> &'static str {
        match self {
            Session::H1(_) => "HTTP/1.x",
            Session::H2(_) => "HTTP/2",
            Session::Subrequest(_) => "subrequest",
            Session::Custom(_) => "custom",
        }
    }

    /// Reads the head of the request. `false`: the client left before a byte of it, or need not be waited
    /// for any longer.
    ///
    /// # Errors
    /// See [`SessionV1::read_request`].
    ///
    /// # Cancel safety
    /// Bytes that were received are kept, and the next call goes on.
    pub async fn read_request(&mut self) -> Result<bool> {
        match self {
            Session::H1(s) => Ok(s.read_request().await?.is_some()),
            // A stream begins with its request.
            Session::H2(s) => s.read_empty_body().await.map(|()| true),
            Session::Subrequest(s) => Ok(s.read_request().await?.is_some()),
            // A custom session is made with it.
            Session::Custom(_) => Ok(true),
        }
    }

    /// The head of the request.
    #[inline]
    pub fn req_header(&self) -> &RequestHeader {
        each!(self, s => s.req_header())
    }

    /// The head of the request, to change it.
    pub fn req_header_mut(&mut self) -> &mut RequestHeader {
        each!(self, s => s.req_header_mut())
    }

    /// The first value of a field of the request.
    pub fn get_header<K: AsHeaderName>(&self, key: K) -> Option<&HeaderValue> {
        self.req_header().headers.get(key)
    }

    /// The first value of a field of the request, empty when there is none.
    pub fn get_header_bytes<K: AsHeaderName>(&self, key: K) -> &[u8] {
        self.get_header(key).map_or(b"", |v| v.as_bytes())
    }

    /// The head of the request in HTTP/1.x form.
    pub fn to_h1_raw(&self) -> Bytes {
        match self {
            Session::H1(s) => s.get_headers_raw_bytes(),
            Session::H2(s) => s.pseudo_raw_h1_request_header(),
            Session::Subrequest(s) => s.get_headers_raw_bytes(),
            Session::Custom(s) => s.pseudo_raw_h1_request_header(),
        }
    }

    /// Method, target and Host in one line, for logs.
    pub fn request_summary(&self) -> String {
        each!(self, s => s.request_summary())
    }

    /// The next piece of the request body; `None` after its end.
    ///
    /// # Errors
    /// See [`SessionV1::read_body_bytes`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn read_request_body(&mut self) -> Result<Option<Bytes>> {
        match self {
            Session::H1(s) => s.read_body_bytes().await,
            Session::H2(s) => s.read_body_bytes().await,
            Session::Subrequest(s) => s.read_body_bytes().await,
            Session::Custom(s) => s.read_body_bytes().await,
        }
    }

    /// Reads the body, or, when there is none left or none is expected, waits for the client to leave.
    ///
    /// # Errors
    /// Those of the read; `ConnectionClosed` when the client leaves.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        each!(self, s => s.read_body_or_idle(no_body_expected).await)
    }

    /// Reads the rest of the request body for nothing.
    ///
    /// # Errors
    /// See [`SessionV1::drain_request_body`].
    pub async fn drain_request_body(&mut self) -> Result<()> {
        each!(self, s => s.drain_request_body().await)
    }

    /// Returns true if the whole request body is read.
    pub fn is_body_done(&mut self) -> bool {
        each!(self, s => s.is_body_done())
    }

    /// Returns true if the request has no body.
    #[inline]
    pub fn is_body_empty(&mut self) -> bool {
        each!(self, s => s.is_body_empty())
    }

    /// Bytes of request body read so far.
    pub fn body_bytes_read(&self) -> usize {
        each!(self, s => s.body_bytes_read())
    }

    /// Bytes of response body written so far.
    pub fn body_bytes_sent(&self) -> usize {
        each!(self, s => s.body_bytes_sent())
    }

    /// Keeps a copy of the request body, up to 64 KiB, for a retry.
    pub fn enable_retry_buffering(&mut self) {
        each!(self, s => s.enable_retry_buffering())
    }

    /// Returns true if more of the body was read than is kept.
    pub fn retry_buffer_truncated(&self) -> bool {
        each!(self, s => s.retry_buffer_truncated())
    }

    /// The request body read so far, if all of it is kept.
    pub fn get_retry_buffer(&self) -> Option<Bytes> {
        each!(self, s => s.get_retry_buffer())
    }

    /// Writes a response head; a body may follow.
    ///
    /// # Errors
    /// See [`SessionV1::write_response_header`].
    pub async fn write_response_header(&mut self, resp: Box<ResponseHeader>) -> Result<()> {
        match self {
            Session::H1(s) => s.write_response_header(resp).await,
            Session::H2(s) => s.write_response_header(resp, false),
            Session::Subrequest(s) => s.write_response_header(resp).await,
            Session::Custom(s) => s.write_response_header(resp, false).await,
        }
    }

    /// [`Session::write_response_header`] of a copy.
    ///
    /// # Errors
    /// As there.
    pub async fn write_response_header_ref(&mut self, resp: &ResponseHeader) -> Result<()> {
        match self {
            Session::H1(s) => s.write_response_header_ref(resp).await,
            Session::H2(s) => s.write_response_header_ref(resp, false),
            Session::Subrequest(s) => s.write_response_header_ref(resp).await,
            Session::Custom(s) => s.write_response_header_ref(resp, false).await,
        }
    }

    /// Tells the client to send its body.
    ///
    /// # Errors
    /// Those of a write.
    pub async fn write_continue_response(&mut self) -> Result<()> {
        match self {
            Session::H1(s) => s.write_continue_response().await,
            Session::H2(s) => {
                let header = ResponseHeader::build(100, Some(0))?;
                s.write_response_header(Box::new(header), false)
            }
            Session::Subrequest(s) => s.write_continue_response().await,
            Session::Custom(s) => {
                let header = ResponseHeader::build(100, Some(0))?;
                s.write_response_header(Box::new(header), false).await
            }
        }
    }

    /// Writes a piece of the response body; `end` makes it the last.
    ///
    /// # Errors
    /// See [`SessionV1::write_body`] and [`SessionV1::finish_body`].
    pub async fn write_response_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        match self {
            Session::H1(s) => {
                // An empty piece would be the end of a chunked body.
                if !data.is_empty() {
                    s.write_body_bytes(data).await?;
                }
                if end {
                    s.finish_body().await?;
                }
                Ok(())
            }
            Session::H2(s) => s.write_body(data, end).await,
            Session::Subrequest(s) => {
                let task = HttpTask::Body(Some(data), end);
                s.response_duplex_vec(vec![task]).await.map(|_| ())
            }
            Session::Custom(s) => s.write_body(data, end).await,
        }
    }

    /// Ends the response with trailers.
    ///
    /// # Errors
    /// Those of a write.
    pub async fn write_response_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        match self {
            Session::H1(s) => {
                let task = HttpTask::Trailer(Some(Box::new(trailers)));
                s.response_duplex_vec(vec![task]).await.map(|_| ())
            }
            Session::H2(s) => s.write_trailers(trailers),
            Session::Subrequest(s) => s.write_trailers(Some(Box::new(trailers))).await,
            Session::Custom(s) => s.write_trailers(trailers).await,
        }
    }

    /// Ends the response body.
    ///
    /// # Errors
    /// See [`SessionV1::finish_body`].
    pub async fn finish_body(&mut self) -> Result<()> {
        match self {
            Session::H1(s) => s.finish_body().await.map(|_| ()),
            Session::H2(s) => s.finish_and_flush().await,
            Session::Subrequest(s) => s.finish().await.map(|_| ()),
            Session::Custom(s) => s.finish().await,
        }
    }

    /// Ends the exchange. An HTTP/1.x connection on which another request may follow is returned.
    ///
    /// # Errors
    /// Those of the last write.
    pub async fn finish(self) -> Result<Option<ReusableHttpStream>> {
        match self {
            Session::H1(s) => s.reuse().await,
            Session::H2(mut s) => s.finish_and_flush().await.map(|()| None),
            Session::Subrequest(mut s) => s.finish().await.map(|_| None),
            Session::Custom(mut s) => s.finish().await.map(|()| None),
        }
    }

    /// Writes the messages of a response, and says whether the last one ended it.
    ///
    /// # Errors
    /// Those of the writes, and the one that a [`HttpTask::Failed`] carries.
    pub async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        each!(self, s => s.response_duplex_vec(tasks).await)
    }

    /// Returns true if messages can be queued and written later.
    pub fn supports_proxy_task_api(&self) -> bool {
        match self {
            Session::H1(_) | Session::H2(_) | Session::Subrequest(_) => true,
            Session::Custom(s) => s.proxy_tasks_enabled(),
        }
    }

    /// Lets the proxy queue messages and write them later.
    pub fn set_proxy_tasks_enabled(&mut self, enabled: bool) {
        match self {
            Session::H1(s) => s.set_proxy_tasks_enabled(enabled),
            // It always works.
            Session::H2(_) => {}
            Session::Subrequest(s) => s.set_proxy_tasks_enabled(enabled),
            Session::Custom(s) => s.set_proxy_tasks_enabled(enabled),
        }
    }

    /// Queues a message of the response.
    pub fn send_downstream_proxy_task(&mut self, task: HttpTask) {
        each!(self, s => s.send_proxy_task(task))
    }

    /// Writes the queued messages, and says whether the last one ended the response.
    ///
    /// # Errors
    /// As [`Session::response_duplex_vec`].
    ///
    /// # Cancel safety
    /// Messages that are not written stay queued.
    pub async fn write_downstream_proxy_tasks(&mut self) -> Result<bool> {
        each!(self, s => s.write_proxy_tasks().await)
    }

    /// Returns true if messages are queued and not written.
    pub fn has_pending_downstream_proxy_tasks(&self) -> bool {
        each!(self, s => s.has_pending_proxy_tasks())
    }

    /// The final response head that was written, if one was.
    pub fn response_written(&self) -> Option<&ResponseHeader> {
        each!(self, s => s.response_written())
    }

    /// Returns true if the request asks for an upgrade.
    pub fn is_upgrade_req(&self) -> bool {
        match self {
            Session::H1(s) => s.is_upgrade_req(),
            Session::H2(s) => s.is_tunnel_req(),
            Session::Subrequest(s) => s.is_upgrade_req(),
            Session::Custom(s) => s.is_upgrade_req(),
        }
    }

    /// Returns true if `header` grants the upgrade that the request asks for, false if it refuses it; `None` if the
    /// request asks for none.
    pub fn is_upgrade(&self, header: &ResponseHeader) -> Option<bool> {
        match self {
            Session::H1(s) => s.is_upgrade(header),
            Session::H2(s) => s.is_tunnel_req().then(|| s.opens_tunnel(header.status)),
            Session::Subrequest(s) => s.is_upgrade(header),
            Session::Custom(_) => None,
        }
    }

    /// Returns true if the connection has left HTTP.
    pub fn was_upgraded(&self) -> bool {
        match self {
            Session::H1(s) => s.was_upgraded(),
            Session::H2(s) => s.is_tunnel(),
            Session::Subrequest(s) => s.was_upgraded(),
            Session::Custom(s) => s.was_upgraded(),
        }
    }

    /// A response with an error status and no body.
    pub fn generate_error(error: u16) -> ResponseHeader {
        error_resp::gen_error_response(error)
    }

    /// Answers with an error status and no body; the connection closes afterwards.
    ///
    /// # Errors
    /// Those of the writes.
    pub async fn respond_error(&mut self, error: u16) -> Result<()> {
        self.respond_error_with_body(error, Bytes::new()).await
    }

    /// Answers with an error status and a body; the connection closes afterwards.
    ///
    /// # Errors
    /// Those of the writes.
    pub async fn respond_error_with_body(&mut self, error: u16, body: Bytes) -> Result<()> {
        let mut resp = Self::generate_error(error);
        if !body.is_empty() {
            resp.set_content_length(body.len())?;
        }
        self.write_error_response(resp, body).await
    }

    /// Writes a whole response, after which the connection closes: the request may not have been read to
    /// its end.
    ///
    /// # Errors
    /// Those of the writes.
    pub async fn write_error_response(&mut self, resp: ResponseHeader, body: Bytes) -> Result<()> {
        self.set_keepalive(None);
        self.response_duplex_vec(vec![
            HttpTask::Header(Box::new(resp), false),
            HttpTask::Body(Some(body), true),
        ])
        .await
        .map(|_| ())
    }
}

/// The status for a request whose head could not be read; `None` when nobody waits for an answer.
fn refusal_status(e: &Error) -> Option<u16> {
    use pingora_error::ErrorType::{HTTPStatus, InvalidHTTPHeader, ReadTimedout};
    match e.etype {
        HTTPStatus(status) => Some(status),
        InvalidHTTPHeader => {
            let refusal = e.cause.as_ref().and_then(|c| c.downcast_ref::<Refusal>());
            Some(refusal.map_or(400, |r| r.status()))
        }
        ReadTimedout => Some(408),
        _ => None,
    }
}

/// An HTTP/1.x connection between two requests.
pub struct ReusableHttpStream {
    inner: Box<Inner>,
}

impl ReusableHttpStream {
    pub(crate) fn new(inner: Box<Inner>) -> Self {
        ReusableHttpStream { inner }
    }

    /// The transport, and the bytes of the next request that were received already.
    pub fn into_parts(mut self) -> (Stream, Option<BytesMut>) {
        self.inner.take_stream()
    }

    pub(crate) fn into_inner(self) -> Box<Inner> {
        self.inner
    }
}

impl fmt::Debug for ReusableHttpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReusableHttpStream").finish_non_exhaustive()
    }
}
