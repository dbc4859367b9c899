//! A custom session to a client.

use std::any::Any;
use std::future::poll_fn;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use http::header::{HeaderMap, TRANSFER_ENCODING};
use http::{Method, StatusCode};
use pingora_error::ErrorType::{WriteError, WriteTimedout};
use pingora_error::{BError, Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use super::loan::{Lent, Loan};
use super::stand_in::StandIn;
use super::{lost, LAST_MESSAGES, LAST_WRITE};
use crate::protocols::http::custom::server::Session;
use crate::protocols::http::custom::CustomMessageWrite;
use crate::protocols::http::HttpTask;
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::Digest;

/// A session, and what it does at the moment. It takes the place of the session that it drives, whose methods it has.
pub struct Driver {
    session: Loan<Box<dyn Session>, Done>,
    doing: Doing,
    /// Messages that were not given to the session yet.
    queue: Vec<HttpTask>,
    /// Bytes of bodies in the queue and in the write that is under way.
    queued: usize,
    response: Response,
    /// The head of the response, which may still be queued, has left HTTP.
    upgraded: bool,
    /// The client has no more of its request to send.
    body_over: bool,
    /// The wait for the client to leave has ended otherwise, and is of no further use.
    stays: bool,
    /// The request has no body, as the session said at first.
    bodiless: bool,
    /// Filters look at the session while it is lent to a write.
    shows: bool,
    /// What they look at then.
    stand_in: Option<Box<StandIn>>,
    /// Stands in for the session otherwise.
    nobody: (),
}

#[derive(Clone, Copy, PartialEq)]
enum Response {
    Open,
    /// The message that ends it was queued.
    Ended,
    /// Something that was being written was cut: nothing may follow.
    Broken,
}

#[derive(Clone, Copy, PartialEq)]
enum Doing {
    Nothing,
    Reading,
    Watching,
    Writing,
}

enum Done {
    Read(Result<Option<Bytes>>),
    Written(Result<()>),
}

/// The driver of a session, which takes its place if it is not there yet.
pub fn driver(session: &mut Box<dyn Session>) -> Result<&mut Driver> {
    if session.as_driver_mut().is_none() {
        // A box of nothing does not allocate.
        let user = std::mem::replace(session, Box::new(()));
        *session = Box::new(Driver::new(user));
    }
    let driver = session.as_driver_mut().and_then(|d| d.downcast_mut());
    driver.ok_or_else(lost)
}

/// The driver of a session, if it has one.
pub fn driver_of(session: &dyn Session) -> Option<&Driver> {
    session.as_driver()?.downcast_ref()
}

/// Ends what a session is doing, so that it is at hand again, after its exchange has ended in any way: a read is given
/// up, and a write has a few seconds more. One that takes longer is cut, and the session takes nothing more.
pub async fn settle(session: &mut Box<dyn Session>) {
    if driver_of(session.as_ref()).is_some() {
        if let Ok(driver) = driver(session) {
            driver.settle_soon().await;
        }
    }
}

/// Has a session take nothing more of its response: something else to its client was cut in the middle.
pub fn break_off(session: &mut Box<dyn Session>) {
    if let Ok(driver) = driver(session) {
        driver.break_off();
    }
}

/// Has a session say that no more messages follow. One that takes longer than other last messages is cut, and the
/// session takes nothing more.
///
/// # Errors
/// Those of the session, and `WriteTimedout`.
pub async fn finish_messages(session: &mut Box<dyn Session>) -> Result<()> {
    match tokio::time::timeout(LAST_MESSAGES, session.finish_custom()).await {
        Ok(done) => done,
        Err(_) => {
            break_off(session);
            Error::e_explain(WriteTimedout, "the end of the custom messages")
        }
    }
}

impl Driver {
    fn new(mut session: Box<dyn Session>) -> Self {
        Driver {
            bodiless: session.is_body_empty(),
            shows: false,
            stand_in: None,
            session: Loan::new(session),
            doing: Doing::Nothing,
            queue: Vec::new(),
            queued: 0,
            response: Response::Open,
            upgraded: false,
            body_over: false,
            stays: false,
            nobody: (),
        }
    }

    /// Returns whether the request has no body, which may need no field to be told.
    pub(crate) fn is_bodiless(&self) -> bool {
        self.bodiless
    }

    /// The next piece of the request body.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        // What is read after an upgrade follows its head.
        if self.doing == Doing::Writing || (self.upgraded && !self.queue.is_empty()) {
            ready!(self.poll_flush(cx))?;
        }
        if self.doing != Doing::Reading {
            if self.is_body_done() {
                return Poll::Ready(Ok(None));
            }
            self.read(Doing::Reading);
        }
        let read = ready!(self.poll_read(cx));
        self.body_over |= matches!(read, Ok(None) | Err(_));
        Poll::Ready(read)
    }

    /// Ready when the client has left.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<BError> {
        if self.doing == Doing::Writing || self.stays {
            return Poll::Pending;
        }
        if self.doing != Doing::Watching {
            self.read(Doing::Watching);
        }
        match ready!(self.poll_read(cx)) {
            Err(e) => Poll::Ready(e),
            Ok(_) => {
                self.stays = true;
                Poll::Pending
            }
        }
    }

    /// Queues a message of the response, and says whether it ends it.
    ///
    /// # Errors
    /// The one that [`HttpTask::Failed`] carries; `WriteError` after something was cut.
    pub fn queue(&mut self, mut task: HttpTask) -> Result<bool> {
        if let HttpTask::Failed(e) = task {
            return Err(e);
        }
        self.check_unbroken()?;
        if let HttpTask::Header(header, _) = &mut task {
            // The session frames a body in its own way.
            header.remove_header(&TRANSFER_ENCODING);
            if self.leaves_http(header.status) {
                self.upgraded = true;
                (self.body_over, self.stays) = (false, false);
            }
        }
        let end = task.is_end();
        self.note_end(end);
        self.queued += content(&task);
        self.queue.push(task);
        Ok(end)
    }

    /// Returns whether a tunnel follows a head (RFC 9110 sections 9.3.6 and 15.2.2).
    fn leaves_http(&self, status: StatusCode) -> bool {
        status == StatusCode::SWITCHING_PROTOCOLS
            || (status.is_success() && self.at_hand().req_header().method == Method::CONNECT)
    }

    fn note_end(&mut self, end: bool) {
        if end && self.response == Response::Open {
            self.response = Response::Ended;
        }
    }

    fn check_unbroken(&self) -> Result<()> {
        match self.response {
            Response::Broken => Error::e_explain(WriteError, "a write to the client was cut short"),
            Response::Open | Response::Ended => Ok(()),
        }
    }

    /// Takes nothing more of the response, and gives up what is being written.
    pub fn break_off(&mut self) {
        self.session.take_back();
        self.end_write();
        self.drop_queue();
        self.response = Response::Broken;
    }

    /// Shows filters a copy of the session while the next writes have it: its request, which may be changed, and what is
    /// known of it and of its client.
    pub(crate) fn show_while_lent(&mut self) {
        self.shows = true;
    }

    /// The session is at hand again.
    fn end_write(&mut self) {
        self.doing = Doing::Nothing;
        if let (Some(stand_in), Some(session)) = (self.stand_in.take(), self.session.get_mut()) {
            stand_in.retire(session.as_mut());
        }
    }

    /// Drops what the session was not given, without which the response is not whole.
    fn drop_queue(&mut self) {
        if !self.queue.is_empty() && self.response == Response::Ended {
            self.response = Response::Open;
        }
        self.upgraded &= !self.queue.iter().any(is_head);
        self.queue.clear();
        self.queued = 0;
    }

    /// Writes what is queued.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            if self.doing == Doing::Writing {
                let done = ready!(self.session.poll(cx));
                self.end_write();
                self.queued = self.queue.iter().map(content).sum();
                if let Done::Written(Err(e)) = done {
                    // Nobody knows what of it has left.
                    if self.response == Response::Ended {
                        self.response = Response::Open;
                    }
                    return Poll::Ready(Err(e));
                }
            }
            if self.is_flushed() {
                return Poll::Ready(Ok(()));
            }
            let tasks = std::mem::take(&mut self.queue);
            self.session.take_back();
            if self.shows {
                let session = self.session.get();
                self.stand_in = session.map(|s| Box::new(StandIn::of(s.as_ref())));
            }
            self.session.start(|lent| write(lent, tasks));
            self.doing = Doing::Writing;
        }
    }

    /// Returns the number of bytes that are queued and were not taken by the session.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Returns whether everything queued was taken by the session.
    pub fn is_flushed(&self) -> bool {
        self.doing != Doing::Writing
            && self.queue.is_empty()
            && !self
                .session
                .get()
                .is_some_and(|s| s.has_pending_proxy_tasks())
    }

    /// Returns whether the client has, or will have with what is queued, all of its response.
    pub fn has_whole_response(&self) -> bool {
        self.response == Response::Ended
    }

    /// Gives up a read that is under way, so that the session is at hand.
    pub fn take_back(&mut self) {
        if self.doing != Doing::Writing {
            self.session.take_back();
            self.doing = Doing::Nothing;
        }
    }

    fn read(&mut self, doing: Doing) {
        self.take_back();
        let watch = doing == Doing::Watching;
        self.session.start(move |mut lent| async move {
            Done::Read(match lent.get_mut() {
                Some(session) => session.read_body_or_idle(watch).await,
                None => Err(lost()),
            })
        });
        self.doing = doing;
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let done = ready!(self.session.poll(cx));
        self.doing = Doing::Nothing;
        Poll::Ready(match done {
            Done::Read(read) => read,
            Done::Written(_) => Err(lost()),
        })
    }

    /// The session, when what it does is done and what is queued is written.
    async fn settled(&mut self) -> Result<&mut Box<dyn Session>> {
        self.take_back();
        poll_fn(|cx| self.poll_flush(cx)).await?;
        self.session.get_mut().ok_or_else(lost)
    }

    /// The session, for a write that ends the response if so.
    async fn settled_to_write(&mut self, end: bool) -> Result<&mut Box<dyn Session>> {
        self.check_unbroken()?;
        self.note_end(end);
        self.settled().await
    }

    /// As [`Driver::settled`], but for a write that takes too long, and for errors. What the rest of the queue answers
    /// has failed.
    async fn settle_soon(&mut self) {
        self.take_back();
        self.drop_queue();
        if self.doing != Doing::Writing {
            return;
        }
        let written = poll_fn(|cx| self.poll_flush(cx));
        if tokio::time::timeout(LAST_WRITE, written).await.is_err() {
            self.break_off();
        }
    }

    fn at_hand(&self) -> &dyn Session {
        match self.session.get() {
            Some(session) => session.as_ref(),
            None => &self.nobody,
        }
    }

    fn at_hand_mut(&mut self) -> &mut dyn Session {
        self.take_back();
        match self.session.get_mut() {
            Some(session) => session.as_mut(),
            None => &mut self.nobody,
        }
    }
}

