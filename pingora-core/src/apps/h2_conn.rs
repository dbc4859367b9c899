//! One HTTP/2 connection: its streams, and its end.
//!
//! The connection has a task, and each stream has one, spawned where the connection is: on a runtime of one
//! thread they stay there. A callback that panics ends its stream's task, whose session resets the stream
//! with INTERNAL_ERROR when it is dropped; the connection goes on.

use std::future::{poll_fn, Future};
use std::pin::{pin, Pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::server::Connection;
use h2::{Ping, PingPong, Reason};
use log::debug;
use tokio::time::Instant;

use super::first_bytes::in_time;
use super::HttpServerApp;
use crate::limits::LIMITS;
use crate::protocols::http::server::{RefusedRequest, Session};
use crate::protocols::http::v1::{due_in, Timer};
use crate::protocols::http::v2::conn_state::ConnState;
use crate::protocols::http::v2::guard;
use crate::protocols::http::v2::server::{self, H2Accept, HttpSession};
use crate::protocols::l4::ext::has_unread;
use crate::protocols::l4::stream::Stream as L4Stream;
use crate::protocols::tls::transport;
use crate::protocols::{Digest, Stream, UniqueID};
use crate::shutdown::watch::ShutdownWatch;
use crate::shutdown::{Registration, Stage};

/// Serves the streams of a connection until it ends.
pub(super) async fn serve<A>(app: &Arc<A>, stream: Stream, shutdown: &ShutdownWatch)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    // Boxed: what a connection awaits once would take its place in memory for as long as it lasts.
    let Some(driver) = Box::pin(begin(app, stream, shutdown)).await else {
        return;
    };
    driver.await;
}

async fn begin<A>(
    app: &Arc<A>,
    stream: Stream,
    shutdown: &ShutdownWatch,
) -> Option<Pin<Box<Driver<A>>>>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let digest = Arc::new(Digest::of(&*stream));
    let limit = app
        .server_options()
        .and_then(|o| o.h2_connection_send_buffer);
    let socket = transport(&*stream).map(UniqueID::id);
    let of_endpoint = transport(&*stream).and_then(L4Stream::http);
    let idle = of_endpoint.and_then(|settings| settings.idle);
    let state = ConnState::new(limit.unwrap_or(LIMITS.h2_client_send_buffer_bytes));
    let read = of_endpoint.and_then(|settings| settings.read);
    let state = Arc::new(state.with_read_timeout(read));
    let seen = AtomicBool::new(false);
    let begun = || seen.load(Ordering::Relaxed) || socket.is_some_and(has_unread);
    let mut handshake = pin!(server::begin(stream, app.h2_options(), Some(state.clone())));
    let handshake = poll_fn(|cx| {
        let polled = handshake.as_mut().poll(cx);
        seen.fetch_or(guard::has_begun(), Ordering::Relaxed);
        polled
    });
    let conn = match in_time(&**app, shutdown, LIMITS.client_handshake, begun, handshake).await {
        Ok(Ok(conn)) => conn,
        Ok(Err(e)) => {
            debug!("no HTTP/2 connection: {e}");
            return None;
        }
        Err(late) => {
            debug!("no HTTP/2 connection: {late}");
            return None;
        }
    };
    let shared = Arc::new(Shared {
        app: app.clone(),
        shutdown: shutdown.clone(),
    });
    Some(Box::pin(Driver::new(conn, state, digest, shared, idle)))
}

/// The part that the streams of a connection share. It belongs to the connection, so that to count who uses it touches
/// nothing that another worker does.
struct Shared<A> {
    app: Arc<A>,
    shutdown: ShutdownWatch,
}

/// Drives a connection.
struct Driver<A> {
    conn: Connection<Stream, Bytes>,
    digest: Arc<Digest>,
    shared: Arc<Shared<A>>,
    goodbye: Goodbye,
    /// The state that the streams and the transport share.
    state: Arc<ConnState>,
    /// The task that the state wakes.
    waker: Option<Waker>,
    field_block: FieldBlock,
    /// The number of requests that may still come before the client is told to come anew; `None` for no limit.
    requests_left: Option<u32>,
    /// The number that came after it was told.
    late: u32,
    timer: Timer,
    idle: Idle,
    untaken: Untaken,
    /// The number of streams that were given to the application, from 0 again after the last number.
    begun: u32,
    pings: Pings,
    /// The end of the connection, once it has begun.
    end: Option<End>,
}

/// The end of a connection.
#[derive(Clone, Copy)]
struct End {
    /// When it is looked at whether the client has done its part.
    due: Instant,
    /// True if the last word was said, so that nothing is waited for but that it goes out.
    last: bool,
}

