//! HTTP CONNECT to a proxy on the way to a peer.
