//! HTTP/1.1 sessions to a peer.
