//! A connection on which streams are made.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::RecvStream;
use parking_lot::Mutex;
use pingora_error::ErrorType::H2Error;
use pingora_error::{Error, Result, RetryType};
use tokio::sync::watch;

use super::{is_ending, Http2Session};
use crate::limits::LIMITS;
use crate::protocols::{Digest, UniqueIDType};

/// A handle of an HTTP/2 connection. The connection closes when its last handle is dropped.
#[derive(Clone)]
pub struct ConnectionRef(Arc<Inner>);

struct Inner {
    /// Dropped before `send`, by which the task that drives the connection is woken: it sees by this that no handle is
    /// left.
    ping_timedout: Arc<AtomicBool>,
    send: SendRequest<Bytes>,
    closed: watch::Receiver<bool>,
    /// It was closed before this was made.
    was_closed: bool,
    id: UniqueIDType,
    max_streams: usize,
    digest: Digest,
    /// Streams that are in use.
    streams: AtomicUsize,
    /// No further streams are to be made.
    shutting_down: AtomicBool,
    /// The head of a response came on it.
    answered: AtomicBool,
    /// The peer's first SETTINGS came.
    settled: AtomicBool,
    /// Bytes of responses that were taken.
    taken: Arc<AtomicUsize>,
    /// One more than the worker among whose connections in use this is, or zero.
    listed: AtomicUsize,
    ending: Ending,
    /// The key of the limit of which the transport holds a place.
    limit: OnceLock<u64>,
    /// Since when it is idle, where somebody wants to know that and the pool does not.
    idle_since: Mutex<Option<Instant>>,
}

/// Streams of which nothing is missing but the end. The peer counts them among those that are open.
#[derive(Default)]
struct Ending {
    /// The number of there that are, for those who need not look closer.
    count: AtomicUsize,
    streams: Mutex<VecDeque<(Instant, RecvStream)>>,
}

impl Ending {
    fn keep(&self, stream: RecvStream) {
        let mut streams = self.streams.lock();
        streams.push_back((Instant::now(), stream));
        self.trim(&mut streams, LIMITS.h2_upstream_endings);
    }

    /// Makes room for other streams where there is not enough.
    fn leave(&self, most: usize) {
        if self.count.load(Ordering::Relaxed) > most {
            self.trim(&mut self.streams.lock(), most);
        }
    }

    /// Forgets those that have ended, and gives up what is too old or too much: dropping a stream resets it.
    fn trim(&self, streams: &mut VecDeque<(Instant, RecvStream)>, most: usize) {
        streams.retain_mut(|(since, stream)| {
            since.elapsed() < LIMITS.h2_upstream_ending && is_ending(stream)
        });
        while streams.len() > most {
            streams.pop_front();
        }
        self.count.store(streams.len(), Ordering::Relaxed);
    }
}

impl ConnectionRef {
    /// A handle of a connection that [`drive_connection`](super::drive_connection)
    /// drives: that says by `closed` when it has ended, and by `ping_timeout_occurred` why. At most `max_streams`
    /// streams are made at once, and at least one.
    pub fn new(
        send_req: SendRequest<Bytes>,
        closed: watch::Receiver<bool>,
        ping_timeout_occurred: Arc<AtomicBool>,
        id: UniqueIDType,
        max_streams: usize,
        digest: Digest,
    ) -> Self {
        let was_closed = *closed.borrow();
        ConnectionRef(Arc::new(Inner {
            send: send_req,
            closed,
            was_closed,
            ping_timedout: ping_timeout_occurred,
            id,
            max_streams: max_streams.max(1),
            digest,
            streams: AtomicUsize::new(0),
            shutting_down: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            taken: Arc::default(),
            listed: AtomicUsize::new(0),
            ending: Ending::default(),
            limit: OnceLock::new(),
            idle_since: Mutex::default(),
        }))
    }

    /// Bytes of responses that were taken from its streams, over all of them; it wraps around.
    pub(crate) fn taken(&self) -> Arc<AtomicUsize> {
        self.0.taken.clone()
    }

