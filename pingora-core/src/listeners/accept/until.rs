//! The end of an endpoint's acceptors.

use tokio::sync::watch;

/// Tells the acceptors of an endpoint to end, and why; none while they are to go on.
pub(in crate::listeners) type Until = watch::Receiver<Option<End>>;

/// The reason why acceptors end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::listeners) enum End {
    /// The endpoint closes.
    Close,
    /// Others are to accept at the same sockets.
    HandBack,
}
