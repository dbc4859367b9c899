//! What options of a server do.

use super::*;
use pingora_core::apps::{HttpServerApp, ReusedHttpStream, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Speaks a protocol of its own, or HTTP.
struct Speaks(HttpServerOptions);

#[async_trait]
impl HttpServerApp for Speaks {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        assert!(session.read_request().await.unwrap());
        session.respond_error(404).await.unwrap();
        None
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.0)
    }

    async fn process_custom_session(
        self: Arc<Self>,
        mut stream: Stream,
        _: &ShutdownWatch,
    ) -> Option<Stream> {
        stream.write_all(b"hello").await.unwrap();
        stream.flush().await.unwrap();
        None
    }
}

#[tokio::test]
async fn a_protocol_of_the_users_own_takes_every_connection() {
    for (forced, expected) in [(true, "hello"), (false, "HTTP/1.1 404")] {
        let mut options = HttpServerOptions::default();
        options.force_custom = forced;
        let app = Arc::new(Speaks(options));
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let (_stop, shutdown) = tokio::sync::watch::channel(false);
        let stream: Stream = Box::new(pingora_core::protocols::l4::stream::Stream::from(near));
        let serve = app.process_new(stream, &shutdown);
        let read = async {
            let mut said = vec![0; expected.len()];
            far.read_exact(&mut said).await.unwrap();
            String::from_utf8(said).unwrap()
        };
        let (_, said) = tokio::join!(serve, read);
        assert_eq!(said, expected);
    }
}
