use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::apps::preface::{protocol, Protocol};
use crate::apps::{h2_conn, HttpServerOptions, ReusedHttpStream};
use crate::protocols::http::server::Session;
use crate::protocols::Stream;
use crate::shutdown::{Registry, Stage};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// As long as a client may take when nothing shuts down.
const PATIENT: u64 = 60;
const READ_TIMEOUT: u64 = 3;

/// Serves nothing.
pub(in crate::apps) struct App {
    options: HttpServerOptions,
    registry: Option<Arc<Registry>>,
}

impl App {
    pub(in crate::apps) fn new(h2c: bool) -> Self {
        App {
            options: HttpServerOptions {
                h2c,
                ..Default::default()
            },
            registry: Some(Registry::new(1)),
        }
    }

    fn advance(&self, stage: Stage) {
        if let Some(registry) = &self.registry {
            registry.advance(stage);
        }
    }
}

#[async_trait]
impl HttpServerApp for App {
    async fn process_new_http(
        self: &Arc<Self>,
        _: Session,
        _: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        None
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    fn shutdown_registry(&self) -> Option<&Arc<Registry>> {
        self.registry.as_ref()
    }

    fn shutdown_read_timeout(&self) -> Duration {
        Duration::from_secs(READ_TIMEOUT)
    }
}

async fn connect(begin: &[u8]) -> (UnixStream, Stream) {
    let (mut client, server) = UnixStream::pair().unwrap();
    client.write_all(begin).await.unwrap();
    let server: crate::protocols::l4::stream::Stream = server.into();
    (client, Box::new(server))
}

/// A connection that was just accepted: no reactor has reported what lies in its receive queue.
#[tokio::test(start_paused = true)]
async fn what_was_sent_before_the_shutdown_tells_the_protocol() {
    let (_running, shutdown) = watch::channel(false);
    for stage in [Stage::Draining, Stage::Expiring, Stage::Closing] {
        for (begin, spoken) in [
            (PREFACE, Protocol::Http2),
            (b"GET / HTTP/1.1\r\n", Protocol::Http1),
            (b"P", Protocol::Http1),
        ] {
            let app = App::new(true);
            let (mut client, mut stream) = connect(begin).await;
            app.advance(stage);
            let rest = async {
                tokio::time::sleep(Duration::from_secs(READ_TIMEOUT - 1)).await;
                // It is too late only for who has said all there is to say.
                let _ = client.write_all(b"OST / HTTP/1.1\r\n").await;
            };
            let (begun, ()) = tokio::join!(protocol(&app, &mut stream, &shutdown), rest);
            assert_eq!(begun, Some(spoken), "{stage:?} {begin:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_sent_nothing_or_too_little_is_let_go() {
    for (begin, stage, lasts) in [
        (&b""[..], Stage::Closing, 0),
        (b"", Stage::Expiring, READ_TIMEOUT),
        (b"", Stage::Draining, PATIENT),
        (b"PRI * H", Stage::Closing, READ_TIMEOUT),
        (b"PRI * H", Stage::Expiring, READ_TIMEOUT),
        (b"PRI * H", Stage::Draining, PATIENT),
    ] {
        let (_running, shutdown) = watch::channel(false);
        let app = Arc::new(App::new(true));
        let (_client, mut stream) = connect(begin).await;
        let told = async {
            tokio::task::yield_now().await;
            app.advance(stage);
        };
        let started = Instant::now();
        let (begun, ()) = tokio::join!(protocol(&*app, &mut stream, &shutdown), told);
        assert_eq!(begun, None, "{begin:?} {stage:?}");
        assert_eq!(started.elapsed().as_secs(), lasts, "{begin:?} {stage:?}");

        // The same where TLS has agreed on HTTP/2.
        let app = Arc::new(App::new(false));
        let told = async {
            tokio::task::yield_now().await;
            app.advance(stage);
        };
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(begin).await.unwrap();
        let started = Instant::now();
        tokio::join!(h2_conn::serve(&app, Box::new(server), &shutdown), told);
        assert_eq!(started.elapsed().as_secs(), lasts, "{begin:?} {stage:?}");
    }
}

/// Nobody tells such an application when idle connections are to close.
#[tokio::test(start_paused = true)]
async fn without_a_registry_the_watch_gives_a_client_its_time() {
    for begin in [&b""[..], b"PRI * H"] {
        let (_running, shutdown) = watch::channel(true);
        let app = Arc::new(App {
            registry: None,
            ..App::new(true)
        });
        let (_client, mut stream) = connect(begin).await;
        let started = Instant::now();
        assert_eq!(protocol(&*app, &mut stream, &shutdown).await, None);
        assert_eq!(started.elapsed().as_secs(), READ_TIMEOUT);
    }
}

/// The bytes `begin`, and `rest` once the server is closing.
async fn serve_in_two_parts(begin: &[u8], rest: &[u8]) -> DuplexStream {
    let (_running, shutdown) = watch::channel(false);
    let app = Arc::new(App::new(false));
    let (mut client, server) = tokio::io::duplex(1024);
    client.write_all(begin).await.unwrap();
    let told = async {
        tokio::task::yield_now().await;
        app.advance(Stage::Closing);
        tokio::time::sleep(Duration::from_secs(READ_TIMEOUT - 1)).await;
        client.write_all(rest).await.unwrap();
    };
    tokio::join!(h2_conn::serve(&app, Box::new(server), &shutdown), told);
    client
}

#[tokio::test(start_paused = true)]
async fn a_preface_in_two_parts_is_answered() {
    use tokio::io::AsyncReadExt;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let rest = [&PREFACE[7..], &settings].concat();
    let mut client = serve_in_two_parts(&PREFACE[..7], &rest).await;
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    let goodbye = [7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert!(heard.windows(14).any(|frame| frame == goodbye), "{heard:?}");
}
