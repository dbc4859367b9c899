//! The socket under a connection, with or without TLS.

use std::io;

use super::Layer;
use crate::protocols::l4::stream::Stream as L4Stream;
use crate::protocols::{Stream, IO};

/// The socket at the bottom of a connection, be it plain or with TLS; `None` for connections of other kinds.
pub(crate) fn transport(stream: &dyn IO) -> Option<&L4Stream> {
    let stream = stream.as_any();
    match stream.downcast_ref::<L4Stream>() {
        Some(plain) => Some(plain),
        None => stream.downcast_ref::<Layer<L4Stream>>()?.transport(),
    }
}

/// Has the socket at the bottom tell when a library that reads it has a part of a record.
#[allow(dead_code)] // Not asked by the backend that never does a handshake.
pub(crate) fn follow_records(io: &mut impl IO) {
    if let Some(socket) = io.as_any_mut().downcast_mut::<L4Stream>() {
        socket.follow_records();
    }
}

/// Moves an idle connection, of which [`transport`] knows the socket, to the reactor of the calling task.
///
/// # Errors
/// When the system refuses, or the connection is of another kind; it is then closed.
///
/// # Panics
/// When called outside a tokio runtime.
pub(crate) fn reregister(stream: Stream) -> io::Result<Stream> {
    let stream = match stream.into_any().downcast::<L4Stream>() {
        Ok(mut plain) => {
            plain.reregister()?;
            return Ok(plain);
        }
        Err(other) => other,
    };
    let Ok(mut tls) = stream.downcast::<Layer<L4Stream>>() else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    if let Some(socket) = tls.transport_mut() {
        socket.reregister()?;
    }
    Ok(tls)
}
