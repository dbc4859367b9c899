//! TLS to a peer: what the backend is told of it, and how long it may take.

use pingora_error::{Error, ErrorType::TLSHandshakeTimedout, Result};

use super::ConnectorOptions;
use crate::protocols::tls::connectors::TlsConnector;
use crate::protocols::tls::options::{ClientOptions, Handshake};
use crate::protocols::tls::Layer;
use crate::protocols::{ALPN, IO};
use crate::upstreams::peer::Peer;

/// A client with these options. Files that cannot be read are told in the log, and by every connection that would
/// need them.
pub(super) fn client(options: ConnectorOptions) -> TlsConnector {
    TlsConnector::new(ClientOptions {
        ca_file: options.ca_file,
        cert_key_file: options.cert_key_file,
        debug_ssl_keylog: options.debug_ssl_keylog,
    })
}

/// Makes a TLS connection to `peer` over `stream`, with `alpn_override` in place of the peer's protocols if given.
///
/// # Errors
/// `InvalidCert` when the peer's certificate is refused, or ours cannot be used; `TLSHandshakeTimedout` when the
/// handshake takes longer than the peer allows; `TLSHandshakeFailure` when anything else fails, as it always does
/// when no TLS backend is compiled in.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub(super) async fn connect<T, P>(
    stream: T,
    peer: &P,
    alpn_override: Option<ALPN>,
    tls_ctx: &TlsConnector,
) -> Result<Layer<T>>
where
    T: IO,
    P: Peer + Send + Sync,
{
    let options = peer.get_peer_options();
    let handshake = Handshake {
        address: peer.address(),
        sni: peer.sni(),
        verify_cert: peer.verify_cert(),
        verify_hostname: peer.verify_hostname(),
        alternative_cn: peer.alternative_cn().map(String::as_str),
        ca: peer.get_ca(),
        client_cert_key: peer.get_client_cert_key(),
        curves: options.and_then(|o| o.curves.as_deref()),
        second_keyshare: options.is_none_or(|o| o.second_keyshare),
        alpn: alpn_override.as_ref().or(peer.get_alpn()),
        complete_hook: peer.upstream_tls_handshake_complete_hook(),
    };
    let connecting = tls_ctx.connect(stream, &handshake);
    let Some(limit) = peer.tls_handshake_timeout() else {
        return connecting.await;
    };
    tokio::time::timeout(limit, connecting)
        .await
        .unwrap_or_else(|_| {
            let why = format!("the TLS handshake took longer than {limit:?}");
            Error::e_explain(TLSHandshakeTimedout, why)
        })
}
