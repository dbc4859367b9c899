//! What is known about a connection: addresses, timing, TLS.
