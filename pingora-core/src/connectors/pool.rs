//! Idle upstream connections, kept per worker.
