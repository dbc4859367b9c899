//! HTTP request and response header types.
