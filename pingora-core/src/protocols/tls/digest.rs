//! What is known about a TLS session.
