//! Being told when connections begin and end.

use std::fmt::Debug;

/// Is told when a connection is made and when it ends.
pub trait Tracing: Send + Sync + Debug {
    /// The connection was made.
    fn on_connected(&self);

    /// The connection ended.
    fn on_disconnected(&self);

    /// A copy of this for another connection.
    fn boxed_clone(&self) -> Box<dyn Tracing>;
}

/// A [`Tracing`] of any type.
#[derive(Debug)]
pub struct Tracer(pub Box<dyn Tracing>);

impl Clone for Tracer {
    fn clone(&self) -> Self {
        Tracer(self.0.boxed_clone())
    }
}
