//! Filters that see a connection before anything is read from it.
