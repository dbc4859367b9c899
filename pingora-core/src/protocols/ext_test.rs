//! The I/O traits for in-memory streams, for tests.
