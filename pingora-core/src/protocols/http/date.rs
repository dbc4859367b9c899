//! The Date field.
