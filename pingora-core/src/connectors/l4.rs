//! The transport connection to a peer.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::SocketAddr as InetAddr;

use async_trait::async_trait;
use pingora_error::{
    Error,
    ErrorType::{self, ConnectError, ConnectNoRoute, ConnectRefused, ConnectTimedout, SocketError},
    Result,
};

use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::l4::stream::Stream;

/// Makes transport connections in place of the connector, such as ones that are not sockets.
#[async_trait]
pub trait Connect: fmt::Debug {
    /// Connects to `addr`.
    async fn connect(&self, addr: &SocketAddr) -> Result<Stream>;
}

/// The local address and ports to connect from.
#[derive(Clone, Debug, Default)]
pub struct BindTo {
    /// The local address; its port is usually 0, for any.
    pub addr: Option<InetAddr>,
    port_range: Option<(u16, u16)>,
    fallback: bool,
}

impl BindTo {
    /// Limits the local port to this range, both ends included (`IP_LOCAL_PORT_RANGE`, Linux 6.3); `None` and
    /// `(0, 0)` lift the limit.
    ///
    /// # Errors
    /// `SocketError` when the range is empty, or begins at 0.
    pub fn set_port_range(&mut self, range: Option<(u16, u16)>) -> Result<()> {
        match range {
            None | Some((0, 0)) => self.port_range = None,
            Some((low, high)) if low > high || low == 0 => {
                return Error::e_explain(
                    SocketError,
                    format!("not a range of ports: {low} to {high}"),
                )
            }
            range => self.port_range = range,
        }
        Ok(())
    }

    /// The first and the last local port to use, or `None` for any.
    pub fn port_range(&self) -> Option<(u16, u16)> {
        self.port_range
    }

    /// Whether to go on without the port range when it has no free port or the system knows no ranges.
    pub fn set_fallback(&mut self, fallback: bool) {
        self.fallback = fallback;
    }

    /// Whether there is a port range that connecting may go on without.
    pub fn will_fallback(&self) -> bool {
        self.fallback && self.port_range.is_some()
    }
}

/// Facts about a connection that could not be made.
pub trait ConnectErrorExt {
    /// The local address that was connected from, or `None` when connecting did not come so far or this error
    /// is about something else.
    fn connect_local_addr(&self) -> Option<InetAddr>;
}

impl ConnectErrorExt for Error {
    fn connect_local_addr(&self) -> Option<InetAddr> {
        let mut cause = self.cause.as_deref()? as &(dyn StdError + 'static);
        loop {
            if let Some(failure) = cause.downcast_ref::<ConnectFailure>() {
                return failure.local_addr;
            }
            // A context that was added wraps the error in another one.
            cause = match cause.downcast_ref::<Box<Error>>() {
                Some(inner) => inner.cause.as_deref()?,
                None => cause.downcast_ref::<Error>()?.cause.as_deref()?,
            };
        }
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

pub(crate) fn error_type(e: &io::Error) -> ErrorType {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => ConnectRefused,
        io::ErrorKind::TimedOut => ConnectTimedout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ConnectNoRoute,
        _ => ConnectError,
    }
}
