//! HTTP/2 (RFC 9113), over the `h2` crate.

use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, SendStream};
use pingora_error::ErrorType::{H2Error, WriteTimedout};
use pingora_error::{BError, Error, Result};

pub mod client;
pub(crate) mod conn_state;
pub(crate) mod guard;
mod out;
mod padding;
pub mod server;

use out::{Out, Sent};

/// Writes a piece of a body and waits until it is handed over: as much of it at a time as flow control lets.
/// `end` makes it the last.
///
/// # Errors
/// `WriteTimedout` when the peer opened its window for nothing in `write_timeout`; `H2Error` when the
/// stream or the connection has ended.
///
/// # Cancel safety
/// None: how much of the piece was handed over is lost with the future.
pub async fn write_body(
    writer: &mut SendStream<Bytes>,
    data: Bytes,
    end: bool,
    write_timeout: Option<Duration>,
) -> Result<()> {
    let mut out = Out::default();
    out.push(data);
    if end {
        out.end(None);
    }
    let all = std::future::poll_fn(|cx| loop {
        match out.poll_send(writer, cx) {
            std::task::Poll::Ready(Ok(Sent::All)) => return std::task::Poll::Ready(Ok(())),
            std::task::Poll::Ready(Ok(Sent::Part)) => {}
            std::task::Poll::Ready(Err(e)) => return std::task::Poll::Ready(Err(e)),
            std::task::Poll::Pending => return std::task::Poll::Pending,
        }
    });
    match write_timeout {
        None => all.await,
        Some(timeout) => match tokio::time::timeout(timeout, all).await {
            Ok(sent) => sent,
            Err(_) => Error::e_explain(
                WriteTimedout,
                format!("a piece of a body was not taken for {timeout:?}"),
            ),
        },
    }
}

/// The reason by which a peer reset a stream, where it says something of the request and not of the connection: a call
/// of gRPC gets its status from it.
fn told_by_peer(e: &Error) -> Option<Reason> {
    let e = e.root_cause().downcast_ref::<h2::Error>()?;
    let told = [
        Reason::CANCEL,
        Reason::ENHANCE_YOUR_CALM,
        Reason::INADEQUATE_SECURITY,
    ];
    e.reason()
        .filter(|reason| e.is_reset() && e.is_remote() && told.contains(reason))
}

/// Returns what a failure of a stream is, as an error that has it as its cause.
pub(crate) fn stream_error(context: &'static str, e: h2::Error) -> BError {
    // The transport is gone, and nobody waits at its other end.
    let etype = if e.is_io() {
        pingora_error::ErrorType::ConnectionClosed
    } else {
        H2Error
    };
    Error::because(etype, context, e)
}
