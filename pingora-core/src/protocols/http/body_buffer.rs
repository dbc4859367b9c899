//! A bounded copy of a body, for retries.
