//! A custom session to an upstream.
