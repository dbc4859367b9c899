//! Requests that are refused before an application serves them.

use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use log::error;
use pingora_error::Error;
use pingora_http::{RequestHeader, ResponseHeader};

use super::Session;
use crate::protocols::http::error_resp::gen_error_response;
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::Digest;

/// A request that is refused before it is served: what is wrong with it, and what the client is told.
///
/// Such a request is malformed or too large, did not come in time, or is a CONNECT that is not let through. No phase of a
/// proxy sees it. Its connection closes afterwards; in HTTP/2 its stream ends. What the `h2` crate resets by itself, as it
/// does for a field of a connection, comes to nobody.
pub struct RefusedRequest<'a> {
    why: &'a Error,
    of: Of<'a>,
    answer: Answer,
}

/// The source of the request.
enum Of<'a> {
    Session(&'a Session),
    /// A stream of HTTP/2 for which there is no session.
    Stream(&'a RequestHeader, &'a Digest),
}

/// The answer to the client.
pub(crate) enum Answer {
    /// Nothing. In HTTP/2 the stream is reset.
    Nothing,
    Status(u16),
    Response(Box<(ResponseHeader, Bytes)>),
}

impl<'a> RefusedRequest<'a> {
    pub(super) fn of_session(why: &'a Error, session: &'a Session, status: u16) -> Self {
        RefusedRequest {
            why,
            of: Of::Session(session),
            answer: Answer::Status(status),
        }
    }

    /// A malformed request of HTTP/2, whose stream is to be reset.
    pub(crate) fn of_stream(
        why: &'a Error,
        request: &'a RequestHeader,
        digest: &'a Digest,
    ) -> Self {
        RefusedRequest {
            why,
            of: Of::Stream(request, digest),
            answer: Answer::Nothing,
        }
    }

    /// Lets the application look, and returns what it wants the client to be told. One that panics changes nothing.
    pub(crate) fn told(mut self, tell: impl FnOnce(&mut Self)) -> Answer {
        let told = AssertUnwindSafe(|| tell(&mut self));
        if std::panic::catch_unwind(told).is_err() {
            error!("an application panicked when it was told of a refused request");
        }
        self.answer
    }

    /// Why it is refused.
    pub fn error(&self) -> &Error {
        self.why
    }

    /// The status that the client gets; `None` when it gets none. That is so for a malformed request of HTTP/2, whose
    /// stream is reset with PROTOCOL_ERROR (RFC 9113 section 8.1.1), unless the application sets one.
    pub fn status(&self) -> Option<u16> {
        match &self.answer {
            Answer::Nothing => None,
            Answer::Status(status) => Some(*status),
            Answer::Response(response) => Some(response.0.status.as_u16()),
        }
    }

    /// Returns true if it came over HTTP/2.
    pub fn is_http2(&self) -> bool {
        match self.of {
            Of::Session(session) => session.is_http2(),
            Of::Stream(..) => true,
        }
    }

    /// The head of the request, if it could be read. Of a malformed one no field is to be relied on.
    pub fn request(&self) -> Option<&RequestHeader> {
        match self.of {
            Of::Session(Session::H1(s)) => s.has_request().then(|| s.req_header()),
            Of::Session(session) => Some(session.req_header()),
            Of::Stream(request, _) => Some(request),
        }
    }

    /// The bytes of the head, as far as they were received; empty in HTTP/2.
    pub fn received(&self) -> &[u8] {
        match self.of {
            Of::Session(Session::H1(s)) => s.received_head(),
            Of::Session(_) | Of::Stream(..) => b"",
        }
    }

    /// The digest of the connection.
    pub fn digest(&self) -> Option<&Digest> {
        match self.of {
            Of::Session(session) => session.digest(),
            Of::Stream(_, digest) => Some(digest),
        }
    }

    /// The client's address.
    pub fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest()?.socket_digest.as_ref()?.peer_addr()
    }

    /// Answers with this status and no body. A code that cannot end an exchange is ignored.
    pub fn set_status(&mut self, status: u16) {
        if (200..=999).contains(&status) {
            self.answer = Answer::Status(status);
        }
    }

    /// Answers with this response. Content-Length is set by the length of the body. One that cannot end an exchange is
    /// ignored, and so is the body of one that has none.
    pub fn set_response(&mut self, head: ResponseHeader, body: Bytes) {
        if head.status.as_u16() >= 200 {
            self.answer = Answer::Response(Box::new((head, body)));
        }
    }

    /// Ends the connection without an answer; in HTTP/2 the stream is reset.
    pub fn set_silent(&mut self) {
        self.answer = Answer::Nothing;
    }
}

impl Answer {
    /// The response, if there is to be one.
    pub(crate) fn into_response(self) -> Option<(ResponseHeader, Bytes)> {
        let (mut head, body) = match self {
            Answer::Nothing => return None,
            Answer::Status(status) => return Some((gen_error_response(status), Bytes::new())),
            Answer::Response(response) => *response,
        };
        if matches!(head.status.as_u16(), 204 | 304) {
            return Some((head, Bytes::new()));
        }
        // A number is always a valid value.
        let _ = head.set_content_length(body.len());
        Some((head, body))
    }
}
