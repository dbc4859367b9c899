//! Signals that come before anybody listens for them.
//!
//! By default they end the process. From [`hold`] on they are remembered, and whoever listens asks once whether one came
//! before.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGHUP, SIGUSR1};
use signal_hook::flag;

static HANGUP: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
static REOPEN: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Keeps SIGHUP and SIGUSR1 from ending a process that is going to serve.
pub fn hold() {
    let held = |signal, came: &Arc<AtomicBool>| flag::register(signal, came.clone());
    let held: io::Result<_> = held(SIGHUP, &HANGUP).and_then(|_| held(SIGUSR1, &REOPEN));
    if let Err(e) = held {
        log::error!("SIGHUP and SIGUSR1 may end the process until it serves: {e}");
    }
}

/// Tells, once, whether a SIGHUP came.
pub(crate) fn hung_up() -> bool {
    HANGUP.swap(false, Ordering::Relaxed)
}

/// Tells, once, whether a SIGUSR1 came.
pub(crate) fn reopened() -> bool {
    REOPEN.swap(false, Ordering::Relaxed)
}
