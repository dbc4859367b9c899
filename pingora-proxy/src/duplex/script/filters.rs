//! The pipeline and the storage.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use pingora_core::protocols::http::HttpTask;
use pingora_error::ErrorType::InternalError;
use pingora_error::{Error, Result};
use pingora_http::ResponseHeader;

use super::{Client, Mode, Setup, Shared};
use crate::duplex::{Fate, Pipeline, Source};

/// What a piece became, besides what is passed on: the second half, and whether the response ends with it.
type Half = Option<(Bytes, bool)>;

pub(super) struct Filters {
    client: Client,
    world: Shared,
    setup: Setup,
    storage: Option<Storage>,
    more: Half,
    emits_more: Half,
    pieces: usize,
    responses: usize,
}

impl Filters {
    pub(super) fn new(world: Shared, setup: Setup) -> Self {
        Filters {
            client: Client(world.clone()),
            world,
            setup,
            storage: None,
            more: None,
            emits_more: None,
            pieces: 0,
            responses: 0,
        }
    }

    /// What the storage gets.
    fn keep(&mut self, task: &HttpTask) {
        let mut world = self.world.get();
        assert!(!world.kept_over, "a message after the end, to the storage");
        match task {
            HttpTask::Header(header, _) if header.status.is_informational() => return,
            HttpTask::Header(..) => world.kept_head = true,
            HttpTask::Body(Some(body), _) => world.kept.extend_from_slice(body),
            _ => {}
        }
        world.kept_over = task.is_end();
        world.wake();
    }

    fn fate(&mut self, task: &HttpTask) -> Fate {
        self.pieces += 1;
        let pause = (self.setup.delays && self.pieces % 3 == 0).then_some(Duration::from_millis(5));
        let interim = matches!(task, HttpTask::Header(head, _) if head.status.is_informational());
        let body = matches!(task, HttpTask::Body(..));
        match self.setup.mode {
            Mode::Keep if !interim => {
                self.storage
                    .get_or_insert_with(|| Storage(self.world.clone()));
                Fate::Kept(pause)
            }
            Mode::Drop if body => Fate::Kept(pause),
            _ => match pause.filter(|_| body) {
                Some(pause) => Fate::Later(pause),
                None => Fate::Pass,
            },
        }
    }

    /// Ends the response with a piece of the body.
    fn cut(&mut self, task: &mut HttpTask) -> bool {
        let HttpTask::Body(_, end) = task else {
            return false;
        };
        *end = true;
        self.more = None;
        self.world.get().cut = true;
        true
    }

    async fn wait(&self) {
        if self.setup.waits && self.pieces % 2 == 0 {
            let mut waited = false;
            let wait = std::future::poll_fn(|cx| {
                cx.waker().wake_by_ref();
                match std::mem::replace(&mut waited, true) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            });
            wait.await;
        }
    }
}

/// Leaves the first half of a piece, and the rest for the next step.
fn halve(task: &mut HttpTask, rest: &mut Half) {
    let HttpTask::Body(body, end) = task else {
        return;
    };
    if let Some((last, ends)) = rest.take() {
        (*body, *end) = (Some(last), ends);
    } else if let Some(piece) = body.as_mut().filter(|piece| piece.len() > 1) {
        let last = piece.split_off(piece.len() / 2);
        *rest = Some((last, std::mem::take(end)));
    }
}

impl Pipeline for Filters {
    type Downstream = Client;

    fn downstream(&self) -> &Client {
        &self.client
    }

    fn downstream_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    fn asks_for_tunnel(&self) -> bool {
        false
    }

    fn tunnel_idle_timeout(&self, client_ended: bool) -> Option<Duration> {
        self.setup.half_closed.filter(|_| client_ended)
    }

    fn kept_request(&mut self) -> Option<(Option<Bytes>, bool)> {
        self.setup.switches.then_some((None, true))
    }

    async fn request<'b>(&'b mut self, body: &'b mut Option<Bytes>, end: bool) -> Result<()> {
        assert!(body.is_some() || end, "nothing of a request");
        self.wait().await;
        Ok(())
    }

    fn request_trailers(&mut self) -> Option<HeaderMap> {
        None
    }

    async fn response<'b>(&'b mut self, task: &'b mut HttpTask) -> Result<Fate> {
        self.wait().await;
        if self.setup.halves {
            halve(task, &mut self.more);
        }
        self.responses += 1;
        let last = self.setup.cuts && self.responses == 3 && self.cut(task);
        if matches!(self.setup.mode, Mode::Copy | Mode::Keep) {
            self.keep(task);
        }
        let fate = self.fate(task);
        Ok(if last {
            Fate::Last(Box::new(fate))
        } else {
            fate
        })
    }

    fn has_more(&self) -> bool {
        self.more.is_some()
    }

    fn emits(&mut self) -> bool {
        self.setup.halves_late
    }

    async fn emit<'b>(&'b mut self, task: &'b mut HttpTask) -> Result<()> {
        self.wait().await;
        if self.setup.halves_late {
            halve(task, &mut self.emits_more);
        }
        Ok(())
    }

    fn emits_more(&self) -> bool {
        self.emits_more.is_some()
    }

    fn source(&mut self) -> Option<&mut dyn Source> {
        self.storage.as_mut().map(|storage| storage as _)
    }

    async fn stored<'b>(&'b mut self, task: &'b mut HttpTask) -> Result<Fate> {
        self.wait().await;
        self.pieces += 1;
        let late = self.setup.delays && self.pieces % 3 == 0 && matches!(task, HttpTask::Body(..));
        Ok(match late {
            true => Fate::Later(Duration::from_millis(5)),
            false => Fate::Pass,
        })
    }

    fn goes_on_without_client(&mut self, _e: &Error) -> bool {
        self.setup.goes_on
    }
}

/// Gives what is kept, as far as it is shown.
struct Storage(Shared);

impl Source for Storage {
    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask>> {
        let mut world = self.0.get();
        if world.storage_failed {
            return Poll::Ready(Error::e_explain(InternalError, "lost"));
        }
        if world.kept_head && !world.head_read {
            world.head_read = true;
            let head = ResponseHeader::build(200, None)?;
            return Poll::Ready(Ok(HttpTask::Header(Box::new(head), false)));
        }
        let last = world
            .kept
            .len()
            .min(world.shown)
            .min(world.read + super::PIECE);
        if last > world.read {
            let piece = Bytes::copy_from_slice(&world.kept[world.read..last]);
            world.read = last;
            return Poll::Ready(Ok(HttpTask::Body(Some(piece), false)));
        }
        if world.kept_over && world.read == world.kept.len() {
            return Poll::Ready(Ok(HttpTask::Body(None, true)));
        }
        world.wait(cx)
    }
}
