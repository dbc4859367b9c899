//! Custom messages beside a request and its response, by filters and by the application.

use super::common::custom::{custom_peer, read_frame, write_frame};
use super::common::*;
use super::pairs::{for_client, Speaks};
use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::server::configuration::ShutdownPolicy;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;
use pingora_proxy::{ProxyHttp, Session};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// Writes what the filters see, and whether it is the last hop, into each message; "drop" goes no further.
struct Marks {
    peer: HttpPeer,
    own: bool,
}

fn marked(message: &Bytes, by: &str, last: bool) -> Option<Bytes> {
    (message != "drop").then(|| {
        [message, format!(" {by} {last}").as_bytes()]
            .concat()
            .into()
    })
}

#[async_trait]
impl ProxyHttp for Marks {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }

    async fn custom_forwarding(
        &self,
        _: &mut Session,
        _: &mut (),
        up: Option<mpsc::Sender<Bytes>>,
        down: mpsc::Sender<Bytes>,
    ) -> Result<()> {
        if self.own {
            if let Some(up) = up {
                up.send(Bytes::from_static(b"own up")).await.unwrap();
            }
            down.send(Bytes::from_static(b"own down")).await.unwrap();
        }
        Ok(())
    }

    async fn downstream_custom_message_proxy_filter(
        &self,
        session: &mut Session,
        message: Bytes,
        _: &mut (),
        last: bool,
    ) -> Result<Option<Bytes>> {
        assert_eq!(session.req_header().uri.path(), "/messages");
        Ok(marked(&message, "down", last))
    }

    async fn upstream_custom_message_proxy_filter(
        &self,
        session: &mut Session,
        message: Bytes,
        _: &mut (),
        last: bool,
    ) -> Result<Option<Bytes>> {
        assert_eq!(session.req_header().uri.path(), "/messages");
        Ok(marked(&message, "up", last))
    }
}

/// The next frame of this kind.
async fn next(from: &mut UnixStream, kind: u8) -> String {
    loop {
        let (got, payload) = read_frame(from).await.unwrap();
        if got == kind {
            return String::from_utf8(payload.to_vec()).unwrap();
        }
    }
}

async fn ask(proxy: &Proxy) -> UnixStream {
    let mut client = UnixStream::connect(proxy.path()).await.unwrap();
    let head = b"GET /messages\nhost: origin.test\n";
    write_frame(&mut client, b'H', head).await.unwrap();
    client
}

#[tokio::test]
async fn messages_pass_in_both_directions_through_their_filters() {
    for speaks in [Speaks::Custom, Speaks::CustomTasks] {
        let dir = TempDir::new().unwrap();
        let listener = UnixListener::bind(dir.path().join("origin")).unwrap();
        let peer = custom_peer(&dir.path().join("origin"));
        let proxy = Proxy::start_with(for_client(speaks), Marks { peer, own: true });
        let mut client = ask(&proxy).await;
        let (mut origin, _) = listener.accept().await.unwrap();
        assert_eq!(next(&mut origin, b'M').await, "own up");
        assert_eq!(next(&mut client, b'M').await, "own down");
        for text in ["one", "drop", "two"] {
            write_frame(&mut client, b'M', text.as_bytes())
                .await
                .unwrap();
            write_frame(&mut origin, b'M', text.as_bytes())
                .await
                .unwrap();
        }
        for text in ["one", "two"] {
            assert_eq!(next(&mut origin, b'M').await, format!("{text} down false"));
            assert_eq!(next(&mut client, b'M').await, format!("{text} up false"));
        }
        // What comes just before the end of the response is not lost.
        write_frame(&mut origin, b'H', b"200\n").await.unwrap();
        write_frame(&mut origin, b'M', b"last").await.unwrap();
        write_frame(&mut origin, b'E', b"").await.unwrap();
        assert_eq!(next(&mut client, b'M').await, "last up false");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_hop_has_its_filter_asked() {
    let origin = HyperOrigin::start(|_| async {
        // Never answers before the message was seen.
        std::future::pending::<hyper::Response<Stub>>().await
    });
    let peer = forward_to(origin.path()).peer;
    let (seen, mut sees) = mpsc::unbounded_channel();
    let app = Watches { peer, seen };
    let proxy = Proxy::start_with(for_client(Speaks::Custom), app);
    let mut client = ask(&proxy).await;
    write_frame(&mut client, b'M', b"hello").await.unwrap();
    assert_eq!(sees.recv().await.unwrap(), ("hello".to_string(), true));
    // The application's own arrive all the same.
    assert_eq!(next(&mut client, b'M').await, "own down");
}

struct Watches {
    peer: HttpPeer,
    seen: mpsc::UnboundedSender<(String, bool)>,
}

#[async_trait]
impl ProxyHttp for Watches {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }

    async fn custom_forwarding(
        &self,
        _: &mut Session,
        _: &mut (),
        up: Option<mpsc::Sender<Bytes>>,
        down: mpsc::Sender<Bytes>,
    ) -> Result<()> {
        assert!(up.is_none(), "an upstream of HTTP takes none");
        down.send(Bytes::from_static(b"own down")).await.unwrap();
        Ok(())
    }

    async fn downstream_custom_message_proxy_filter(
        &self,
        _: &mut Session,
        message: Bytes,
        _: &mut (),
        last: bool,
    ) -> Result<Option<Bytes>> {
        let text = String::from_utf8(message.to_vec()).unwrap();
        self.seen.send((text, last)).unwrap();
        Ok(Some(message))
    }
}

/// The flag says to a custom session no more than that its connection is not used again, which it is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_drops_no_custom_session() {
    for policy in [ShutdownPolicy::Strict, ShutdownPolicy::Finish] {
        let origin = HyperOrigin::start(|_| async { hyper::Response::new(whole("hello")) });
        let peer = forward_to(origin.path()).peer;
        let mut setup = for_client(Speaks::Custom);
        setup.conf.shutdown_policy = policy;
        let proxy = Proxy::start_with(setup, Forward { peer });
        let mut client = UnixStream::connect(proxy.path()).await.unwrap();
        // A part of a head, as the connection has been accepted for certain then.
        let mut head = Vec::new();
        write_frame(&mut head, b'H', b"GET /\nhost: origin.test\n")
            .await
            .unwrap();
        client.write_all(&head[..3]).await.unwrap();
        let path = proxy.path();
        proxy.begin_shutdown();
        eventually("the listener closes", || {
            std::os::unix::net::UnixStream::connect(&path).is_err()
        });
        client.write_all(&head[3..]).await.unwrap();
        assert!(
            next(&mut client, b'H').await.starts_with("200\n"),
            "{policy:?}"
        );
        assert_eq!(next(&mut client, b'D').await, "hello");
    }
}

