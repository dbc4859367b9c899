//! Services that accept connections.
