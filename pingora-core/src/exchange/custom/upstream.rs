//! A custom session to an upstream.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, TRANSFER_ENCODING, UPGRADE};
use http::{Method, StatusCode, Version};
use log::debug;
use pingora_error::ErrorType::{InvalidHTTPHeader, ReadTimedout, WriteTimedout};
use pingora_error::{Error, ErrorSource, Result};
use pingora_http::RequestHeader;
use tokio::time::Sleep;

use super::loan::{Lent, Loan};
use super::{lost, Ends};
use crate::exchange::Upstream;
use crate::protocols::http::custom::client::Session;
use crate::protocols::http::custom::BodyWrite;
use crate::protocols::http::HttpTask;
use crate::protocols::{Digest, UniqueIDType};

/// The time limit of each step at the end of an exchange.
const LAST: Duration = Duration::from_secs(1);

/// The times that an upstream has.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeLimits {
    /// For its silence.
    pub read: Option<Duration>,
    /// For the whole head of its response, once the request is sent.
    pub head: Option<Duration>,
    /// For each write to it.
    pub write: Option<Duration>,
}

/// A session to an upstream, and where its exchange stands.
///
/// The request body goes by the session's [`BodyWrite`], so that the response is read meanwhile. A session that has
/// none to give away is sent the body first, and then read from.
pub struct CustomUpstream<S> {
    session: Loan<S, Done>,
    doing: Doing,
    /// Who writes the body, once there is one to write.
    writer: Option<Loan<Box<dyn BodyWrite>, Result<()>>>,
    request: Request,
    response: Response,
    limits: TimeLimits,
    read_timer: Timer,
    write_timer: Timer,
    sent: usize,
    /// The exchange has left HTTP: nothing can follow it.
    left_http: bool,
    /// Something else than the exchange itself went wrong.
    spoilt: bool,
}

/// The part of the request that is still to be sent.
#[derive(Default)]
struct Request {
    head: Option<Box<RequestHeader>>,
    body: VecDeque<Bytes>,
    queued: usize,
    end: End,
    /// Bytes of the piece that is being written.
    writing: usize,
    /// It asks to leave HTTP, so that its end is told when the upstream has answered.
    upgrade: bool,
    /// It does so by CONNECT.
    connect: bool,
    /// That end, which was told already.
    told_end: bool,
    /// The writer was asked for.
    asked: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum End {
    /// More may follow.
    #[default]
    Open,
    Queued,
    Sending,
    Sent,
    /// The upstream takes nothing more.
    Failed,
}

#[derive(Clone, Copy, PartialEq)]
enum Response {
    Head,
    Body,
    Raw,
    Over,
}

#[derive(Clone, Copy, PartialEq)]
enum Doing {
    Nothing,
    Reading,
    Writing,
}

enum Done {
    Written(Result<()>),
    Read(Result<HttpTask>),
}

impl<S: Session> CustomUpstream<S> {
    /// A session at the beginning of an exchange.
    pub fn new(mut session: S, limits: TimeLimits) -> Self {
        session.set_read_timeout(limits.read);
        session.set_write_timeout(limits.write);
        CustomUpstream {
            session: Loan::new(session),
            doing: Doing::Nothing,
            writer: None,
            request: Request::default(),
            response: Response::Head,
            limits,
            read_timer: Timer::default(),
            write_timer: Timer::default(),
            sent: 0,
            left_http: false,
            spoilt: false,
        }
    }

    /// Ends the exchange, which has failed with `e` or succeeded. Returns the session if it can be used for another
    /// one.
    pub async fn end(mut self, e: Option<&Error>) -> Option<S> {
        if e.is_none() {
            self.finish_request().await;
        }
        self.clean_up().await;
        let whole = self.request.end == End::Sent && self.response == Response::Over;
        let reusable = !self.left_http && !self.spoilt;
        let mut session = self.session.into_inner()?;
        if e.is_none() && whole && reusable {
            // None of this exchange's messages may come in the next one.
            let drained = tokio::time::timeout(LAST, session.drain_custom_messages());
            if matches!(drained.await, Ok(Ok(()))) {
                return Some(session);
            }
        }
        let closed = tokio::time::timeout(LAST, async {
            match e {
                Some(e) if *e.esource() == ErrorSource::Downstream => {
                    session.abandon(&e.to_string()).await
                }
                Some(e) => session.shutdown(1, &e.to_string()).await,
                None => session.shutdown(1, "the exchange ended early").await,
            }
        });
        if closed.await.is_err() {
            debug!("a custom session did not shut down within {LAST:?}");
        }
        None
    }

