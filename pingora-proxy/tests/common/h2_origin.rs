//! Origins that speak HTTP/2, by hyper and frame by frame.

use super::*;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::RecvStream;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pingora_core::upstreams::peer::{HttpPeer, ALPN};
use std::convert::Infallible;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};

/// A peer that is spoken to in HTTP/2 by prior knowledge.
pub fn h2_peer(path: &Path) -> HttpPeer {
    let mut peer = HttpPeer::new_uds(&path.to_string_lossy(), false, String::new()).unwrap();
    peer.options.alpn = ALPN::H2;
    peer.options.max_h2_streams = 100;
    peer
}

/// A proxy to it.
pub fn h2_proxy(path: &Path) -> Proxy {
    Proxy::start(Forward {
        peer: h2_peer(path),
    })
}

/// An origin on a runtime of its own.
pub struct H2Origin {
    dir: TempDir,
    accepted: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl H2Origin {
    /// Runs `serve` for each connection, with its number from 0.
    pub fn start<F, R>(serve: F) -> Self
    where
        F: Fn(UnixStream, usize) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let dir = TempDir::new().unwrap();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let path = dir.path().join("origin");
        let listener = {
            let _entered = runtime.enter();
            UnixListener::bind(path).unwrap()
        };
        let count = accepted.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, number));
            }
        });
        H2Origin {
            dir,
            accepted,
            runtime: Some(runtime),
        }
    }

    /// Has hyper answer each request by `answer`.
    pub fn hyper<F, R>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Stub>> + Send + 'static,
    {
        let answer = Arc::new(answer);
        H2Origin::start(move |stream, _| {
            let answer = answer.clone();
            async move {
                let service = service_fn(move |request| {
                    let response = answer(request);
                    async { Ok::<_, Infallible>(response.await) }
                });
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                // How a connection ends is seen by the other side, and the test asks there.
                drop(connection.await);
            }
        })
    }

    /// Runs `answer` for each stream, with the number of its connection.
    pub fn streams<F, R>(answer: F) -> Self
    where
        F: Fn(Request<RecvStream>, SendResponse<Bytes>, usize) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let answer = Arc::new(answer);
        H2Origin::start(move |stream, number| {
            let answer = answer.clone();
            async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else {
                    return;
                };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(answer(request, respond, number));
                }
            }
        })
    }

    /// The path of its socket.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("origin")
    }

    /// How many connections were made so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for H2Origin {
    fn drop(&mut self) {
        // A test may end within a runtime of its own, where none may be waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A response without fields.
pub fn status(code: u16) -> Response<()> {
    Response::builder().status(code).body(()).unwrap()
}

/// An origin's end of a connection, frame by frame.
pub struct Frames(UnixStream);

/// A frame: its type, flags, stream and payload.
pub type Frame = (u8, u8, u32, Vec<u8>);

/// Types of frames.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;

impl Frames {
    /// Reads the preface and sends SETTINGS.
    pub async fn begin(mut stream: UnixStream) -> Self {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut frames = Frames(stream);
        frames.send(SETTINGS, 0, 0, b"").await;
        frames
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // A proxy that has gone is what a test may be about.
        drop(self.0.write_all(&frame).await);
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        Some((head[3], head[4], stream, payload))
    }

    /// The next frame of this type; those before it are passed over, and SETTINGS acknowledged.
    pub async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.0 == SETTINGS && frame.1 & 1 == 0 {
                self.send(SETTINGS, 1, 0, b"").await;
            }
            if frame.0 == kind {
                return Some(frame);
            }
        }
    }

    /// Answers a stream with 200 and nothing else.
    pub async fn answer(&mut self, stream: u32) {
        self.send(HEADERS, 5, stream, &[0x88]).await;
    }
}
