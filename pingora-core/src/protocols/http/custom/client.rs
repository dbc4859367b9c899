//! The client side of a custom session: towards the origin.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use http::HeaderMap;
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use super::{no_session, BodyWrite, CustomMessageWrite};
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::{Digest, UniqueIDType};

/// One exchange with an origin over a custom protocol.
#[async_trait]
pub trait Session: Send + Sync + Unpin + 'static {
    /// Sends the request header; `end` says that no body follows.
    async fn write_request_header(&mut self, req: Box<RequestHeader>, end: bool) -> Result<()>;

    /// Sends a chunk of the request body; `end` says that it is the last one.
    async fn write_request_body(&mut self, data: Bytes, end: bool) -> Result<()>;

    /// Says that the request body is complete.
    async fn finish_request_body(&mut self) -> Result<()>;

    /// Limits how long a read may take; `None` for no limit.
    fn set_read_timeout(&mut self, timeout: Option<Duration>);

    /// Limits how long a write may take; `None` for no limit.
    fn set_write_timeout(&mut self, timeout: Option<Duration>);

    /// Reads the next response header, which [`response_header`](Self::response_header) then
    /// gives.
    async fn read_response_header(&mut self) -> Result<()>;

    /// Reads the next chunk of the response body; `None` at its end.
    async fn read_response_body(&mut self) -> Result<Option<Bytes>>;

    /// Returns true if the response was read to its end.
    fn response_finished(&self) -> bool;

    /// Ends the exchange early, with an error code of the protocol and a reason for the log.
    async fn shutdown(&mut self, code: u32, ctx: &str);

    /// Gives up an exchange whose other end has gone: [`shutdown`](Self::shutdown) with code 1.
    async fn abandon(&mut self, ctx: &str) {
        self.shutdown(1, ctx).await;
    }

    /// The response header that was read last.
    fn response_header(&self) -> Option<&ResponseHeader>;

    /// Returns true if the exchange became a raw stream.
    fn was_upgraded(&self) -> bool;

    /// Returns the known facts of the connection.
    fn digest(&self) -> Option<&Digest>;

    /// Returns the known facts of the connection, to change them.
    fn digest_mut(&mut self) -> Option<&mut Digest>;

    /// The address of the origin.
    fn server_addr(&self) -> Option<&SocketAddr>;

    /// The local address.
    fn client_addr(&self) -> Option<&SocketAddr>;

    /// Reads the trailers after the body, if any.
    async fn read_trailers(&mut self) -> Result<Option<HeaderMap>>;

    /// An identifier of the connection.
    fn fd(&self) -> UniqueIDType;

    /// Looks, without waiting for data, whether the response ended; with `headers` before its
    /// header came, else during its body.
    ///
    /// # Errors
    ///
    /// If the exchange ended with an error.
    async fn check_response_end_or_error(&mut self, headers: bool) -> Result<bool>;

    /// Takes the writer of the request body out of the session; `None` if it was taken before.
    fn take_request_body_writer(&mut self) -> Option<Box<dyn BodyWrite>>;

    /// Says that no further custom message is sent.
    async fn finish_custom(&mut self) -> Result<()>;

    /// Takes the reader of custom messages out of the session; `None` if it was taken before.
    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>>;

    /// Reads and drops custom messages until their stream ends.
    async fn drain_custom_messages(&mut self) -> Result<()>;

    /// Takes the writer of custom messages out of the session; `None` if it was taken before.
    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>>;
}

#[async_trait]
impl Session for () {
    async fn write_request_header(&mut self, _req: Box<RequestHeader>, _end: bool) -> Result<()> {
        Err(no_session())
    }

    async fn write_request_body(&mut self, _data: Bytes, _end: bool) -> Result<()> {
        Err(no_session())
    }

    async fn finish_request_body(&mut self) -> Result<()> {
        Err(no_session())
    }

    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {}

    fn set_write_timeout(&mut self, _timeout: Option<Duration>) {}

    async fn read_response_header(&mut self) -> Result<()> {
        Err(no_session())
    }

    async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        Err(no_session())
    }

    fn response_finished(&self) -> bool {
        true
    }

    async fn shutdown(&mut self, _code: u32, _ctx: &str) {}

    fn response_header(&self) -> Option<&ResponseHeader> {
        None
    }

    fn was_upgraded(&self) -> bool {
        false
    }

    fn digest(&self) -> Option<&Digest> {
        None
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        None
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }

    async fn read_trailers(&mut self) -> Result<Option<HeaderMap>> {
        Err(no_session())
    }

    fn fd(&self) -> UniqueIDType {
        0
    }

    async fn check_response_end_or_error(&mut self, _headers: bool) -> Result<bool> {
        Err(no_session())
    }

    fn take_request_body_writer(&mut self) -> Option<Box<dyn BodyWrite>> {
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

    async fn drain_custom_messages(&mut self) -> Result<()> {
        Err(no_session())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }
}
