//! Permits to connect, and the place of a connection among those that may be open.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;

use pingora_error::Error;

/// Limits the connections that are open at a time.
///
/// It is asked before a connection is made ([`PeerOptions::connect_permit`](crate::upstreams::peer::PeerOptions)). Where
/// there is no place, an idle connection that holds one of this limit is closed for the new one.
///
/// ```
/// use std::any::Any;
/// use std::sync::Arc;
///
/// use pingora_core::connectors::ConnectPermit;
/// use pingora_core::upstreams::peer::HttpPeer;
///
/// /// At most three connections.
/// #[derive(Debug)]
/// struct Three(Arc<()>);
///
/// impl ConnectPermit for Three {
///     fn acquire(&self) -> Option<Box<dyn Any + Send + Sync>> {
///         let place = self.0.clone();
///         // One count is that of `self`. A permit of several threads would have to count in one step.
///         (Arc::strong_count(&place) <= 4).then(|| Box::new(place) as _)
///     }
///
///     fn key(&self) -> u64 {
///         1
///     }
/// }
///
/// let mut peer = HttpPeer::new("127.0.0.1:80", false, String::new());
/// peer.options.connect_permit = Some(Arc::new(Three(Arc::new(()))));
/// ```
pub trait ConnectPermit: fmt::Debug + Send + Sync {
    /// Takes a place for a new connection; `None` when there is none. The place is free again when what is returned is
    /// dropped: after the socket was closed, or when no connection came about.
    fn acquire(&self) -> Option<Box<dyn Any + Send + Sync>>;

    /// Tells this limit from others of the process. Connections that hold a place of the same limit give way to each other
    /// while they are idle, whatever peers they lead to.
    fn key(&self) -> u64;

    /// Tells that a request waits for an HTTP/2 connection which is being made for another one: it needs no place, and
    /// nothing but the peer keeps it from its connection. It asks for a place of its own if that fails for a lack of places.
    fn joins(&self) {}
}

/// Returns whether no connection was made because a [`ConnectPermit`] gave no place: nothing was sent, and nothing is
/// known of the peer. A proxy counts such a try among its retries, unless the application says otherwise by
/// `Session::spare_try`.
pub fn lacks_connect_permit(e: &Error) -> bool {
    e.root_cause().is::<NoPermit>()
}

/// The limit of connections is reached.
#[derive(Debug)]
pub(crate) struct NoPermit;

impl fmt::Display for NoPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("as many connections are open as may be")
    }
}

impl StdError for NoPermit {}

/// A place among the connections of a limit. Its owner is the stream, which drops it after the socket.
pub(crate) struct ConnectGuard {
    key: u64,
    _place: Box<dyn Any + Send + Sync>,
}

impl ConnectGuard {
    pub(crate) fn new(key: u64, place: Box<dyn Any + Send + Sync>) -> Self {
        ConnectGuard { key, _place: place }
    }

    /// Tells the limit.
    pub(crate) fn key(&self) -> u64 {
        self.key
    }
}

impl fmt::Debug for ConnectGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectGuard")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
