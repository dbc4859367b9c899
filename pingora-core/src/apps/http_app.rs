//! A plain HTTP server as an application.
