//! One HTTP/2 connection: its streams, and its end.
//!
//! The connection has a task, and each stream has one, spawned where the connection is: on a runtime of one
//! thread they stay there. A callback that panics ends its stream's task, whose session resets the stream
//! with INTERNAL_ERROR when it is dropped; the connection goes on.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::Connection;
use h2::{Ping, PingPong, Reason};
use log::debug;
use tokio::time::Instant;

use super::HttpServerApp;
use crate::protocols::http::server::Session;
use crate::protocols::http::v1::{due_in, Alarm};
use crate::protocols::http::v2::server::{handshake, H2Accept, HttpSession};
use crate::protocols::{Digest, Stream};
use crate::server::ShutdownWatch;
use crate::shutdown::{Registration, Stage};

/// How long a client may take for its preface.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// After how long a client is asked whether it is there, unless configured.
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// How long a connection that is to end at once may take for its last words.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Malformed requests on one connection.
const MALFORMED: u32 = 32;

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
    let begun = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(stream, app.h2_options())).await;
    let conn = match begun {
        Ok(Ok(conn)) => conn,
        Ok(Err(e)) => {
            debug!("no HTTP/2 connection: {e}");
            return None;
        }
        Err(_) => {
            debug!("no HTTP/2 connection: the client takes too long");
            return None;
        }
    };
    let shared = Arc::new(Shared {
        app: app.clone(),
        shutdown: shutdown.clone(),
    });
    Some(Box::pin(Driver::new(conn, digest, shared)))
}

/// What the streams of a connection share. It belongs to the connection, so that to count who uses it touches
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
    /// Whether the server stops, as the streams are told.
    leaving: Arc<AtomicBool>,
    malformed: u32,
    alarm: Alarm,
    idle: Idle,
    pings: Pings,
    /// By when the connection, which was told to end, has to have ended; later when streams are not done then.
    over: Option<Instant>,
}

/// What tells the connection that the server stops.
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

/// Whether the client is still there.
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
        digest: Arc<Digest>,
        shared: Arc<Shared<A>>,
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
        let interval = interval.unwrap_or(PING_INTERVAL);
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
            leaving: Arc::default(),
            malformed: 0,
            alarm: Alarm::default(),
            idle: Idle {
                timeout: options.and_then(|o| o.h2_idle_timeout),
                since: None,
            },
            pings,
            over: None,
            shared,
        }
    }

    fn accepted(&mut self, accepted: H2Accept) {
        match accepted {
            H2Accept::Session(mut session) => {
                if matches!(&self.goodbye, Goodbye::Place(place) if place.stage() != Stage::Running)
                {
                    self.leaving.store(true, Ordering::Relaxed);
                }
                session.set_leaving(self.leaving.clone());
                let shared = self.shared.clone();
                // The one task that a request costs: a stream is served beside the others.
                tokio::spawn(async move {
                    let session = Session::new_http2(session);
                    let Shared { app, shutdown } = &*shared;
                    app.process_new_http(session, shutdown).await;
                });
            }
            H2Accept::Rejected => {
                self.malformed += 1;
                if self.malformed > MALFORMED {
                    self.end_now(Reason::ENHANCE_YOUR_CALM);
                }
            }
        }
    }

    /// Ends the connection when its streams are done: GOAWAY in two steps (RFC 9113 section 6.8).
    fn leave(&mut self) {
        if self.over.is_none() {
            self.conn.graceful_shutdown();
            self.over = Some(due_in(LAST_WORDS));
        }
    }

    /// Ends the connection with its streams.
    fn end_now(&mut self, reason: Reason) {
        self.conn.abrupt_shutdown(reason);
        self.over = Some(due_in(LAST_WORDS));
    }

    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> bool {
        let now = match &mut self.goodbye {
            Goodbye::Place(place) => place.park(cx.waker()) != Stage::Running,
            Goodbye::Watch(watch) => watch.as_mut().poll(cx).is_ready(),
            Goodbye::Said => false,
        };
        if now {
            self.goodbye = Goodbye::Said;
            self.leaving.store(true, Ordering::Relaxed);
            self.leave();
        }
        now
    }

    /// What time brings. `Ready`: the connection is to be polled again.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<Time> {
        if let Some(over) = self.over {
            return match self.alarm.rings(cx, over) {
                true if self.conn.has_streams() => {
                    self.over = Some(due_in(LAST_WORDS));
                    Poll::Ready(Time::Again)
                }
                true => Poll::Ready(Time::Up),
                false => Poll::Pending,
            };
        }
        let ponged = self.pings.poll(cx);
        let idle_due = self.idle.due(self.conn.has_streams());
        let due = [self.pings.due(), idle_due].into_iter().flatten().min();
        match due {
            _ if ponged => Poll::Ready(Time::Again),
            Some(due) if self.alarm.rings(cx, due) => {
                if idle_due.is_some_and(|at| at <= due) {
                    self.leave();
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

/// What the clock says about a connection.
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
        loop {
            match HttpSession::poll_from_h2_conn(&mut this.conn, &this.digest, cx) {
                Poll::Ready(Ok(Some(accepted))) => {
                    this.accepted(accepted);
                    continue;
                }
                Poll::Ready(Ok(None)) => return Poll::Ready(()),
                Poll::Ready(Err(e)) => {
                    debug!("an HTTP/2 connection ended: {e}");
                    return Poll::Ready(());
                }
                Poll::Pending => {}
            }
            if this.poll_goodbye(cx) {
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

    /// Whether the client has answered.
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
mod tests {
    use super::*;
    use crate::apps::ReusedHttpStream;

    struct Nothing;

    #[async_trait::async_trait]
    impl HttpServerApp for Nothing {
        async fn process_new_http(
            self: &Arc<Self>,
            _: Session,
            _: &ShutdownWatch,
        ) -> Option<ReusedHttpStream> {
            None
        }
    }

    /// An idle connection keeps both for as long as it lasts.
    #[tokio::test]
    async fn what_waits_is_small() {
        let (_stops, shutdown) = tokio::sync::watch::channel(false);
        let (stream, _client) = tokio::io::duplex(64);
        let app = Arc::new(Nothing);
        let serving = serve(&app, Box::new(stream), &shutdown);
        let size = size_of_val(&serving);
        assert!(size <= 96, "{size} bytes");
        let conn = size_of::<Connection<Stream, Bytes>>();
        let own = size_of::<Driver<Nothing>>() - conn;
        assert!(own <= 256, "{own} bytes besides the {conn} of h2");
    }
}
