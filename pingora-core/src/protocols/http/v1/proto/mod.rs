//! HTTP/1.1 without I/O (RFC 9112).
