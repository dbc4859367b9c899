//! `exclusive` needs `EPOLLEXCLUSIVE`, which is Linux's.

use std::sync::Arc;

use super::acceptor::{Acceptor, Connect};
use crate::shutdown::watch::ShutdownWatch;

/// # Errors
/// Always.
pub(super) async fn run<F: Connect>(
    acceptor: &Arc<Acceptor<F>>,
    _shutdown: ShutdownWatch,
) -> Result<(), String> {
    let bind = &acceptor.listening.bind;
    Err(format!(
        "cannot listen on {bind} by the accept strategy exclusive: this system has no EPOLLEXCLUSIVE"
    ))
}
