//! The request body on its way into a subrequest.

use std::future::Future;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use pingora_core::exchange::{Downstream, ServerHooks};
use pingora_core::protocols::http::HttpTask;
use pingora_error::{Error, Result};
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, oneshot};

use super::{InputBody, InputBodyType, SavedBody};
use crate::Session;

type Room =
    Pin<Box<dyn Future<Output = Result<mpsc::OwnedPermit<HttpTask>, SendError<()>>> + Send>>;

/// The messages that are sent to a subrequest, at most one ahead of what it has room for.
pub(super) struct Input {
    source: Source,
    /// Until the subrequest has asked for a body.
    wants_body: Option<oneshot::Receiver<()>>,
    /// `None` when it takes no more.
    tx: Option<mpsc::Sender<HttpTask>>,
    next: Option<HttpTask>,
    room: Option<Room>,
    /// True if both sides have left HTTP.
    raw: bool,
}

enum Source {
    Preset(std::vec::IntoIter<Bytes>),
    Client,
    /// Everything was sent.
    Over,
}

impl Input {
    pub(super) fn new(
        body: InputBodyType,
        tx: mpsc::Sender<HttpTask>,
        wants_body: oneshot::Receiver<()>,
    ) -> Self {
        let source = match body {
            InputBodyType::Preset(InputBody::NoBody) => Source::Preset(Vec::new().into_iter()),
            InputBodyType::Preset(InputBody::Bytes(pieces)) => Source::Preset(pieces.into_iter()),
            InputBodyType::SaveBody(_) => Source::Client,
        };
        Input {
            source,
            wants_body: Some(wants_body),
            tx: Some(tx),
            next: None,
            room: None,
            raw: false,
        }
    }

    /// Whatever the body was, what the client sends from now on goes to the subrequest.
    pub(super) fn become_raw(&mut self) {
        if !self.raw {
            self.raw = true;
            self.source = Source::Client;
        }
    }

    pub(super) fn is_raw(&self) -> bool {
        self.raw
    }

    /// Returns whether the client is read, so that its leaving shows.
    pub(super) fn reads_client(&self) -> bool {
        let asked = self.wants_body.is_none() && self.tx.is_some();
        asked && matches!(self.source, Source::Client) && self.next.is_none()
    }

    /// Sends no more.
    pub(super) fn stop(&mut self) {
        self.source = Source::Over;
        self.wants_body = None;
        self.next = None;
        self.room = None;
        self.tx = None;
    }

    /// Sends what there is and what there is room for. The task is woken when it can go on.
    ///
    /// # Errors
    /// Those of reading from the client.
    pub(super) fn poll(
        &mut self,
        session: &mut Session,
        saved: &mut Option<SavedBody>,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        if let Some(wants_body) = &mut self.wants_body {
            match Pin::new(wants_body).poll(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) => self.wants_body = None,
                // It has ended without it.
                Poll::Ready(Err(_)) => self.stop(),
            }
            if matches!(self.source, Source::Client) {
                // What a phase has read ahead goes first.
                session.begin_to_send_buffered();
            }
        }
        while self.tx.is_some() {
            if self.next.is_none() {
                match self.poll_read(session, saved, cx) {
                    Poll::Ready(next) => self.next = next?,
                    Poll::Pending => return Ok(()),
                }
            }
            if self.next.is_none() || self.poll_send(cx).is_pending() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next message; `None` when all were sent.
    fn poll_read(
        &mut self,
        session: &mut Session,
        saved: &mut Option<SavedBody>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HttpTask>>> {
        let data = match &mut self.source {
            Source::Over => return Poll::Ready(Ok(None)),
            Source::Preset(pieces) => pieces.find(|piece| !piece.is_empty()),
            Source::Client if session.has_buffered_to_send() => session.next_buffered(),
            Source::Client => {
                let read = ready!(session.downstream_session.poll_body(cx));
                read.map_err(Error::into_down)?
            }
        };
        let saved = saved.as_mut().filter(|_| !self.raw);
        match (&data, saved) {
            (Some(data), Some(saved)) => drop(saved.save_body_bytes(data.clone())),
            (None, Some(saved)) => saved.set_body_complete(),
            _ => {}
        }
        let end = data.is_none();
        let client = matches!(self.source, Source::Client);
        if end {
            self.source = Source::Over;
        }
        let trailers = session.request_trailers().filter(|_| end && client);
        Poll::Ready(Ok(Some(match (self.raw, trailers) {
            (true, _) => HttpTask::UpgradedBody(data, end),
            (false, Some(trailers)) => HttpTask::Trailer(Some(Box::new(trailers.clone()))),
            (false, None) => HttpTask::Body(data, end),
        })))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(tx) = &self.tx else {
            return Poll::Ready(());
        };
        let room = self
            .room
            .get_or_insert_with(|| Box::pin(tx.clone().reserve_owned()));
        let room = ready!(room.as_mut().poll(cx));
        self.room = None;
        match (room, self.next.take()) {
            (Ok(room), Some(task)) => drop(room.send(task)),
            (Ok(_), None) => {}
            // The subrequest has its answer, or has failed: it will tell.
            (Err(_), _) => self.stop(),
        }
        Poll::Ready(())
    }
}
