//! The backend that stands in when no TLS feature is on: it has the types, and refuses to connect.