/// Tries one upstream after the other, and tells of each message that it has filtered.
struct Tries {
    peers: Vec<HttpPeer>,
    seen: mpsc::UnboundedSender<()>,
}

#[async_trait]
impl ProxyHttp for Tries {
    type CTX = usize;

    fn new_ctx(&self) -> usize {
        0
    }

    async fn upstream_peer(&self, _: &mut Session, tries: &mut usize) -> Result<Box<HttpPeer>> {
        *tries += 1;
        Ok(Box::new(self.peers[*tries - 1].clone()))
    }

    async fn upstream_custom_message_proxy_filter(
        &self,
        _: &mut Session,
        message: Bytes,
        _: &mut usize,
        _: bool,
    ) -> Result<Option<Bytes>> {
        self.seen.send(()).unwrap();
        Ok(Some(message))
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        _: &mut Session,
        mut e: Box<pingora_core::Error>,
        _: &mut usize,
        _: bool,
    ) -> Box<pingora_core::Error> {
        e.set_retry(true);
        e
    }
}

/// The message that a failed try was sending is whole before the next one answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_try_that_fails_cuts_no_message() {
    const LONG: usize = 8 << 20;
    let dir = TempDir::new().unwrap();
    let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
    let [fails, answers] = [&first, &second].map(|path| UnixListener::bind(path).unwrap());
    let (seen, mut sees) = mpsc::unbounded_channel();
    let peers = vec![custom_peer(&first), custom_peer(&second)];
    let proxy = Proxy::start_with(for_client(Speaks::Custom), Tries { peers, seen });
    let mut client = ask(&proxy).await;
    let (mut origin, _) = fails.accept().await.unwrap();
    write_frame(&mut origin, b'M', &vec![b'm'; LONG])
        .await
        .unwrap();
    sees.recv().await.unwrap();
    drop(origin);
    // Nothing else may happen before the client takes its message: not a second try, however long it takes.
    let accept = answers.accept();
    let second = tokio::time::timeout(std::time::Duration::from_millis(200), accept).await;
    assert!(second.is_err(), "a try begins within a message");
    assert_eq!(next(&mut client, b'M').await.len(), LONG);
    let (mut origin, _) = answers.accept().await.unwrap();
    write_frame(&mut origin, b'H', b"200\n").await.unwrap();
    write_frame(&mut origin, b'E', b"").await.unwrap();
    assert_eq!(next(&mut client, b'H').await, "200\n");
}
