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
