//! Connecting the transport: TCP, Unix sockets, HTTP CONNECT proxies.