    /// The response may be over before the end of the request was told.
    async fn finish_request(&mut self) {
        let ends = matches!(self.request.end, End::Queued | End::Sending);
        if ends && self.request.body.is_empty() && self.response == Response::Over {
            let flushed = std::future::poll_fn(|cx| self.poll_flush(cx));
            // Otherwise the session is not used again.
            let _ = tokio::time::timeout(LAST, flushed).await;
        }
    }

    /// Has a body that was cut short release what it holds.
    async fn clean_up(&mut self) {
        let Some(mut writer) = self.writer.take() else {
            return;
        };
        if self.request.end == End::Sent {
            return;
        }
        writer.start(|mut lent| async move {
            let writer = lent.get_mut().ok_or_else(lost)?;
            writer.cleanup().await
        });
        let done = std::future::poll_fn(|cx| writer.poll(cx));
        if let Ok(Err(e)) = tokio::time::timeout(LAST, done).await {
            debug!("the body writer of a custom session: {e}");
        }
    }

    /// Gives the session to a write.
    fn write<F>(&mut self, write: impl FnOnce(Lent<S>) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.session.start(|lent| {
            let write = write(lent);
            async move { Done::Written(write.await) }
        });
        self.doing = Doing::Writing;
        self.write_timer.start(self.limits.write);
    }

    fn write_head(&mut self, head: Box<RequestHeader>) {
        let request = &mut self.request;
        let end = request.end == End::Queued && request.body.is_empty();
        if end {
            request.end = End::Sending;
        }
        self.write(move |mut lent| async move {
            let session = lent.get_mut().ok_or_else(lost)?;
            session.write_request_header(head, end).await
        });
    }

    /// Begins to write a piece of the body, or with `None` its end.
    fn write_piece(&mut self, piece: Option<Bytes>) {
        self.request.writing = piece.as_ref().map_or(0, Bytes::len);
        if piece.is_none() {
            self.request.end = End::Sending;
        }
        if let Some(writer) = self.writer() {
            writer.start(|lent| write_by(lent, piece));
            self.write_timer.start(self.limits.write);
            return;
        }
        self.write(move |mut lent| async move {
            let session = lent.get_mut().ok_or_else(lost)?;
            match piece {
                Some(piece) => session.write_request_body(piece, false).await,
                None => session.finish_request_body().await,
            }
        });
    }

    /// The writer of the body, which is taken from the session when it is at hand.
    fn writer(&mut self) -> Option<&mut Loan<Box<dyn BodyWrite>, Result<()>>> {
        if !self.request.asked {
            if let Some(session) = self.session.get_mut() {
                self.request.asked = true;
                self.writer = session.take_request_body_writer().map(Loan::new);
            }
        }
        self.writer.as_mut()
    }

    /// Returns the piece to be written next; the inner `None` is the end.
    fn next_piece(&mut self) -> Option<Option<Bytes>> {
        if let Some(piece) = self.request.body.pop_front() {
            return Some(Some(piece));
        }
        (self.request.end == End::Queued).then_some(None)
    }

    /// Returns true if the end of the request has to wait until the upstream has said if it leaves HTTP.
    fn awaits_answer(&self) -> bool {
        self.request.upgrade && self.response == Response::Head
    }

