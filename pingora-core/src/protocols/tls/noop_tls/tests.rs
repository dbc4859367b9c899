use pingora_error::{ErrorSource, ErrorType::TLSHandshakeFailure};
use tokio::net::TcpListener;

use super::listeners::TlsSettings;
use crate::connectors::TransportConnector;
use crate::listeners::Listeners;
use crate::upstreams::peer::HttpPeer;

#[tokio::test]
async fn connecting_is_refused() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let peer = HttpPeer::new(address, true, "name.example".into());
    let connector = TransportConnector::new(None);
    connector.prefer_h1(&peer);
    let e = connector.new_stream(&peer).await.unwrap_err();
    assert_eq!(e.etype(), &TLSHandshakeFailure);
    assert_eq!(e.esource(), &ErrorSource::Upstream);
    let text = e.to_string();
    assert!(text.contains("name.example"), "{text}");
    assert!(text.contains("no TLS backend is compiled in"), "{text}");
}

#[tokio::test]
async fn listening_is_refused() {
    let mut listeners = Listeners::new();
    assert!(listeners.add_tls("127.0.0.1:0", "cert", "key").is_err());
    assert!(Listeners::tls("127.0.0.1:0", "cert", "key").is_err());
    assert!(listeners.addresses().is_empty());
    listeners.add_tls_with_settings("127.0.0.1:0", None, TlsSettings);
    let text = listeners.listen(None, 1).await.err().unwrap();
    assert!(text.contains("127.0.0.1:0 with TLS: "), "{text}");
    assert!(text.contains("no TLS backend"), "{text}");
}
