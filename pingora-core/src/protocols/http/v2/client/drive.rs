//! The task that moves the frames of a connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use h2::client::Connection;
use h2::{Ping, PingPong};
use log::{debug, warn};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{sleep, Sleep};

use crate::limits::LIMITS;
use crate::protocols::UniqueIDType;

/// Moves the frames of a connection until it ends, then says so by `closed`.
///
/// With a `ping_interval` other than zero the peer is sent a PING that often, and has five seconds to answer each: else
/// `ping_timeout_occurred` is set and the connection is dropped, with all its streams.
pub async fn drive_connection<S>(
    mut c: Connection<S>,
    id: UniqueIDType,
    closed: watch::Sender<bool>,
    ping_interval: Option<Duration>,
    ping_timeout_occurred: Arc<AtomicBool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let pings = ping_interval.and_then(|interval| Some((interval, c.ping_pong()?)));
    // Whether anybody has a handle is the caller's affair: who does may have let go of the flag.
    let _held = ping_timeout_occurred.clone();
    drive(c, id, closed, pings, ping_timeout_occurred, None).await;
}

/// The window of a connection, which grows as its streams are taken from: twice as large each time that as much of it was
/// taken as it had. So a connection to a far origin gets as fast as with the largest window from the beginning, within as
/// many round trips as TCP itself needs, and what is not taken fills the memory with little.
pub(crate) struct GrowingWindow {
    size: u32,
    most: u32,
    /// The bytes that the streams say were taken.
    taken: Arc<AtomicUsize>,
    /// The same when the window grew last.
    counted: usize,
}

impl GrowingWindow {
    pub(crate) fn new(size: u32, most: u32, taken: Arc<AtomicUsize>) -> Self {
        GrowingWindow {
            size,
            most,
            taken,
            counted: 0,
        }
    }

    fn grow<S>(&mut self, c: &mut Connection<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let taken = self.taken.load(Ordering::Relaxed);
        if self.size < self.most && taken.wrapping_sub(self.counted) >= self.size as usize {
            self.counted = taken;
            self.size = self.size.saturating_mul(2).min(self.most);
            c.set_target_window_size(self.size);
        }
    }
}

/// Moves the frames until the connection ends, and has its window grow.
///
/// A connection that nobody has any more lacks its GOAWAY, for which `h2` waits until the peer takes it: that has its time.
async fn run<S>(
    c: &mut Connection<S>,
    mut window: Option<GrowingWindow>,
    is_left: impl Fn() -> bool,
) -> Result<(), h2::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let mut goodbye: Option<Pin<Box<Sleep>>> = None;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(ended) = Pin::new(&mut *c).poll(cx) {
            return Poll::Ready(ended);
        }
        if let Some(window) = &mut window {
            window.grow(c);
        }
        if !is_left() {
            return Poll::Pending;
        }
        let goodbye = goodbye.get_or_insert_with(|| Box::pin(sleep(LIMITS.give_way)));
        goodbye.as_mut().poll(cx).map(Ok)
    })
    .await
}

/// [`drive_connection`], with what it sends PING by. Whoever has a handle of the connection shares `ping_timeout_occurred`.
pub(crate) async fn drive<S>(
    mut c: Connection<S>,
    id: UniqueIDType,
    closed: watch::Sender<bool>,
    pings: Option<(Duration, PingPong)>,
    ping_timeout_occurred: Arc<AtomicBool>,
    window: Option<GrowingWindow>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let is_left = || Arc::strong_count(&ping_timeout_occurred) == 1;
    let moved = run(&mut c, window, is_left);
    let ended = match pings.filter(|(interval, _)| !interval.is_zero()) {
        None => moved.await,
        Some((interval, pings)) => {
            tokio::select! {
                ended = moved => ended,
                () = unanswered(pings, interval) => {
                    warn!("no answer to a PING on the HTTP/2 connection {id}");
                    ping_timeout_occurred.store(true, Ordering::Release);
                    Ok(())
                }
            }
        }
    };
    if let Err(e) = ended {
        debug!("the HTTP/2 connection {id} ended: {e}");
    }
    // Streams are told by this that they ended; whoever asks them why must find the flag set.
    drop(c);
    closed.send_replace(true);
}

/// Returns when a PING was not answered.
async fn unanswered(mut pings: PingPong, interval: Duration) {
    loop {
        sleep(interval).await;
        match tokio::time::timeout(LIMITS.h2_upstream_ping, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection failed otherwise, which is for its own future to say.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}
