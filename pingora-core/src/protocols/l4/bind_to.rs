//! The local address of outgoing connections.

use std::net::SocketAddr as InetAddr;

use pingora_error::{Error, ErrorType::SocketError, Result};

/// The local address and ports to connect from.
#[derive(Clone, Debug, Default)]
pub struct BindTo {
    /// The local address; its port is usually 0, for any.
    pub addr: Option<InetAddr>,
    port_range: Option<(u16, u16)>,
    fallback: bool,
}

impl BindTo {
    /// From this address, and any port of it.
    pub(crate) fn at(addr: InetAddr) -> Self {
        BindTo {
            addr: Some(addr),
            ..BindTo::default()
        }
    }

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

    /// Sets whether to go on without the port range when it has no free port or the system knows no ranges.
    pub fn set_fallback(&mut self, fallback: bool) {
        self.fallback = fallback;
    }

    /// Returns whether there is a port range that connecting may go on without.
    pub fn will_fallback(&self) -> bool {
        self.fallback && self.port_range.is_some()
    }
}
