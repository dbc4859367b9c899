//! A custom session from a downstream.