    /// Polls the write that is under way.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let written = match &mut self.writer {
            Some(writer) if writer.is_out() => writer.poll(cx),
            _ => match self.session.poll(cx) {
                Poll::Ready(done) => {
                    self.doing = Doing::Nothing;
                    Poll::Ready(match done {
                        Done::Written(written) => written,
                        Done::Read(_) => Err(lost()),
                    })
                }
                Poll::Pending => Poll::Pending,
            },
        };
        let Poll::Ready(written) = written else {
            ready!(self.write_timer.poll(cx));
            self.give_up_write();
            let why = format!("nothing was taken for {:?}", self.limits.write);
            return Poll::Ready(Error::e_explain(WriteTimedout, why));
        };
        self.write_timer.stop();
        let request = &mut self.request;
        request.queued = request.queued.saturating_sub(request.writing);
        let piece = std::mem::take(&mut request.writing);
        match &written {
            Ok(()) => {
                self.sent += piece;
                if request.end == End::Sending {
                    request.end = End::Sent;
                }
            }
            Err(_) => request.fail(),
        }
        self.restart_read_timeout();
        Poll::Ready(written)
    }

    /// The upstream takes nothing more, and may still answer.
    fn give_up_write(&mut self) {
        match &mut self.writer {
            Some(writer) if writer.is_out() => writer.take_back(),
            _ => {
                self.session.take_back();
                self.doing = Doing::Nothing;
            }
        }
        self.write_timer.stop();
        self.request.fail();
    }

    fn is_writing(&self) -> bool {
        self.doing == Doing::Writing || self.writer.as_ref().is_some_and(Loan::is_out)
    }

    /// Returns true if the response may be read: the head of the request is sent, and so is the body if it needs the
    /// session.
    fn may_read(&mut self) -> bool {
        if self.request.head.is_some() || self.doing == Doing::Writing {
            return false;
        }
        let ended = matches!(self.request.end, End::Sent | End::Failed);
        ended || self.response == Response::Raw || self.awaits_answer() || self.writer().is_some()
    }

    fn read(&mut self) {
        let response = self.response;
        self.session.start(move |mut lent| async move {
            let read = match lent.get_mut() {
                Some(session) => read_task(session, response).await,
                None => Err(lost()),
            };
            Done::Read(read)
        });
        self.doing = Doing::Reading;
        self.restart_read_timeout();
    }

    fn came(&mut self, task: &HttpTask) {
        let upgraded = match task {
            HttpTask::Header(header, _) if header.status == StatusCode::SWITCHING_PROTOCOLS => true,
            HttpTask::Header(header, _) if header.status.is_informational() => return,
            // RFC 9110 section 9.3.6: every success of CONNECT is followed by a tunnel.
            HttpTask::Header(header, _) => {
                let tunnel = self.request.connect && header.status.is_success();
                tunnel || self.session.get().is_some_and(|s| s.was_upgraded())
            }
            _ => false,
        };
        if upgraded {
            self.response = Response::Raw;
            self.left_http = true;
            if let Some(writer) = self.writer().and_then(Loan::get_mut) {
                writer.upgrade_body_writer();
            }
            return;
        }
        self.stay_in_http();
        if task.is_end() {
            self.response = Response::Over;
        } else if self.response == Response::Head {
            self.response = Response::Body;
        }
    }

    /// The answer to a request to leave HTTP is that the upstream does not.
    fn stay_in_http(&mut self) {
        if self.awaits_answer() {
            let request = &mut self.request;
            request.upgrade = false;
            if request.told_end && request.end == End::Open {
                request.end = End::Queued;
            }
        }
    }
}

impl Request {
    fn fail(&mut self) {
        self.end = End::Failed;
        self.body.clear();
        (self.queued, self.writing) = (0, 0);
    }
}

async fn write_by(mut lent: Lent<Box<dyn BodyWrite>>, piece: Option<Bytes>) -> Result<()> {
    let writer = lent.get_mut().ok_or_else(lost)?;
    match piece {
        Some(mut piece) => writer.write_all_buf(&mut piece).await,
        None => writer.finish().await,
    }
}

async fn read_task<S: Session>(session: &mut S, response: Response) -> Result<HttpTask> {
    match response {
        Response::Head => {
            session.read_response_header().await?;
            let header = session.response_header().cloned();
            let end = session.response_finished();
            match header {
                Some(header) => Ok(HttpTask::Header(Box::new(header), end)),
                None => Error::e_explain(InvalidHTTPHeader, "no response head"),
            }
        }
        Response::Raw => {
            let data = session.read_response_body().await?;
            let end = data.is_none();
            Ok(HttpTask::UpgradedBody(data, end))
        }
        Response::Body => match session.read_response_body().await? {
            Some(data) => Ok(HttpTask::Body(Some(data), session.response_finished())),
            None => Ok(match session.read_trailers().await? {
                Some(trailers) => HttpTask::Trailer(Some(Box::new(trailers))),
                None => HttpTask::Body(None, true),
            }),
        },
        Response::Over => Ok(HttpTask::Done),
    }
}

