//! Binding TCP and Unix sockets.
