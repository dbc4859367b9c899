//! The end of an exchange: the connection goes on, or closes.

use bytes::BytesMut;
use pingora_error::Result;

use super::super::closed_stream::ClosedStream;
use super::super::conn::Conn;
use super::super::proto::decode::{Decoded, Decoder};
use super::super::proto::encode::Encoder;
use super::super::proto::head::Scanner;
use super::super::proto::state::{self, Reading, Writing};
use super::super::send::Role;
use super::{common, HttpSession, Inner};
use crate::limits::LIMITS;
use crate::protocols::http::server::ReusableHttpStream;
use crate::protocols::l4::stream::Stream as L4Stream;
use crate::protocols::Stream;

/// Bytes of a response that most likely is complete before the rest of a long request is there.
const SHORT: u64 = 64 * 1024;

impl HttpSession {
    /// Ends the exchange. The connection is returned when another request may follow on it, after the rest
    /// of this one was read; else it is closed.
    ///
    /// # Errors
    /// Those of [`HttpSession::finish_body`].
    pub async fn reuse(mut self) -> Result<Option<ReusableHttpStream>> {
        if !self.has_answered() {
            if let Err(e) = self.finish_body().await {
                Box::pin(self.close()).await;
                return Err(e);
            }
        }
        if !self.can_serve_another().await {
            Box::pin(self.close()).await;
            return Ok(None);
        }
        Ok(Some(self.into_reusable()))
    }

    /// [`HttpSession::reuse`] of a session that has nothing left to read or to write, as most have; others come back.
    pub(crate) fn reuse_at_once(mut self) -> Result<ReusableHttpStream, Self> {
        let ends = self.has_answered()
            && self.will_keepalive()
            && self.is_body_done()
            && self.another_may_follow();
        if ends {
            Ok(self.into_reusable())
        } else {
            Err(self)
        }
    }

    fn into_reusable(mut self) -> ReusableHttpStream {
        self.inner.next_exchange();
        ReusableHttpStream::new(self.inner)
    }

    /// Returns whether the response is complete, and has left.
    fn has_answered(&self) -> bool {
        matches!(self.inner.conn.writing, Writing::Done) && self.inner.conn.is_flushed()
    }

    async fn can_serve_another(&mut self) -> bool {
        if !self.will_keepalive() || !matches!(self.inner.conn.writing, Writing::Done) {
            return false;
        }
        if !self.is_body_done() {
            let closes = self.exchange().options.close_before_request_ends;
            if closes
                || self.awaits_continue()
                || Box::pin(self.drain_request_body()).await.is_err()
            {
                return false;
            }
        }
        self.another_may_follow()
    }

    /// Returns whether what was received lets another request follow. One that came early does, as the head of the
    /// response would have said `Connection: close` otherwise.
    fn another_may_follow(&self) -> bool {
        let conn = &self.inner.conn;
        let goes_on = !conn.eof || conn.scanner.begun(&conn.buf);
        goes_on && state::reusable(&conn.reading, &conn.writing)
    }

    /// Returns whether the connection has to close after the response for what the client has sent, or is still to
    /// send. It is asked when the head of the response is written, which tells the client; `response` is what follows
    /// the head.
    #[inline]
    pub(super) fn input_ends_connection(&self, response: &Writing) -> bool {
        let conn = &self.inner.conn;
        match &conn.reading {
            Reading::Done if conn.buf.is_empty() => conn.eof,
            Reading::Done => self.ends_with(&conn.buf),
            Reading::Body(decoder) => self.body_ends_connection(decoder, response),
            _ => false,
        }
    }

    /// Returns whether no other request is served when these bytes follow the current one.
    fn ends_with(&self, rest: &[u8]) -> bool {
        // An empty line that follows a body is no request (RFC 9112 section 2.2).
        if Scanner::default().begun(rest) {
            !self.pipelining_enabled()
        } else {
            self.inner.conn.eof
        }
    }

