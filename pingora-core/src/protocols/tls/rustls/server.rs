//! Handshakes as the server.

use std::time::Instant;

use pingora_error::{Error, Result};
use pingora_rustls::TlsAcceptor;
use rustls::server::Acceptor as HelloAcceptor;
use tokio_rustls::LazyConfigAcceptor;

use super::chooser::{Choice, ConfigChooser};
use super::errors::failed;
use super::listeners::Acceptor;
use super::{TlsRef, TlsStream};
use crate::protocols::tls::callbacks::TlsAccept;
use crate::protocols::tls::follow_records;
use crate::protocols::IO;

/// Does the handshake over `io`.
///
/// # Errors
/// `InvalidCert` when the client's certificate is refused, `TLSHandshakeFailure` when anything else fails.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn handshake<S: IO>(acceptor: &Acceptor, io: S) -> Result<TlsStream<S>> {
    accept(&acceptor.acceptor, None, io).await
}

/// Does the handshake over `io`, and calls back in its course.
///
/// With this backend the certificate callback can look at the name that the client asks for; certificates
/// are chosen by a [resolver](super::listeners::TlsSettings::set_cert_resolver).
///
/// # Errors
/// As [`handshake`].
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn handshake_with_callback<S: IO>(
    acceptor: &Acceptor,
    io: S,
    callbacks: &(dyn TlsAccept + Send + Sync),
) -> Result<TlsStream<S>> {
    accept(&acceptor.acceptor, Some(callbacks), io).await
}

/// Does the handshake over `io` with the configuration that `chooser` chooses.
pub(super) async fn accept_chosen<S: IO>(
    chooser: &dyn ConfigChooser,
    mut io: S,
) -> Result<TlsStream<S>> {
    follow_records(&mut io);
    let begun = Instant::now();
    let fault = |e| Error::into_down(failed(e));
    let hello = LazyConfigAcceptor::new(HelloAcceptor::default(), io);
    let hello = hello.await.map_err(fault)?;
    let choice = chooser.choose(&hello.client_hello());
    let chosen = match choice {
        Choice::Now(chosen) => chosen,
        Choice::Later(choice) => choice.await,
    };
    let tls = hello.into_stream(chosen.config.clone());
    let tls = tls.await.map_err(fault)?;
    let session = TlsRef::agreed(tls.get_ref().1, tls.get_ref().1.server_name());
    let extension = chooser.complete(&chosen, &session);
    Ok(TlsStream::established(
        tls.into(),
        session,
        extension,
        begun,
    ))
}

pub(super) async fn accept<S: IO>(
    acceptor: &TlsAcceptor,
    callbacks: Option<&(dyn TlsAccept + Send + Sync)>,
    mut io: S,
) -> Result<TlsStream<S>> {
    follow_records(&mut io);
    let begun = Instant::now();
    let fault = |e| Error::into_down(failed(e));
    let Some(callbacks) = callbacks else {
        let tls = acceptor.accept(io).await.map_err(fault)?;
        let session = TlsRef::agreed(tls.get_ref().1, tls.get_ref().1.server_name());
        return Ok(TlsStream::established(tls.into(), session, None, begun));
    };
    let hello = LazyConfigAcceptor::new(HelloAcceptor::default(), io);
    let hello = hello.await.map_err(fault)?;
    let mut asked = TlsRef::asked_for(hello.client_hello().server_name());
    callbacks.certificate_callback(&mut asked).await;
    let tls = hello.into_stream(acceptor.config().clone());
    let tls = tls.await.map_err(fault)?;
    let session = TlsRef::agreed(tls.get_ref().1, asked.server_name());
    let extension = callbacks.handshake_complete_callback(&session).await;
    Ok(TlsStream::established(
        tls.into(),
        session,
        extension,
        begun,
    ))
}
