//! The peer to connect to, and how.