    /// Returns whether the rest of the body may be too long to be read for nothing, or nobody wants to. Of chunks that
    /// were not received, nobody knows how many follow. A long response may take as long as the request.
    fn body_ends_connection(&self, decoder: &Decoder, response: &Writing) -> bool {
        if self.exchange().options.close_before_request_ends || self.awaits_continue() {
            return true;
        }
        let mut decoder = decoder.clone();
        let mut received = self.inner.conn.buf.clone();
        loop {
            match decoder.decode(&mut received) {
                Ok(Decoded::Data(_)) if !decoder.is_done() => {}
                Ok(Decoded::Data(_) | Decoded::End(_)) => return self.ends_with(&received),
                Ok(Decoded::NeedMore) => break,
                Err(_) => return true,
            }
        }
        let short = match response {
            Writing::Body(Encoder::Length(length)) => *length <= SHORT,
            Writing::Body(_) => false,
            _ => true,
        };
        short
            && !matches!(decoder, Decoder::Length(left) if left <= LIMITS.client_drain_bytes as u64)
    }

    /// Returns whether the client may be waiting for a 100. It then sends its body or does not: nobody can tell what
    /// comes next on the connection.
    #[inline]
    pub(super) fn awaits_continue(&self) -> bool {
        matches!(self.inner.conn.reading, Reading::Body(_))
            && !self.exchange().options.continued
            && self.exchange().body_read == 0
            && common::is_expect_continue_req(self.req_header())
    }

    /// Closes the connection: gracefully when the response is complete, so that the client gets all of it; by
    /// a reset when it is cut short and only the end of the connection would tell its end.
    pub async fn shutdown(&mut self) {
        // What was promised and is there leaves, also when the rest will not follow.
        let _ = std::future::poll_fn(|cx| self.poll_flush(cx)).await;
        let cut_short = self.inner.ends_by_closing();
        if cut_short {
            self.inner.conn.reset_on_close();
            // Its addresses are wanted until the session is dropped.
            self.inner.digest();
            let conn = &mut self.inner.conn;
            conn.stream = Box::new(ClosedStream);
            self.mark_broken();
            return;
        }
        if self.more_may_come() {
            self.inner.conn.close(LIMITS.client_linger).await
        } else {
            // The farewell of TLS waits for a client that takes nothing.
            let farewell = self.inner.conn.stream.shutdown();
            let _ = tokio::time::timeout(LIMITS.client_linger, farewell).await;
        }
        self.mark_broken();
    }

    /// [`HttpSession::shutdown`] of a session that ends with it. A socket is simply closed when its peer has sent
    /// everything: what the kernel does then is the same.
    pub(crate) async fn close(mut self) {
        let sent = std::future::poll_fn(|cx| self.poll_flush(cx)).await.is_ok();
        let socket = self.stream().as_any().downcast_ref::<L4Stream>();
        let closes_by_itself = socket.is_some_and(L4Stream::is_socket);
        if !sent || !closes_by_itself || self.inner.ends_by_closing() || self.more_may_come() {
            self.shutdown().await;
        }
    }

    /// Returns whether the client may send more, of this request or of another one.
    fn more_may_come(&self) -> bool {
        let conn = &self.inner.conn;
        !matches!(conn.reading, Reading::Done | Reading::Ended)
            || !conn.buf.is_empty()
            || !self.client_forbids_reuse()
    }
}

impl HttpSession {
    /// Moves the transport of this session, and what it received, into a box that an earlier request on the
    /// same connection left.
    pub(crate) fn move_into(&mut self, mut kept: Box<Inner>) {
        std::mem::swap(&mut kept.conn, &mut self.inner.conn);
        self.inner = kept;
    }
}

impl Inner {
    fn next_exchange(&mut self) {
        self.end_exchange();
        self.conn.next_exchange();
        self.reused = true;
        if let Some(left) = &mut self.reuses_remaining {
            *left = left.saturating_sub(1);
        }
    }

    /// A session for the next request.
    pub(crate) fn into_session(self: Box<Self>) -> HttpSession {
        HttpSession { inner: self }
    }

    /// Takes the transport and what was received out of the box, which keeps the rest.
    pub(crate) fn take_stream(&mut self) -> (Stream, Option<BytesMut>) {
        let conn = std::mem::replace(
            &mut self.conn,
            Conn::new(Box::new(ClosedStream), Role::Server),
        );
        (conn.stream, (!conn.buf.is_empty()).then_some(conn.buf))
    }
}
