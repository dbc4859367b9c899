use super::*;
use crate::apps::first_bytes::tests::App;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

/// Returns the protocol of a client that sends this and no more.
async fn spoken(begin: &[u8], h2c: bool) -> Option<Protocol> {
    let (mut client, server) = UnixStream::pair().unwrap();
    client.write_all(begin).await.unwrap();
    client.shutdown().await.unwrap();
    let server: crate::protocols::l4::stream::Stream = server.into();
    let mut stream: Stream = Box::new(server);
    let (_tell, shutdown) = tokio::sync::watch::channel(false);
    protocol(&App::new(h2c), &mut stream, &shutdown).await
}

#[tokio::test]
async fn by_how_a_client_begins() {
    let http1 = Some(Protocol::Http1);
    for (begin, expected) in [
        (&PREFACE[..], Some(Protocol::Http2)),
        (&PREFACE[..20], http1),
        (b"PRI /a HTTP/1.1\r\nHost: a\r\n\r\n", http1),
        (b"GET / HTTP/1.0\r\n\r\n", http1),
        (b"GE", http1),
        (b"", http1),
    ] {
        assert_eq!(spoken(begin, true).await, expected, "{begin:?}");
        assert_eq!(spoken(begin, false).await, http1, "{begin:?}");
    }
}
