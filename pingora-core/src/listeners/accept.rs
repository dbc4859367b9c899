//! Accepting connections and handing them to workers.
