//! The end of a process that cannot go on.

use super::daemon;

/// Ends the process with status 1, after one line on the log, or on standard error when nothing
/// logs errors.
pub(crate) fn fatal(message: &str) -> ! {
    if log::log_enabled!(log::Level::Error) {
        log::error!("{message}");
        log::logger().flush();
    } else {
        eprintln!("{message}");
    }
    daemon::tell_failure(message);
    daemon::remove_pid_file();
    std::process::exit(1)
}
