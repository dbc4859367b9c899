//! The server side of a custom session: towards the client.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use http::HeaderMap;
use once_cell::sync::Lazy;
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use super::{no_session, CustomMessageWrite};
use crate::protocols::http::HttpTask;
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::Digest;
use crate::utils::ready::ready;

/// One exchange with a client over a custom protocol.
#[async_trait]
pub trait Session: Send + Sync + Unpin + 'static {
    /// The request header.
    fn req_header(&self) -> &RequestHeader;

    /// The request header, to be changed.
    fn req_header_mut(&mut self) -> &mut RequestHeader;

    /// Reads the next chunk of the request body; `None` at its end.
    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>>;

    /// Reads and drops what is left of the request body.
    async fn drain_request_body(&mut self) -> Result<()>;

    /// Sends a response header; `end` says that no body follows.
    async fn write_response_header(&mut self, resp: Box<ResponseHeader>, end: bool) -> Result<()>;

    /// Sends a response header that the caller keeps; `end` says that no body follows.
    async fn write_response_header_ref(&mut self, resp: &ResponseHeader, end: bool) -> Result<()>;

    /// Sends a chunk of the response body; `end` says that it is the last one.
    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()>;

    /// Sends trailers; they end the response.
    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()>;

    /// Sends steps of the response, and says whether the response ended with them.
    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool>;

    /// Lets the response be sent by [`send_proxy_task`](Self::send_proxy_task); without effect
    /// in sessions that do not support it.
    fn set_proxy_tasks_enabled(&mut self, _enabled: bool) {}

    /// Returns true if [`send_proxy_task`](Self::send_proxy_task) may be used.
    fn proxy_tasks_enabled(&self) -> bool {
        false
    }

    /// Queues a step of the response, which
    /// [`write_proxy_tasks`](Self::write_proxy_tasks) sends; it is dropped in sessions whose
    /// [`proxy_tasks_enabled`](Self::proxy_tasks_enabled) is false.
    fn send_proxy_task(&mut self, _task: HttpTask) {}

    /// Returns true if queued steps wait to be sent.
    fn has_pending_proxy_tasks(&self) -> bool {
        false
    }

    /// Sends the queued steps, and says whether the response ended with them.
    fn write_proxy_tasks<'life0, 'async_trait>(
        &'life0 mut self,
    ) -> Pin<Box<dyn Future<Output = Result<bool>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        ready(|| Ok(false))
    }

    /// Limits how long a read may take; `None` for no limit.
    fn set_read_timeout(&mut self, timeout: Option<Duration>);

    /// The limit of a read.
    fn get_read_timeout(&self) -> Option<Duration>;

    /// Limits how long a write may take; `None` for no limit.
    fn set_write_timeout(&mut self, timeout: Option<Duration>);

    /// The limit of a write.
    fn get_write_timeout(&self) -> Option<Duration>;

    /// Limits how long [`drain_request_body`](Self::drain_request_body) may take in all.
    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>);

    /// The limit of [`drain_request_body`](Self::drain_request_body).
    fn get_total_drain_timeout(&self) -> Option<Duration>;

    /// A line for the log that names the request.
    fn request_summary(&self) -> String;

    /// The final response header that was sent.
    fn response_written(&self) -> Option<&ResponseHeader>;

    /// Ends the exchange early, with an error code of the protocol and a reason for the log.
    async fn shutdown(&mut self, code: u32, ctx: &str);

    /// Gives up an exchange whose other end has gone: [`shutdown`](Self::shutdown) with code 1.
    async fn abandon(&mut self, ctx: &str) {
        self.shutdown(1, ctx).await;
    }

    /// Returns true if the request body was read to its end.
    fn is_body_done(&mut self) -> bool;

    /// Ends the response.
    async fn finish(&mut self) -> Result<()>;

    /// Returns true if the request has no body.
    fn is_body_empty(&mut self) -> bool;

    /// Reads the next chunk of the request body; with `no_body_expected`, or after its end,
    /// waits for the client to go instead.
    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>>;

    /// Returns the number of bytes of the response body that were sent.
    fn body_bytes_sent(&self) -> usize;

    /// Returns the number of bytes of the request body that were read.
    fn body_bytes_read(&self) -> usize;

    /// Returns the known facts of the connection.
    fn digest(&self) -> Option<&Digest>;

    /// Returns the known facts of the connection, to change them.
    fn digest_mut(&mut self) -> Option<&mut Digest>;

    /// The address of the client.
    fn client_addr(&self) -> Option<&SocketAddr>;

    /// The local address.
    fn server_addr(&self) -> Option<&SocketAddr>;

    /// The request header as HTTP/1.1 would send it.
    fn pseudo_raw_h1_request_header(&self) -> Bytes;

    /// Keeps a copy of the request body as it is read, for a retry.
    fn enable_retry_buffering(&mut self);

    /// Returns true if the request body was too large to be kept.
    fn retry_buffer_truncated(&self) -> bool;

    /// The copy of the request body so far.
    fn get_retry_buffer(&self) -> Option<Bytes>;

    /// Says that no further custom message is sent.
    async fn finish_custom(&mut self) -> Result<()>;

    /// Takes the reader of custom messages out of the session; `None` if it was taken before.
    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>>;

    /// Puts back a reader that was taken.
    fn restore_custom_message_reader(
        &mut self,
        reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()>;

    /// Takes the writer of custom messages out of the session; `None` if it was taken before.
    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>>;

    /// Puts back a writer that was taken.
    fn restore_custom_message_writer(&mut self, writer: Box<dyn CustomMessageWrite>) -> Result<()>;

    /// Returns true if the request asks to make the exchange a raw stream.
    fn is_upgrade_req(&self) -> bool {
        false
    }

    /// Returns true if the exchange became a raw stream.
    fn was_upgraded(&self) -> bool {
        false
    }

    /// Returns the driver of a session, if that stands in the session's place.
    #[doc(hidden)]
    fn as_driver(&self) -> Option<&dyn Any> {
        None
    }

    /// As [`as_driver`](Self::as_driver).
    #[doc(hidden)]
    fn as_driver_mut(&mut self) -> Option<&mut dyn Any> {
        None
    }
}

