//! The seam for connectors of a protocol of the user's own.
