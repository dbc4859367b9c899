//! What a session shows of itself while it is lent.

use pingora_http::{RequestHeader, ResponseHeader};

use crate::protocols::http::custom::server::Session;
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::Digest;

/// A copy of what filters look at, made when the session is given to a write.
pub(super) struct StandIn {
    pub(super) request: RequestHeader,
    /// The request was given out to be changed.
    is_changed: bool,
    pub(super) response: Option<ResponseHeader>,
    pub(super) digest: Option<Digest>,
    pub(super) client_addr: Option<SocketAddr>,
    pub(super) server_addr: Option<SocketAddr>,
    pub(super) summary: String,
    pub(super) sent: usize,
    pub(super) read: usize,
}

impl StandIn {
    pub(super) fn of(session: &dyn Session) -> Self {
        StandIn {
            request: session.req_header().clone(),
            is_changed: false,
            response: session.response_written().cloned(),
            digest: session.digest().cloned(),
            client_addr: session.client_addr().cloned(),
            server_addr: session.server_addr().cloned(),
            summary: session.request_summary(),
            sent: session.body_bytes_sent(),
            read: session.body_bytes_read(),
        }
    }

    /// The request, to change it.
    pub(super) fn change(&mut self) -> &mut RequestHeader {
        self.is_changed = true;
        &mut self.request
    }

    /// Gives the session the request that was changed meanwhile.
    pub(super) fn retire(self, session: &mut dyn Session) {
        if self.is_changed {
            *session.req_header_mut() = self.request;
        }
    }
}
