//! The end of a process whose server cannot start or go on.

use super::daemon;
use crate::services::failure::Failure;

/// Writes the failure to the log, or to standard error when nothing logs errors, and tells the command that started
/// the daemon.
pub(super) fn report(failure: &Failure) {
    if log::log_enabled!(log::Level::Error) {
        log::error!("{failure}");
        log::logger().flush();
    } else {
        eprintln!("{failure}");
    }
    daemon::tell_failure(&failure.to_string());
}

/// Ends the process with status 1, after a failure that was reported.
pub(super) fn failed() -> ! {
    daemon::remove_pid_file();
    std::process::exit(1)
}