/// The way in which the connection learns that the server stops.
enum Goodbye {
    /// The application's registry.
    Place(Registration),
    /// The server's watch.
    Watch(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// It was told.
    Said,
}

/// For how long there has been no stream.
struct Idle {
    timeout: Option<Duration>,
    since: Option<Instant>,
}

/// For how long the client has opened no window and read nothing, with a response that it has not taken in full.
#[derive(Default)]
struct Untaken {
    since: Option<Instant>,
    /// The number of times that it had done so by then.
    progress: u32,
}

/// For how long the client has been sending one field block, by its number.
#[derive(Default)]
struct FieldBlock {
    number: u32,
    since: Option<Instant>,
}

/// The PINGs that find out whether the client is still there.
struct Pings {
    interval: Duration,
    ping_pong: Option<PingPong>,
    /// When the next one is due, or the answer to the last.
    due: Instant,
    asked: bool,
}

impl<A> Driver<A>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    fn new(
        mut conn: Connection<Stream, Bytes>,
        state: Arc<ConnState>,
        digest: Arc<Digest>,
        shared: Arc<Shared<A>>,
        idle: Option<Duration>,
    ) -> Self {
        let options = shared.app.server_options();
        let goodbye = match shared.app.shutdown_registry() {
            Some(registry) => Goodbye::Place(registry.register(crate::worker::current())),
            None => {
                let mut watch = shared.shutdown.clone();
                Goodbye::Watch(Box::pin(async move {
                    // When nobody can tell any more, the server is gone.
                    let _ = watch.wait_for(|stops| *stops).await;
                }))
            }
        };
        let interval = options.and_then(|o| o.h2_ping_interval);
        let interval = interval.unwrap_or(LIMITS.h2_client_ping);
        let pings = Pings {
            ping_pong: conn.ping_pong().filter(|_| !interval.is_zero()),
            interval,
            due: due_in(interval),
            asked: false,
        };
        Driver {
            conn,
            digest,
            goodbye,
            state,
            waker: None,
            field_block: FieldBlock::default(),
            // The first one is no reuse.
            requests_left: options
                .and_then(|o| o.keepalive_request_limit)
                .map(|limit| limit.saturating_add(1)),
            late: 0,
            timer: Timer::default(),
            idle: Idle {
                timeout: idle.or_else(|| options.and_then(|o| o.h2_idle_timeout)),
                since: None,
            },
            untaken: Untaken::default(),
            begun: 0,
            pings,
            end: None,
            shared,
        }
    }

    fn accepted(&mut self, accepted: H2Accept) {
        match accepted {
            H2Accept::Session(mut session) => {
                if self.end.is_some() {
                    self.late += 1;
                    if self.late > LIMITS.h2_client_late {
                        return self.end_now(Reason::ENHANCE_YOUR_CALM);
                    }
                }
                if matches!(&self.goodbye, Goodbye::Place(place) if place.stage() != Stage::Running)
                {
                    self.state.set_leaving();
                }
                session.set_conn_state(self.state.clone());
                self.begun = self.begun.wrapping_add(1);
                let shared = self.shared.clone();
                // The one task that a request costs: a stream is served beside the others.
                tokio::spawn(async move {
                    let session = Session::new_http2(session);
                    let Shared { app, shutdown } = &*shared;
                    app.process_new_http(session, shutdown).await;
                });
                self.count_request();
            }
            H2Accept::Rejected => self.state.note_malformed(),
        }
    }

    /// Ends the connection of a client that has sent too much that is malformed; returns whether that is now.
    fn is_malformed(&mut self) -> bool {
        let ending = matches!(self.end, Some(End { last: true, .. }));
        let begins = !ending && self.state.malformed() > LIMITS.h2_client_malformed;
        if begins {
            self.end_now(Reason::ENHANCE_YOUR_CALM);
        }
        begins
    }

