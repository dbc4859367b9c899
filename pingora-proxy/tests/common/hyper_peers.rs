//! Peers that speak HTTP/1.1 by another implementation: hyper as origin and as client.

use bytes::Bytes;
use http_body_util::{combinators::BoxBody, BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};

/// A body of either side.
pub type Stub = BoxBody<Bytes, hyper::Error>;

/// A whole body.
pub fn whole(bytes: impl Into<Bytes>) -> Stub {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

/// A request with a whole body.
pub fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Stub> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("Host", "origin.test")
        .body(whole(body))
        .unwrap()
}

/// An origin that hyper serves, on the runtime of the test that makes it.
pub struct HyperOrigin {
    dir: TempDir,
    accepts: tokio::task::JoinHandle<()>,
}

impl HyperOrigin {
    /// `answer` answers each request.
    pub fn start<F, R>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Stub>> + Send + 'static,
    {
        let dir = TempDir::new().unwrap();
        let listener = UnixListener::bind(dir.path().join("origin")).unwrap();
        let answer = Arc::new(answer);
        let accepts = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = answer.clone();
                let service = service_fn(move |request| {
                    let response = answer(request);
                    async { Ok::<_, Infallible>(response.await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                // How a connection ends is seen by the other side, and the test asks there.
                tokio::spawn(async { drop(connection.await) });
            }
        });
        HyperOrigin { dir, accepts }
    }

    /// The path of its socket.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("origin")
    }
}

impl Drop for HyperOrigin {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

/// One connection of a hyper client.
pub struct HyperClient {
    requests: SendRequest<Stub>,
}

impl HyperClient {
    /// Connects to the Unix socket at `path`.
    pub async fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).await.unwrap();
        let (requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(async { drop(connection.with_upgrades().await) });
        HyperClient { requests }
    }

    /// Sends a request when the connection is free, and waits for the head of its response.
    pub async fn send(&mut self, request: Request<Stub>) -> hyper::Result<Response<Incoming>> {
        self.requests.ready().await?;
        self.requests.send_request(request).await
    }
}
