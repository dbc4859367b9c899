//! Why a transport connection was not made.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::SocketAddr as InetAddr;

use pingora_error::{
    Error,
    ErrorType::{self, ConnectError, ConnectNoRoute, ConnectRefused, ConnectTimedout},
};

/// Facts about a connection that could not be made.
pub trait ConnectErrorExt {
    /// The local address that was connected from, or `None` when connecting did not come so far or this error
    /// is about something else.
    fn connect_local_addr(&self) -> Option<InetAddr>;
}

impl ConnectErrorExt for Error {
    fn connect_local_addr(&self) -> Option<InetAddr> {
        self.root_cause()
            .downcast_ref::<ConnectFailure>()?
            .local_addr
    }
}

/// Returns whether this machine, and not the peer, is why connecting failed: no descriptor (`EMFILE`, `ENFILE`) or memory
/// (`ENOBUFS`, `ENOMEM`) was left for a connection.
///
/// Such a failure says nothing about the peer. A local address or port that is missing (`EADDRNOTAVAIL`) is none of these:
/// it depends on the peer's address, as where this machine has no IPv6, and another peer may do.
pub fn is_local_shortage(e: &Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(e.root_cause());
    while let Some(e) = cause {
        let number = e.downcast_ref().and_then(io::Error::raw_os_error);
        if let Some(number) = number {
            return LOCAL_SHORTAGES.contains(&number);
        }
        cause = e.source();
    }
    false
}

const LOCAL_SHORTAGES: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];

/// Why connecting failed, and from where.
#[derive(Debug)]
struct ConnectFailure {
    error: io::Error,
    local_addr: Option<InetAddr>,
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)?;
        if let Some(addr) = &self.local_addr {
            write!(f, " (from {addr})")?;
        }
        Ok(())
    }
}

impl StdError for ConnectFailure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

/// The error of a connection to `addr` that failed with `error`.
pub(crate) fn connect_error(
    error: io::Error,
    addr: &InetAddr,
    local_addr: Option<InetAddr>,
) -> Box<Error> {
    let etype = error_type(&error);
    let failure = ConnectFailure { error, local_addr };
    Error::because(etype, format!("connecting to {addr}"), failure)
}

fn error_type(e: &io::Error) -> ErrorType {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => ConnectRefused,
        io::ErrorKind::TimedOut => ConnectTimedout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ConnectNoRoute,
        _ => ConnectError,
    }
}

#[cfg(test)]
mod tests {
    use pingora_error::ErrorType::SocketError;

    use super::*;

    #[test]
    fn a_shortage_of_this_machine_is_told_from_a_fault_of_the_peer() {
        let os = io::Error::from_raw_os_error;
        let addr = "192.0.2.1:80".parse().unwrap();
        for (number, own) in [
            (libc::EMFILE, true),
            (libc::ENFILE, true),
            (libc::ENOBUFS, true),
            (libc::ENOMEM, true),
            (libc::EADDRNOTAVAIL, false),
            (libc::ECONNREFUSED, false),
            (libc::ECONNRESET, false),
        ] {
            let made = Error::because(SocketError, "making a socket", os(number));
            assert_eq!(is_local_shortage(&made), own, "{number}");
            let connecting = connect_error(os(number), &addr, None);
            assert_eq!(is_local_shortage(&connecting), own, "{number}");
            assert_eq!(is_local_shortage(&connecting.more_context("x")), own);
        }
        let late = io::Error::new(io::ErrorKind::TimedOut, "late");
        assert!(!is_local_shortage(&connect_error(late, &addr, None)));
        assert!(!is_local_shortage(&Error::new(ConnectError)));
    }
}
