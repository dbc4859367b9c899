//! An exchange whose client does not follow the upstream: it reads from a storage that is being filled, or it is gone
//! and the storage is filled all the same.

use std::future::Future;
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use log::debug;
use pingora_core::exchange::{Downstream, Upstream};
use pingora_core::protocols::http::HttpTask;
use pingora_error::{BError, Error, Result};
use tokio::time::Sleep;

use super::driver::{Duplex, Event};
use super::{Fate, Outcome, Pipeline};

/// State that such an exchange needs besides.
#[derive(Default)]
pub(super) struct Apart {
    /// Why the client's side ended.
    gone: Option<BError>,
    /// Before it is over the upstream is not read on.
    rest: Option<Pin<Box<Sleep>>>,
    /// True if the upstream is looked at before the source: in turn, as each may always be ready.
    upstream_first: bool,
}

impl<P: Pipeline, U: Upstream> Duplex<'_, P, U> {
    /// The client's side ended by `e`: so does the exchange, or it goes on without.
    ///
    /// # Errors
    /// `e`, when the exchange is not to go on.
    #[cold]
    pub(super) fn client_failed(&mut self, e: BError) -> Result<Event> {
        self.leave_client(e.into_down())
    }

    fn leave_client(&mut self, e: BError) -> Result<Event> {
        if !self.state.can_lose_client() || !self.pipeline.goes_on_without_client(&e) {
            return Err(e);
        }
        self.state.client_gone();
        self.pipeline.downstream_mut().give_up();
        self.delayed = None;
        self.apart.get_or_insert_default().gone = Some(e);
        Ok(Event::Left)
    }

    /// The place of a message of the upstream other than "to the client, now". Returns whether it goes there now.
    #[cold]
    pub(super) fn set_aside(&mut self, fate: Fate, task: &mut HttpTask) -> bool {
        match self.unless_last(fate) {
            Fate::Kept(rest) => {
                self.keep(rest);
                false
            }
            // Its client is fed, or gone.
            _ if !self.state.follows() => false,
            fate => self.place(fate, task),
        }
    }

    /// The fate of a message, after which the upstream is read no further if it is the last that anyone takes.
    fn unless_last(&mut self, fate: Fate) -> Fate {
        match fate {
            Fate::Last(fate) => {
                self.state.cut_short();
                *fate
            }
            fate => fate,
        }
    }

    fn keep(&mut self, rest: Option<Duration>) {
        if self.state.follows() && self.pipeline.source().is_some() {
            self.state.feed();
            self.pipeline.downstream_mut().show_while_lent();
        }
        if !self.state.follows() || rest.is_some() {
            let rest = rest.map(|rest| Box::pin(tokio::time::sleep(rest)));
            self.apart.get_or_insert_default().rest = rest;
        }
    }

    fn place(&mut self, fate: Fate, task: &mut HttpTask) -> bool {
        match fate {
            Fate::Pass => true,
            Fate::Later(delay) => {
                let task = std::mem::replace(task, HttpTask::Done);
                self.delay(delay, task);
                false
            }
            Fate::Then(next) => {
                self.delay(next.0, next.1);
                true
            }
            Fate::Kept(_) | Fate::Last(_) => false,
        }
    }

    /// A message of the source: to the client.
    pub(super) async fn stored(&mut self, task: &mut HttpTask) -> Result<()> {
        let fate = self.pipeline.stored(task).await?;
        if task.is_end() {
            self.state.served();
        }
        let fate = self.unless_last(fate);
        if self.place(fate, task) {
            self.emit(task).await?;
        }
        Ok(())
    }

    pub(super) fn outcome(&mut self) -> Outcome {
        match self.apart.take().and_then(|apart| apart.gone) {
            Some(e) => Outcome::ClientGone(e),
            None => Outcome::Complete,
        }
    }

    #[cold]
    pub(super) fn poll_apart(
        &mut self,
        cx: &mut Context<'_>,
        task: &mut HttpTask,
    ) -> Poll<Result<Event>> {
        let mut wants = self.wants();
        self.poll_write_request(cx, &mut wants)?;
        let here = !self.state.is_client_gone();
        let mut flushed = true;
        if here {
            match self.pipeline.downstream_mut().poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(e)) => return Poll::Ready(self.client_failed(e)),
                Poll::Pending => flushed = false,
            }
        }
        // Whether the client may be given more.
        let takes = here && flushed && self.delayed.is_none();
        if takes && self.pipeline.emits_more() {
            return self.poll_more(cx, task).map(Ok);
        }
        let sent = flushed && self.delayed.is_none();
        if sent && self.state.is_over() && !self.pipeline.has_more() {
            return Poll::Ready(Ok(Event::Over));
        }
        let upstream_first = self.takes_turn();
        for upstream in [upstream_first, !upstream_first] {
            let event = if upstream {
                self.poll_upstream(cx, task, wants.response)
            } else {
                self.poll_source(cx, task, wants.stored && takes)
            };
            if event.is_ready() {
                return event;
            }
        }
        if wants.request && self.upstream.is_flushed() {
            if let Poll::Ready(event) = self.poll_request(cx, task) {
                return Poll::Ready(event);
            }
        }
        if here {
            if let Poll::Ready(e) = self.poll_leave(cx, wants) {
                return Poll::Ready(self.client_failed(e));
            }
        }
        Poll::Pending
    }

    fn takes_turn(&mut self) -> bool {
        self.apart.as_mut().is_some_and(|apart| {
            apart.upstream_first = !apart.upstream_first;
            apart.upstream_first
        })
    }

    /// The upstream at its own speed, which is that of the storage.
    pub(super) fn poll_upstream(
        &mut self,
        cx: &mut Context<'_>,
        task: &mut HttpTask,
        wants: bool,
    ) -> Poll<Result<Event>> {
        if self.pipeline.has_more() {
            if self.gives_way(cx) {
                return Poll::Pending;
            }
            *task = HttpTask::Body(None, false);
            return Poll::Ready(Ok(Event::More));
        }
        if !wants || !self.pipeline.takes() {
            return Poll::Pending;
        }
        if let Some(apart) = &mut self.apart {
            if let Some(rest) = &mut apart.rest {
                ready!(rest.as_mut().poll(cx));
                apart.rest = None;
            }
        }
        self.upstream.read_little(false);
        Poll::Ready(match ready!(self.upstream.poll_task(cx)) {
            Ok(message) => {
                *task = message;
                Ok(Event::Response)
            }
            Err(e) => self.fill_failed(e),
        })
    }

    /// The upstream failed, and the storage never gets the end of the response. A client that needs no more of it is
    /// still sent what is queued.
    #[cold]
    fn fill_failed(&mut self, e: BError) -> Result<Event> {
        if self.state.is_client_gone() || !self.client_needs_no_more() {
            return Err(self.upstream_failed(e));
        }
        debug!("a fill whose client has its response: {e}");
        self.state.served();
        self.state.cut_short();
        Ok(Event::Left)
    }

    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
        task: &mut HttpTask,
        wants: bool,
    ) -> Poll<Result<Event>> {
        if !wants {
            return Poll::Pending;
        }
        let Some(source) = self.pipeline.source() else {
            let e = Error::explain(pingora_error::ErrorType::InternalError, NO_SOURCE);
            return Poll::Ready(self.leave_client(e));
        };
        Poll::Ready(match ready!(source.poll_task(cx)) {
            Ok(HttpTask::Failed(e)) | Err(e) => self.leave_client(e),
            Ok(message) => {
                *task = message;
                Ok(Event::Stored)
            }
        })
    }
}

/// A pipeline took its source away before the source's end.
const NO_SOURCE: &str = "the stored response is gone before its end";
