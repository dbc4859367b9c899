//! Small helpers.