    /// Counts bytes of a response that were taken.
    pub(crate) fn note_taken(&self, bytes: usize) {
        self.0.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Streams that may exist at once: by our limit, and by what the peer says it takes.
    fn limit(&self) -> usize {
        self.0
            .max_streams
            .min(self.0.send.current_max_send_streams())
    }

    /// Returns how many more streams could be made now, were the connection open.
    pub fn free_stream_slots(&self) -> usize {
        self.limit()
            .saturating_sub(self.0.streams.load(Ordering::Relaxed))
    }

    /// Returns whether a further stream can be made.
    pub fn more_streams_allowed(&self) -> bool {
        self.can_accept_streams(1)
    }

    /// Returns whether so many further streams can be made.
    pub fn can_accept_streams(&self, streams: usize) -> bool {
        self.is_usable() && self.free_stream_slots() >= streams
    }

    fn is_usable(&self) -> bool {
        !self.is_shutting_down() && !self.is_closed()
    }

    /// Returns whether no stream is in use.
    pub fn is_idle(&self) -> bool {
        self.0.streams.load(Ordering::Relaxed) == 0
    }

    /// Gives the place of a stream back. A session does that when it is dropped.
    pub fn release_stream(&self) {
        // A call too many must not make the count wrap around.
        let _ = self
            .0
            .streams
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    }

    /// The identity of the transport.
    pub fn id(&self) -> UniqueIDType {
        self.0.id
    }

    /// The digest of the connection.
    pub fn digest(&self) -> &Digest {
        &self.0.digest
    }

    /// Returns what is known of the connection, to add to it; `None` while there are other handles.
    pub fn digest_mut(&mut self) -> Option<&mut Digest> {
        Arc::get_mut(&mut self.0).map(|inner| &mut inner.digest)
    }

    /// Returns whether the connection ended because a PING was not answered.
    pub fn ping_timedout(&self) -> bool {
        self.0.ping_timedout.load(Ordering::Acquire)
    }

    /// Returns whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        if self.0.was_closed {
            return true;
        }
        // The lock is taken only after a change, of which there is one. A driver that is gone has ended too.
        match self.0.closed.has_changed() {
            Ok(false) => false,
            Ok(true) => *self.0.closed.borrow(),
            Err(_) => true,
        }
    }

    /// Returns whether streams can still be made, now or later; `cx` is woken when that may have changed.
    pub(crate) fn poll_usable(&self, cx: &mut Context<'_>) -> bool {
        let mut send = self.0.send.clone();
        self.is_usable() && !matches!(send.poll_ready(cx), Poll::Ready(Err(_)))
    }

    /// Makes no further streams; those that exist go on.
    pub fn mark_shutdown(&self) {
        self.0.shutting_down.store(true, Ordering::Relaxed);
    }

    /// Returns whether no further streams are made, because the peer or this side said so.
    pub fn is_shutting_down(&self) -> bool {
        self.0.shutting_down.load(Ordering::Relaxed)
    }

    /// Notes that the peer has answered a request. From the second time on that only reads.
    pub(crate) fn mark_answered(&self) {
        if !self.has_answered() {
            self.0.answered.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether the peer has answered a request on this connection.
    pub(crate) fn has_answered(&self) -> bool {
        self.0.answered.load(Ordering::Relaxed)
    }

    /// Notes that the peer's first SETTINGS came.
    pub(crate) fn mark_settled(&self) {
        self.0.settled.store(true, Ordering::Relaxed);
    }

    /// Returns whether the peer takes an extended CONNECT (RFC 8441 section 3); `None` while that is not known, because
    /// its SETTINGS, which are the first that it sends, may still be on their way.
    pub(crate) fn takes_extended_connect(&self) -> Option<bool> {
        if self.0.send.is_extended_connect_protocol_enabled() {
            return Some(true);
        }
        let settled = self.0.settled.load(Ordering::Relaxed) || self.has_answered();
        settled.then_some(false)
    }

    /// A new stream; `None` when the connection takes no more at the moment, or none ever.
    ///
    /// # Errors
    /// `H2Error` when the connection has failed, which allows a retry on another one.
    pub async fn spawn_stream(&self) -> Result<Option<Http2Session>> {
        self.try_stream()
    }

    /// [`ConnectionRef::spawn_stream`], which never has to wait.
    pub(crate) fn try_stream(&self) -> Result<Option<Http2Session>> {
        if !self.is_usable() {
            return Ok(None);
        }
        let mut send = self.0.send.clone();
        // Asks for what the driver has seen: it is ready for any handle that waits for no stream of its own.
        if let Poll::Ready(Err(e)) = send.poll_ready(&mut Context::from_waker(Waker::noop())) {
            self.mark_shutdown();
            if e.is_go_away() && e.reason() == Some(h2::Reason::NO_ERROR) {
                return Ok(None);
            }
            let mut e = Error::because(H2Error, "while opening a stream", e);
            e.retry = RetryType::Decided(true);
            return Err(e);
        }
        let limit = self.limit();
        let peers = self.0.send.current_max_send_streams();
        let used = self.0.streams.load(Ordering::Relaxed);
        self.0.ending.leave(peers.saturating_sub(used + 1));
        let taken = self
            .0
            .streams
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n < limit).then_some(n + 1)
            });
        Ok(taken.ok().map(|_| Http2Session::new(send, self.clone())))
    }

    /// Waits, without a task of its own, for the end of a stream that its session is done with.
    pub(crate) fn keep_ending(&self, stream: RecvStream) {
        self.0.ending.keep(stream);
    }

    /// The worker among whose connections in use this is.
    pub(crate) fn listed(&self) -> Option<usize> {
        self.0.listed.load(Ordering::Relaxed).checked_sub(1)
    }

    pub(crate) fn set_listed(&self, worker: Option<usize>) {
        let listed = worker.map_or(0, |worker| worker + 1);
        self.0.listed.store(listed, Ordering::Relaxed);
    }

    /// Notes the key of the limit of which the transport holds a place.
    pub(crate) fn set_limit_key(&self, key: Option<u64>) {
        if let Some(key) = key {
            let _ = self.0.limit.set(key);
        }
    }

    /// Returns the key of the limit of which the transport holds a place.
    pub(crate) fn limit_key(&self) -> Option<u64> {
        self.0.limit.get().copied()
    }

    /// Notes that it is idle from now on.
    pub(crate) fn note_idle(&self) {
        *self.0.idle_since.lock() = Some(Instant::now());
    }

    /// Returns since when it was idle, once, if that was noted.
    pub(crate) fn take_idle_since(&self) -> Option<Instant> {
        self.0.idle_since.lock().take()
    }

    pub(crate) fn is_same(&self, other: &ConnectionRef) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Completes when the connection has ended.
    pub(crate) fn closed(&self) -> watch::Receiver<bool> {
        self.0.closed.clone()
    }
}