impl<S: Session> Upstream for CustomUpstream<S> {
    /// The request is made as for HTTP/1.1, whose form carries an upgrade too.
    fn version(&self) -> Version {
        Version::HTTP_11
    }

    fn id(&self) -> UniqueIDType {
        self.session.get().map_or(0, Session::fd)
    }

    fn digest(&self) -> Option<&Digest> {
        self.session.get().and_then(Session::digest)
    }

    fn queue_head(&mut self, mut request: Box<RequestHeader>) -> Result<()> {
        self.request.connect = request.method == Method::CONNECT;
        self.request.upgrade = self.request.connect || request.headers.contains_key(UPGRADE);
        // The session frames a body in its own way.
        request.remove_header(&TRANSFER_ENCODING);
        self.request.head = Some(request);
        Ok(())
    }

    fn queue_body(&mut self, data: Bytes) -> Result<()> {
        if self.request.end == End::Open {
            self.request.queued += data.len();
            self.request.body.push_back(data);
        }
        Ok(())
    }

    fn queue_end(&mut self, trailers: Option<&HeaderMap>) -> Result<()> {
        if trailers.is_some() {
            debug!("a custom session takes no trailers of a request");
        }
        // The end of a request that asks to leave HTTP is the end of what its client says there.
        if self.awaits_answer() {
            self.request.told_end = true;
        } else if self.request.end == End::Open {
            self.request.end = End::Queued;
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            if self.is_writing() {
                ready!(self.poll_written(cx))?;
            } else if let Some(head) = self.request.head.take() {
                self.write_head(head);
            } else {
                match self.next_piece() {
                    Some(piece) => self.write_piece(piece),
                    None => return Poll::Ready(Ok(())),
                }
            }
        }
    }

    fn queued(&self) -> usize {
        self.request.queued
    }

    fn is_flushed(&self) -> bool {
        let request = &self.request;
        let end = request.end == End::Queued;
        request.head.is_none() && request.body.is_empty() && !end && !self.is_writing()
    }

    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask>> {
        if self.doing != Doing::Reading {
            if !self.may_read() {
                return Poll::Pending;
            }
            self.read();
        }
        let Poll::Ready(done) = self.session.poll(cx) else {
            ready!(self.read_timer.poll(cx));
            let why = match self.response {
                Response::Head => "no response head in time",
                _ => "silent for too long",
            };
            return Poll::Ready(Error::e_explain(ReadTimedout, why));
        };
        self.doing = Doing::Nothing;
        self.read_timer.stop();
        let task = match done {
            Done::Read(task) => task?,
            Done::Written(_) => return Poll::Ready(Err(lost())),
        };
        self.came(&task);
        Poll::Ready(Ok(task))
    }

    fn has_buffered(&self) -> bool {
        false
    }

    fn restart_read_timeout(&mut self) {
        if self.doing != Doing::Reading {
            return;
        }
        let request = &self.request;
        // The end of a request that asks to leave HTTP is not sent before its answer.
        let all = request.told_end && request.body.is_empty() && !self.is_writing();
        let ended = all || matches!(request.end, End::Sent | End::Failed);
        let limit = match (self.response, self.limits.head) {
            (Response::Head, Some(head)) => ended.then_some(head),
            _ => self.limits.read,
        };
        self.read_timer.start(limit);
    }

    fn body_bytes_sent(&self) -> usize {
        self.sent
    }

    fn is_custom(&self) -> bool {
        true
    }

    fn take_messages(&mut self) -> Ends {
        match self.session.get_mut() {
            Some(session) => Ends {
                reader: session.take_custom_message_reader(),
                writer: session.take_custom_message_writer(),
            },
            None => Ends::default(),
        }
    }

    fn forbid_reuse(&mut self) {
        self.spoilt = true;
    }
}

/// A limit of what is waited for.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn start(&mut self, limit: Option<Duration>) {
        self.0 = limit.map(|limit| Box::pin(tokio::time::sleep(limit)));
    }

    fn stop(&mut self) {
        self.0 = None;
    }

    /// Ready when the time is over; pending without a limit.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}
