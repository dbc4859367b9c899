//! What becomes of a client in or before its handshake when the endpoint closes, or when it takes too long.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::listeners::{
    accepting, Endpoint, ListenerConfig, Listeners, PreTlsCallback, PreTlsProcess,
};

/// Longer than any test takes.
const NEVER: Duration = Duration::from_secs(1000);

/// An endpoint where handshakes may take this long, and this long once it closes.
async fn endpoint(
    pair: Option<&Pair>,
    hook: Option<PreTlsCallback>,
    limits: [Duration; 2],
) -> Endpoint {
    let mut config = ListenerConfig::tcp("127.0.0.1:0").tls_handshake_timeout(limits[0]);
    if let Some(pair) = pair {
        config = config.tls(TlsSettings::intermediate(&pair.cert, &pair.key).unwrap());
    }
    let mut listeners = Listeners::new();
    listeners.add_listener(config);
    if let Some(hook) = hook {
        listeners.set_pre_tls_callback(hook);
    }
    let settings = accepting::Settings {
        shutdown_timeout: limits[1],
        ..accepting::Settings::current()
    };
    let endpoints = settings.scope(listeners.listen(None, 1)).await;
    endpoints.unwrap().remove(0)
}

/// A client that has said nothing, and what serves it.
async fn silent(endpoint: &Endpoint) -> (TcpStream, impl Future<Output = Option<Stream>>) {
    let client = TcpStream::connect(endpoint.address()).await.unwrap();
    let accepted = endpoint.accept_one().unwrap();
    let entrance = endpoint.entrance.clone();
    (client, async move { entrance.pass(accepted).await })
}

#[tokio::test]
async fn a_silent_client_ends_with_the_endpoint() {
    let authority = Authority::new();
    let pair = authority.ordinary();
    let endpoint = endpoint(Some(&pair), None, [NEVER, NEVER]).await;
    let (mut client, served) = silent(&endpoint).await;
    let mut served = pin!(served);
    assert!(futures::poll!(&mut served).is_pending());
    endpoint.entrance.close();
    assert!(served.await.is_none());
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    // And so does one that is accepted later.
    let (mut client, served) = silent(&endpoint).await;
    assert!(served.await.is_none());
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

/// The endpoint closes when so many bytes of the client's first message have arrived.
#[tokio::test]
async fn a_client_that_began_is_served() {
    const ALL: usize = usize::MAX;
    let authority = Authority::new();
    let pair = authority.ordinary();
    for (early, waiting) in [
        (1, false),
        (1, true),
        (200, true),
        (ALL, false),
        (ALL, true),
    ] {
        let endpoint = endpoint(Some(&pair), None, [NEVER, NEVER]).await;
        let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = relay.local_addr().unwrap();
        let between = async {
            let (mut near, _) = relay.accept().await.unwrap();
            let mut hello = vec![0; 16 * 1024];
            let n = near.read(&mut hello).await.unwrap();
            hello.truncate(n);
            let (mut far, served) = silent(&endpoint).await;
            let mut served = pin!(served);
            if waiting {
                assert!(futures::poll!(&mut served).is_pending());
            }
            let (first, rest) = hello.split_at(early.min(n));
            far.write_all(first).await.unwrap();
            endpoint.entrance.close();
            let through = async {
                far.write_all(rest).await.unwrap();
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            };
            tokio::select! {
                served = &mut served => served.expect("it is served"),
                _ = through => panic!("the connection ended"),
            }
        };
        let peer = HttpPeer::new(address, true, "name.example".into());
        let connector = trusting(&authority);
        let connected = connector.new_stream(&peer);
        let mut connected = pin!(connected);
        tokio::select! {
            // A client may think itself connected before the server does.
            _served = between => {}
            failed = async {
                let failed = connected.as_mut().await.err();
                match failed {
                    Some(e) => e,
                    None => std::future::pending().await,
                }
            } => panic!("{early} {waiting}: {failed}"),
        }
    }
}

#[tokio::test]
async fn a_client_that_began_has_a_limit() {
    let authority = Authority::new();
    let pair = authority.ordinary();
    let soon = Duration::from_millis(10);
    for (limits, close) in [
        ([NEVER, soon], true),
        ([soon, NEVER], false),
        ([soon, NEVER], true),
    ] {
        let endpoint = endpoint(Some(&pair), None, limits).await;
        let (mut client, served) = silent(&endpoint).await;
        client.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        if close {
            endpoint.entrance.close();
        }
        assert!(served.await.is_none());
    }
}

/// Waits for ever, where a hook might wait for a header that does not come.
struct Stuck;

#[async_trait]
impl PreTlsProcess for Stuck {
    async fn process(&self, _: &mut L4Stream) -> Result<()> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn what_comes_before_the_handshake_has_a_limit() {
    let authority = Authority::new();
    let pair = authority.ordinary();
    let soon = Duration::from_millis(10);
    for pair in [None, Some(&pair)] {
        for (limits, close) in [([NEVER, soon], true), ([soon, NEVER], false)] {
            let endpoint = endpoint(pair, Some(Arc::new(Stuck)), limits).await;
            let (mut client, served) = silent(&endpoint).await;
            if close {
                endpoint.entrance.close();
            }
            assert!(served.await.is_none());
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        }
    }
}
