//! Origins that speak HTTP/2, by hyper and frame by frame.

use super::common::*;
use bytes::Bytes;
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
use tokio::net::UnixListener;
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
    // Its threads end with it.
    _runtime: Runtime,
}

impl H2Origin {
    /// Runs `serve` for each connection, with its number from 0.
    pub fn start<F, R>(serve: F) -> Self
    where
        F: Fn(tokio::net::UnixStream, usize) -> R + Send + Sync + 'static,
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
            _runtime: runtime,
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

    /// The path of its socket.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("origin")
    }

    /// How many connections were made so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// The whole body of a request.
pub async fn body_of(request: Request<Incoming>) -> Bytes {
    request.into_body().collect().await.unwrap().to_bytes()
}