    /// Has a connection that served as many requests as it may end.
    fn count_request(&mut self) {
        if let Some(left) = &mut self.requests_left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.leave();
            }
        }
    }

    /// Ends the connection when its streams are done: GOAWAY in two steps (RFC 9113 section 6.8), of which the second
    /// follows when the client has answered the first.
    fn leave(&mut self) {
        if self.end.is_none() {
            self.conn.graceful_shutdown();
            self.end = Some(End {
                due: due_in(LIMITS.h2_client_last_words),
                last: false,
            });
        }
    }

    /// Ends the connection with its streams.
    fn end_now(&mut self, reason: Reason) {
        self.conn.abrupt_shutdown(reason);
        self.end = Some(End {
            due: due_in(LIMITS.h2_client_last_words),
            last: true,
        });
    }

    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> bool {
        let now = match &mut self.goodbye {
            Goodbye::Place(place) => place.park(cx.waker()) != Stage::Running,
            Goodbye::Watch(watch) => watch.as_mut().poll(cx).is_ready(),
            Goodbye::Said => false,
        };
        if now {
            self.goodbye = Goodbye::Said;
            self.state.set_leaving();
            self.leave();
        }
        now
    }

    /// Begins the end of the connection if a stream asks for it; returns whether that begins now.
    fn is_asked_to_end(&mut self) -> bool {
        let begins = self.end.is_none() && self.state.is_ending();
        if begins {
            self.leave();
        }
        begins
    }

    /// Returns whether an application has a stream.
    fn is_serving(&self) -> bool {
        self.begun != self.state.ended()
    }

    /// Returns what time brings. `Ready`: the connection is to be polled again.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<Time> {
        let ponged = self.pings.poll(cx);
        let has_streams = self.conn.has_streams();
        let end_due = match self.end {
            Some(end) => Some(end.due),
            None => self.idle.due(has_streams),
        };
        let block_due = match self.end {
            Some(_) => None,
            None => self.field_block.due(self.state.field_block()),
        };
        let untaken_due = match self.end {
            Some(End { last: true, .. }) => None,
            _ => self.untaken.due(has_streams, &self.state),
        };
        let due = [self.pings.due(), end_due, block_due, untaken_due]
            .into_iter()
            .flatten()
            .min();
        match due {
            _ if ponged => Poll::Ready(Time::Again),
            Some(due) if self.timer.is_over(cx, due) => {
                if block_due.is_some_and(|at| at <= due) {
                    debug!("an HTTP/2 client does not end its header fields");
                    self.end_now(Reason::ENHANCE_YOUR_CALM);
                } else if untaken_due.is_some_and(|at| at <= due) {
                    self.untaken.since = None;
                    // An application that is left has its own limits, and gives its stream up by itself.
                    if !self.is_serving() {
                        debug!("an HTTP/2 client does not take the rest of its responses");
                        self.end_now(Reason::CANCEL);
                    }
                } else if end_due.is_some_and(|at| at <= due) {
                    match &mut self.end {
                        None => self.leave(),
                        Some(End { last: true, .. }) => return Poll::Ready(Time::Up),
                        Some(end) if has_streams => end.due = due_in(LIMITS.h2_client_last_words),
                        // The client did not answer: it learns all the same which requests were served.
                        Some(_) => self.end_now(Reason::NO_ERROR),
                    }
                } else if self.pings.asked {
                    debug!("an HTTP/2 client does not answer");
                    return Poll::Ready(Time::Up);
                } else {
                    self.pings.ask();
                }
                Poll::Ready(Time::Again)
            }
            _ => Poll::Pending,
        }
    }
}

/// The time limits that a connection is over.
enum Time {
    /// Something was done that the connection has to send.
    Again,
    /// It is over.
    Up,
}

impl<A> Future for Driver<A>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if !this.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            this.state.set_driver(cx.waker());
            this.waker = Some(cx.waker().clone());
        }
        loop {
            let app = &this.shared.app;
            let tell = &mut |refused: &mut RefusedRequest<'_>| app.request_refused(refused);
            match HttpSession::poll_from_h2_conn(&mut this.conn, &this.digest, cx, tell) {
                Poll::Ready(Ok(Some(accepted))) => {
                    this.accepted(accepted);
                    this.is_malformed();
                    continue;
                }
                Poll::Ready(Ok(None)) => return Poll::Ready(()),
                Poll::Ready(Err(e)) => {
                    debug!("an HTTP/2 connection ended: {e}");
                    return Poll::Ready(());
                }
                Poll::Pending => this.state.settle(),
            }
            if this.is_malformed() || this.poll_goodbye(cx) || this.is_asked_to_end() {
                continue;
            }
            match this.poll_time(cx) {
                Poll::Ready(Time::Again) => {}
                Poll::Ready(Time::Up) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Idle {
    /// When the connection has been without streams for long enough.
    fn due(&mut self, has_streams: bool) -> Option<Instant> {
        let timeout = self.timeout?;
        if has_streams {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        since.checked_add(timeout)
    }
}

impl Untaken {
    /// When the client has let nothing more come for so long as its responses may wait for it.
    fn due(&mut self, has_streams: bool, state: &ConnState) -> Option<Instant> {
        let progress = state.progress();
        if !has_streams || progress != std::mem::replace(&mut self.progress, progress) {
            self.since = None;
        }
        if !has_streams {
            return None;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        since.checked_add(state.write_timeout())
    }
}

impl FieldBlock {
    /// When the client has been sending the field block with this number for too long; 0 stands for none.
    fn due(&mut self, number: u32) -> Option<Instant> {
        if number != std::mem::replace(&mut self.number, number) {
            self.since = (number != 0).then(Instant::now);
        }
        self.since?.checked_add(LIMITS.client_field_block)
    }
}

impl Pings {
    fn due(&self) -> Option<Instant> {
        self.ping_pong.as_ref().map(|_| self.due)
    }

    fn ask(&mut self) {
        let sent = self.ping_pong.as_mut().map(|p| p.send_ping(Ping::opaque()));
        if sent.is_some_and(|sent| sent.is_ok()) {
            self.asked = true;
        }
        self.due = due_in(self.interval);
    }

    /// Returns whether the client has answered.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(ping_pong) = self.ping_pong.as_mut().filter(|_| self.asked) else {
            return false;
        };
        match ping_pong.poll_pong(cx) {
            Poll::Ready(Ok(_)) => {
                self.asked = false;
                self.due = due_in(self.interval);
                true
            }
            // The connection is at its end, and says so itself.
            Poll::Ready(Err(_)) | Poll::Pending => false,
        }
    }
}

#[cfg(test)]
mod tests;
