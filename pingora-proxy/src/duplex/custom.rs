//! The loop where a side speaks a protocol of the user's own.
//!
//! A custom session to the client is lent to its read or its write while that is under way. Filters look at the session, so
//! that nothing is given to them before a write is done; a read is given up then. Those of a storage that is being filled
//! look at a copy meanwhile.

use std::task::{ready, Context, Poll};

use log::debug;
use pingora_core::exchange::{Downstream, Upstream};
use pingora_core::protocols::http::HttpTask;
use pingora_error::{BError, ErrorSource, Result};

use super::driver::{Duplex, Event};
use super::Pipeline;

impl<P: Pipeline, U: Upstream> Duplex<'_, P, U> {
    /// A loop of which a side speaks a protocol of the user's own, if so.
    pub(crate) fn with_custom(mut self, custom: bool) -> Self {
        self.custom.is_on = custom;
        self
    }

    #[inline(never)]
    pub(super) fn poll_custom(
        &mut self,
        cx: &mut Context<'_>,
        task: &mut HttpTask,
    ) -> Poll<Result<Event>> {
        let event = self.poll_beside_messages(cx, task);
        if event.is_ready() {
            self.pipeline.downstream_mut().take_back();
        }
        event
    }

    fn poll_beside_messages(
        &mut self,
        cx: &mut Context<'_>,
        task: &mut HttpTask,
    ) -> Poll<Result<Event>> {
        let downstream = self.pipeline.downstream();
        if downstream.lends() && !downstream.is_flushed() {
            if let Poll::Ready(event) = self.poll_lent(cx, task) {
                return Poll::Ready(event);
            }
            if !self.pipeline.downstream().is_flushed() {
                return Poll::Pending;
            }
        }
        let (told, over) = (std::mem::take(&mut self.custom.told), self.custom.over);
        if !told || over {
            if let Poll::Ready(event) = self.poll_message(cx) {
                return Poll::Ready(event);
            }
        }
        if over {
            // What is still to be sent has a while when the exchange ends.
            return Poll::Ready(Ok(Event::Over));
        }
        match self.poll_event(cx, task) {
            Poll::Ready(Ok(Event::Over)) => {
                self.custom.over = true;
                self.poll_beside_messages(cx, task)
            }
            Poll::Pending if told => self.poll_message(cx),
            event => event,
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event>> {
        let message = ready!(self.pipeline.poll_message(cx));
        self.custom.told = true;
        Poll::Ready(match message {
            Ok(()) => Ok(Event::Message),
            Err(e) => self.messages_failed(e),
        })
    }

    /// Messages of a side have failed, which means what another failure of that side does: the exchange may go on without
    /// its client, and a client that has all of its response needs no upstream.
    fn messages_failed(&mut self, e: BError) -> Result<Event> {
        let of_client = *e.esource() == ErrorSource::Downstream;
        if self.custom.over || (self.client_needs_no_more() && !of_client) {
            debug!("custom messages after the response: {e}");
            self.upstream.forbid_reuse();
            return Ok(Event::Left);
        }
        match of_client {
            true => self.client_failed(e),
            false => Err(self.upstream_failed(e)),
        }
    }

    /// The client's session is lent to a write. Only what needs no filter goes on, and a storage is filled, for which
    /// filters are shown a copy.
    fn poll_lent(&mut self, cx: &mut Context<'_>, task: &mut HttpTask) -> Poll<Result<Event>> {
        let mut wants = self.wants();
        self.poll_write_request(cx, &mut wants)?;
        match self.pipeline.downstream_mut().poll_flush(cx) {
            Poll::Ready(Ok(())) => Poll::Pending,
            Poll::Ready(Err(e)) => Poll::Ready(self.client_failed(e)),
            Poll::Pending => {
                if let Poll::Ready(Err(e)) = self.pipeline.poll_messages_sent(cx) {
                    return Poll::Ready(self.messages_failed(e));
                }
                if self.state.is_tunnel() {
                    return self.poll_idle(cx);
                }
                if self.state.follows() || self.custom.over {
                    return Poll::Pending;
                }
                self.poll_upstream(cx, task, wants.response)
            }
        }
    }
}
