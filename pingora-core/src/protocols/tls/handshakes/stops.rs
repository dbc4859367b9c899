//! The end of a request that has come in part when the server stops.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;
use crate::protocols::http::v1::server::HttpSession;
use crate::protocols::UniqueID;
use crate::shutdown::{Registry, Stage};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A client whose bytes come as the test says: connected to `server` by a relay, which after the handshake passes on
/// what is sent to the returned channel, and hands back what the client sends.
struct Cut {
    client: Stream,
    session: HttpSession,
    from_client: mpsc::Receiver<Vec<u8>>,
    to_server: mpsc::Sender<Vec<u8>>,
}

impl Cut {
    async fn new() -> Self {
        let authority = Authority::new();
        let server = Server::with(&authority.ordinary()).await;
        let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (read, mut from_client) = mpsc::channel::<Vec<u8>>(8);
        let (to_server, mut write) = mpsc::channel::<Vec<u8>>(8);
        let address = server.address();
        let peer = HttpPeer::new(relay.local_addr().unwrap(), true, "name.example".into());
        tokio::spawn(async move {
            let (near, _) = relay.accept().await.unwrap();
            let far = TcpStream::connect(address).await.unwrap();
            let (mut from_near, mut to_near) = near.into_split();
            let (mut from_far, mut to_far) = far.into_split();
            let answers = tokio::io::copy(&mut from_far, &mut to_near);
            let asks = async {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(n @ 1..) = from_near.read(&mut bytes).await {
                    read.send(bytes[..n].to_vec()).await.unwrap();
                }
            };
            let parts = async {
                while let Some(part) = write.recv().await {
                    to_far.write_all(&part).await.unwrap();
                }
            };
            let _ = tokio::join!(answers, asks, parts);
        });
        let connector = trusting(&authority);
        let mut meeting = pin!(server.meet(&connector, &peer));
        let (client, accepted) = loop {
            tokio::select! {
                met = &mut meeting => break met,
                Some(bytes) = from_client.recv() => to_server.send(bytes).await.unwrap(),
            }
        };
        Cut {
            client: client.unwrap(),
            session: HttpSession::new(accepted.unwrap()),
            from_client,
            to_server,
        }
    }

    /// The records of a request.
    async fn ask(&mut self) -> Vec<u8> {
        self.client.write_all(GET).await.unwrap();
        self.client.flush().await.unwrap();
        self.from_client.recv().await.unwrap()
    }

    /// Has the TLS library of the server take a part of a record, of which it shows nothing.
    async fn take_part(&mut self, part: &[u8]) {
        self.to_server.send(part.to_vec()).await.unwrap();
        let socket = |session: &HttpSession| {
            let socket = crate::protocols::tls::transport(&**session.stream()).unwrap();
            socket.is_within_record() && !crate::protocols::l4::ext::has_unread(socket.id())
        };
        poll_fn(|cx| {
            assert!(self.session.poll_read_request(cx).is_pending());
            if socket(&self.session) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

/// A byte has come, though of what it says nobody knows anything.
#[tokio::test]
async fn a_part_of_a_record_is_a_request_that_has_begun() {
    for part in [1, 5, 6, 20] {
        let mut cut = Cut::new().await;
        let records = cut.ask().await;
        let registry = Registry::new(1);
        cut.session.wait_in(&registry, Duration::from_secs(1000));
        cut.take_part(&records[..part]).await;
        registry.advance(Stage::Closing);
        let there = poll_fn(|cx| Poll::Ready(cut.session.poll_has_request(cx))).await;
        assert!(there, "{part}");
        assert!(futures::poll!(pin!(cut.session.read_request())).is_pending());
        cut.to_server.send(records[part..].to_vec()).await.unwrap();
        let read = cut.session.read_request().await.unwrap();
        assert_eq!(read, Some(GET.len()), "{part}");
    }
}

#[tokio::test]
async fn between_records_nothing_has_begun() {
    let mut cut = Cut::new().await;
    let records = cut.ask().await;
    cut.to_server.send(records).await.unwrap();
    let registry = Registry::new(1);
    cut.session.wait_in(&registry, Duration::from_secs(1000));
    assert_eq!(cut.session.read_request().await.unwrap(), Some(GET.len()));
    let socket = crate::protocols::tls::transport(&**cut.session.stream()).unwrap();
    assert!(!socket.has_more());
    // And a part of one that nobody completes has its time, and no more.
    let mut cut = Cut::new().await;
    let records = cut.ask().await;
    cut.session.wait_in(&registry, Duration::from_millis(10));
    cut.take_part(&records[..7]).await;
    registry.advance(Stage::Closing);
    assert_eq!(cut.session.read_request().await.unwrap(), None);
}