/// The request that `()` shows.
static NO_REQUEST: Lazy<RequestHeader> = Lazy::new(no_request);

fn no_request() -> RequestHeader {
    // A method and a path that are constant and valid.
    #[allow(clippy::unwrap_used)]
    RequestHeader::build("GET", b"/", None).unwrap()
}

#[async_trait]
impl Session for () {
    fn req_header(&self) -> &RequestHeader {
        &NO_REQUEST
    }

    /// Each call leaks the header that it returns: nothing in `()` could own it, and there is no
    /// error to return.
    fn req_header_mut(&mut self) -> &mut RequestHeader {
        Box::leak(Box::new(no_request()))
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        Err(no_session())
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        Err(no_session())
    }

    async fn write_response_header(
        &mut self,
        _resp: Box<ResponseHeader>,
        _end: bool,
    ) -> Result<()> {
        Err(no_session())
    }

    async fn write_response_header_ref(
        &mut self,
        _resp: &ResponseHeader,
        _end: bool,
    ) -> Result<()> {
        Err(no_session())
    }

    async fn write_body(&mut self, _data: Bytes, _end: bool) -> Result<()> {
        Err(no_session())
    }

    async fn write_trailers(&mut self, _trailers: HeaderMap) -> Result<()> {
        Err(no_session())
    }

    async fn response_duplex_vec(&mut self, _tasks: Vec<HttpTask>) -> Result<bool> {
        Err(no_session())
    }

    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_write_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_total_drain_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        None
    }

    fn request_summary(&self) -> String {
        String::from("no custom session")
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        None
    }

    async fn shutdown(&mut self, _code: u32, _ctx: &str) {}

    fn is_body_done(&mut self) -> bool {
        true
    }

    async fn finish(&mut self) -> Result<()> {
        Err(no_session())
    }

    fn is_body_empty(&mut self) -> bool {
        true
    }

    async fn read_body_or_idle(&mut self, _no_body_expected: bool) -> Result<Option<Bytes>> {
        Err(no_session())
    }

    fn body_bytes_sent(&self) -> usize {
        0
    }

    fn body_bytes_read(&self) -> usize {
        0
    }

    fn digest(&self) -> Option<&Digest> {
        None
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        None
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }

    fn enable_retry_buffering(&mut self) {}

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Err(no_session())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Err(no_session())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(
        &mut self,
        _writer: Box<dyn CustomMessageWrite>,
    ) -> Result<()> {
        Err(no_session())
    }
}
