//! The client's side, as an exchange sees it.

use std::task::{Context, Poll};

use bytes::Bytes;
use pingora_core::exchange::Downstream;
use pingora_core::protocols::http::HttpTask;
use pingora_error::{BError, Result};

use super::Session;

/// The exchange with the client, where what was read ahead of the request body comes before the rest.
impl Downstream for Session {
    #[inline]
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        if self.has_buffered_to_send() {
            return Poll::Ready(Ok(self.next_buffered()));
        }
        self.downstream_session.poll_body(cx)
    }

    #[inline]
    fn has_buffered_body(&self) -> bool {
        Downstream::has_buffered_body(&*self.downstream_session)
    }

    #[inline]
    fn is_body_done(&mut self) -> bool {
        self.is_request_sent_off()
    }

    #[inline]
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<BError> {
        self.downstream_session.poll_gone(cx)
    }

    #[inline]
    fn tells_leave(&self) -> bool {
        self.downstream_session.tells_leave()
    }

    #[inline]
    fn queue(&mut self, task: HttpTask) -> Result<bool> {
        self.downstream_session.queue(task)
    }

    #[inline]
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Downstream::poll_flush(&mut *self.downstream_session, cx)
    }

    #[inline]
    fn queued(&self) -> usize {
        Downstream::queued(&*self.downstream_session)
    }

    #[inline]
    fn is_flushed(&self) -> bool {
        Downstream::is_flushed(&*self.downstream_session)
    }

    #[inline]
    fn has_room(&self) -> bool {
        Downstream::has_room(&*self.downstream_session)
    }

    #[inline]
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Downstream::poll_room(&mut *self.downstream_session, cx)
    }

    #[inline]
    fn has_whole_response(&self) -> bool {
        Downstream::has_whole_response(&*self.downstream_session)
    }

    #[inline]
    fn lends(&self) -> bool {
        self.downstream_session.lends()
    }

    #[inline]
    fn take_back(&mut self) {
        self.downstream_session.take_back()
    }

    fn show_while_lent(&mut self) {
        self.downstream_session.show_while_lent()
    }

    fn give_up(&mut self) {
        self.downstream_session.give_up()
    }
}