async fn write(mut lent: Lent<Box<dyn Session>>, tasks: Vec<HttpTask>) -> Done {
    let Some(session) = lent.get_mut() else {
        return Done::Written(Err(lost()));
    };
    if !session.proxy_tasks_enabled() {
        let written = session.response_duplex_vec(tasks).await;
        return Done::Written(written.map(|_| ()));
    }
    for task in tasks {
        session.send_proxy_task(task);
    }
    loop {
        if let Err(e) = session.write_proxy_tasks().await {
            return Done::Written(Err(e));
        }
        if !session.has_pending_proxy_tasks() {
            return Done::Written(Ok(()));
        }
        tokio::task::yield_now().await;
    }
}

fn is_head(task: &HttpTask) -> bool {
    matches!(task, HttpTask::Header(..))
}

fn content(task: &HttpTask) -> usize {
    match task {
        HttpTask::Body(Some(data), _) | HttpTask::UpgradedBody(Some(data), _) => data.len(),
        _ => 0,
    }
}

type Reader = Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;

/// Calls of the session's own methods come after the messages that were queued.
#[async_trait]
impl Session for Driver {
    fn as_driver(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn as_driver_mut(&mut self) -> Option<&mut dyn Any> {
        Some(self)
    }

    fn req_header(&self) -> &RequestHeader {
        match &self.stand_in {
            Some(stand_in) => &stand_in.request,
            None => self.at_hand().req_header(),
        }
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.take_back();
        match (&mut self.stand_in, self.session.get_mut()) {
            (Some(stand_in), _) => stand_in.change(),
            (None, Some(session)) => session.req_header_mut(),
            (None, None) => Session::req_header_mut(&mut self.nobody),
        }
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.settled().await?.read_body_bytes().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.settled().await?.drain_request_body().await
    }

    async fn write_response_header(&mut self, resp: Box<ResponseHeader>, end: bool) -> Result<()> {
        let session = self.settled_to_write(end).await?;
        session.write_response_header(resp, end).await
    }

    async fn write_response_header_ref(&mut self, resp: &ResponseHeader, end: bool) -> Result<()> {
        let session = self.settled_to_write(end).await?;
        session.write_response_header_ref(resp, end).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.settled_to_write(end)
            .await?
            .write_body(data, end)
            .await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        let session = self.settled_to_write(true).await?;
        session.write_trailers(trailers).await
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let end = tasks.iter().any(HttpTask::is_end);
        let session = self.settled_to_write(end).await?;
        session.response_duplex_vec(tasks).await
    }

    fn set_proxy_tasks_enabled(&mut self, enabled: bool) {
        self.at_hand_mut().set_proxy_tasks_enabled(enabled)
    }

    fn proxy_tasks_enabled(&self) -> bool {
        self.at_hand().proxy_tasks_enabled()
    }

    fn send_proxy_task(&mut self, task: HttpTask) {
        self.at_hand_mut().send_proxy_task(task)
    }

    fn has_pending_proxy_tasks(&self) -> bool {
        !self.is_flushed()
    }

    async fn write_proxy_tasks(&mut self) -> Result<bool> {
        self.settled_to_write(false)
            .await?
            .write_proxy_tasks()
            .await
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.at_hand_mut().set_read_timeout(timeout)
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.at_hand().get_read_timeout()
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.at_hand_mut().set_write_timeout(timeout)
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.at_hand().get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.at_hand_mut().set_total_drain_timeout(timeout)
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.at_hand().get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        match &self.stand_in {
            Some(stand_in) => stand_in.summary.clone(),
            None => self.at_hand().request_summary(),
        }
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        match &self.stand_in {
            Some(stand_in) => stand_in.response.as_ref(),
            None => self.at_hand().response_written(),
        }
    }

    async fn shutdown(&mut self, code: u32, ctx: &str) {
        self.settle_soon().await;
        self.at_hand_mut().shutdown(code, ctx).await
    }

    async fn abandon(&mut self, ctx: &str) {
        self.settle_soon().await;
        self.at_hand_mut().abandon(ctx).await
    }

    fn is_body_done(&mut self) -> bool {
        self.take_back();
        // What follows an upgrade is no body.
        self.body_over || (!self.was_upgraded() && self.at_hand_mut().is_body_done())
    }

    async fn finish(&mut self) -> Result<()> {
        self.settled_to_write(false).await?.finish().await
    }

    fn is_body_empty(&mut self) -> bool {
        self.at_hand_mut().is_body_empty()
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        let session = self.settled().await?;
        session.read_body_or_idle(no_body_expected).await
    }

    fn body_bytes_sent(&self) -> usize {
        match &self.stand_in {
            Some(stand_in) => stand_in.sent,
            None => self.at_hand().body_bytes_sent(),
        }
    }

    fn body_bytes_read(&self) -> usize {
        match &self.stand_in {
            Some(stand_in) => stand_in.read,
            None => self.at_hand().body_bytes_read(),
        }
    }

    fn digest(&self) -> Option<&Digest> {
        match &self.stand_in {
            Some(stand_in) => stand_in.digest.as_ref(),
            None => self.at_hand().digest(),
        }
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.at_hand_mut().digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        match &self.stand_in {
            Some(stand_in) => stand_in.client_addr.as_ref(),
            None => self.at_hand().client_addr(),
        }
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        match &self.stand_in {
            Some(stand_in) => stand_in.server_addr.as_ref(),
            None => self.at_hand().server_addr(),
        }
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.at_hand().pseudo_raw_h1_request_header()
    }

    fn enable_retry_buffering(&mut self) {
        self.at_hand_mut().enable_retry_buffering()
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.at_hand().retry_buffer_truncated()
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.at_hand().get_retry_buffer()
    }

    async fn finish_custom(&mut self) -> Result<()> {
        self.settled().await?.finish_custom().await
    }

    fn take_custom_message_reader(&mut self) -> Option<Reader> {
        self.at_hand_mut().take_custom_message_reader()
    }

    fn restore_custom_message_reader(&mut self, reader: Reader) -> Result<()> {
        self.at_hand_mut().restore_custom_message_reader(reader)
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        self.at_hand_mut().take_custom_message_writer()
    }

    fn restore_custom_message_writer(&mut self, writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        self.at_hand_mut().restore_custom_message_writer(writer)
    }

    fn is_upgrade_req(&self) -> bool {
        self.at_hand().is_upgrade_req()
    }

    fn was_upgraded(&self) -> bool {
        self.upgraded || self.at_hand().was_upgraded()
    }
}
