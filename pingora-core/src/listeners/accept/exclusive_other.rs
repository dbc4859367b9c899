//! `exclusive` needs `EPOLLEXCLUSIVE`, which is Linux's.

use std::convert::Infallible;
use std::sync::Arc;

use super::acceptor::{Acceptor, Connect};

/// There are none.
pub(super) struct Threads(Infallible);

impl Threads {
    pub(super) async fn end(self) {
        match self.0 {}
    }
}

/// # Errors
/// Always.
pub(super) fn start<F: Connect>(acceptor: &Arc<Acceptor<F>>) -> Result<Threads, String> {
    let bind = &acceptor.listening.bind;
    Err(format!(
        "cannot listen on {bind} by the accept strategy exclusive: this system has no EPOLLEXCLUSIVE"
    ))
}
