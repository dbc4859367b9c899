//! Tests of both ends of a handshake, which hold for every backend.

#[cfg_attr(feature = "rustls", path = "rustls.rs")]
#[cfg_attr(feature = "openssl_derived", path = "openssl.rs")]
mod backend;
#[path = "../../../../tests/tls_certs/mod.rs"]
pub(crate) mod certs;
mod clients;
mod ends;
mod kept;
mod servers;
mod stops;

use std::net::SocketAddr;
use std::sync::Arc;

use pingora_error::Result;
use tokio::net::TcpListener;

use crate::connectors::{ConnectorOptions, TransportConnector};
use crate::listeners::tls::{Acceptor, TlsSettings};
use crate::protocols::l4::stream::Stream as L4Stream;
use crate::protocols::Stream;
use crate::upstreams::peer::HttpPeer;
pub(crate) use backend::no_ca;
use certs::{Authority, Leaf, Pair};

/// A server that does handshakes, one at a time.
struct Server {
    socket: TcpListener,
    acceptor: Arc<Acceptor>,
}

impl Server {
    async fn new(settings: TlsSettings) -> Self {
        Server {
            socket: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            acceptor: Arc::new(settings.try_build().unwrap()),
        }
    }

    async fn with(pair: &Pair) -> Self {
        Server::new(TlsSettings::intermediate(&pair.cert, &pair.key).unwrap()).await
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    async fn accept(&self) -> Result<Stream> {
        let (tcp, peer) = self.socket.accept().await.unwrap();
        let tls = self.acceptor.tls_handshake(L4Stream::accepted(tcp, peer));
        Ok(Box::new(tls.await?))
    }

    /// Both ends of a connection to `peer`, which is this server.
    async fn meet(
        &self,
        connector: &TransportConnector,
        peer: &HttpPeer,
    ) -> (Result<Stream>, Result<Stream>) {
        tokio::join!(connector.new_stream(peer), self.accept())
    }

    /// The same where both ends agree.
    async fn agree(&self, connector: &TransportConnector, peer: &HttpPeer) -> (Stream, Stream) {
        let (client, server) = self.meet(connector, peer).await;
        (client.unwrap(), server.unwrap())
    }
}

/// The server as a peer named `name.example`.
fn peer(server: &Server) -> HttpPeer {
    HttpPeer::new(server.address(), true, "name.example".into())
}

/// A connector that trusts `authority`.
fn trusting(authority: &Authority) -> TransportConnector {
    TransportConnector::new(Some(options(authority)))
}

fn options(authority: &Authority) -> ConnectorOptions {
    ConnectorOptions {
        ca_file: Some(authority.file()),
        ..ConnectorOptions::new(8)
    }
}

/// A certificate for tests of what does not do a handshake.
pub(crate) fn some_cert_key() -> crate::utils::tls::CertKey {
    backend::cert_key(&Authority::new().ordinary())
}
