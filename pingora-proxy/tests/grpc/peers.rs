//! A gRPC service, and a client for it.

use super::common::h2_origin::*;
use super::common::*;
use bytes::{Buf, BufMut, Bytes};
use futures::{Stream, StreamExt};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pingora_core::apps::HttpServerOptions;
use std::convert::Infallible;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::{Code, Status, Streaming};

/// Messages that are bytes.
#[derive(Clone, Copy, Default)]
pub struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain
    }

    fn decoder(&mut self) -> Plain {
        Plain
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

pub type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// A method of a service.
struct Method<F>(F);

impl<F, Q, A, R> Service<tonic::Request<Q>> for Method<F>
where
    F: FnMut(tonic::Request<Q>) -> R,
    R: Future<Output = Result<tonic::Response<A>, Status>> + Send + 'static,
{
    type Response = tonic::Response<A>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<A>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        Box::pin((self.0)(request))
    }
}

/// Counts calls that were dropped before they had an answer.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Told of each call that is never answered.
pub static NEVER_CALLED: Notify = Notify::const_new();

async fn serve(request: Request<Incoming>, dropped: Arc<AtomicUsize>) -> Response<Body> {
    let mut grpc = tonic::server::Grpc::new(Plain);
    match request.uri().path() {
        "/t.T/Unary" => {
            let method = Method(|request: tonic::Request<Bytes>| async {
                let sent = request.metadata().get("x-sent").cloned();
                let mut response = tonic::Response::new(request.into_inner());
                if let Some(sent) = sent {
                    response.metadata_mut().insert("x-got", sent);
                }
                Ok(response)
            });
            grpc.unary(method, request).await
        }
        "/t.T/Fail" => {
            let method = Method(|_: tonic::Request<Bytes>| async {
                Err::<tonic::Response<Bytes>, _>(Status::new(Code::FailedPrecondition, "not so"))
            });
            grpc.unary(method, request).await
        }
        "/t.T/Never" => {
            let method = Method(move |request: tonic::Request<Bytes>| {
                let dropped = Dropped(dropped.clone());
                async move {
                    assert!(request.metadata().contains_key("grpc-timeout"));
                    NEVER_CALLED.notify_one();
                    std::future::pending::<()>().await;
                    drop(dropped);
                    Err::<tonic::Response<Bytes>, _>(Status::internal("never"))
                }
            });
            grpc.unary(method, request).await
        }
        // One message for each byte, and then a status.
        "/t.T/Split" => {
            let method = Method(|request: tonic::Request<Bytes>| async {
                let bytes = request.into_inner();
                let each = (0..bytes.len()).map(move |i| Ok(bytes.slice(i..i + 1)));
                let end = [Err(Status::new(Code::OutOfRange, "no more"))];
                let stream = futures::stream::iter(each.chain(end));
                Ok(tonic::Response::new(Box::pin(stream) as Messages))
            });
            grpc.server_streaming(method, request).await
        }
        "/t.T/Join" => {
            let method = Method(|request: tonic::Request<Streaming<Bytes>>| async {
                let mut all = Vec::new();
                let mut messages = request.into_inner();
                while let Some(message) = messages.message().await? {
                    all.extend_from_slice(&message);
                }
                Ok(tonic::Response::new(Bytes::from(all)))
            });
            grpc.client_streaming(method, request).await
        }
        "/t.T/Echo" => {
            let method = Method(|request: tonic::Request<Streaming<Bytes>>| async {
                Ok(tonic::Response::new(
                    Box::pin(request.into_inner()) as Messages
                ))
            });
            grpc.streaming(method, request).await
        }
        _ => Status::unimplemented("no such method").into_http(),
    }
}

/// A gRPC origin, and how many of its calls were dropped.
pub fn grpc_origin() -> (H2Origin, Arc<AtomicUsize>) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = dropped.clone();
    let origin = H2Origin::start(move |stream, _| {
        let count = count.clone();
        async move {
            let service = service_fn(move |request| {
                let response = serve(request, count.clone());
                async { Ok::<_, Infallible>(response.await) }
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            drop(connection.await);
        }
    });
    (origin, dropped)
}

/// A proxy that takes HTTP/2 without TLS.
pub fn h2c_proxy(app: Forward) -> Proxy {
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    let setup = Setup {
        options,
        ..Setup::default()
    };
    Proxy::start_with(setup, app)
}

/// A connection that calls are made over.
#[derive(Clone)]
pub struct Channel(SendRequest<Body>);

impl Channel {
    pub async fn connect(path: &Path) -> tonic::client::Grpc<Channel> {
        let stream = UnixStream::connect(path).await.unwrap();
        let (requests, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(async { drop(connection.await) });
        let origin = "http://grpc.test".parse().unwrap();
        tonic::client::Grpc::with_origin(Channel(requests), origin)
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// All messages of a stream, and the status that ended it.
pub async fn all(mut messages: Streaming<Bytes>) -> (Vec<Bytes>, Option<Status>) {
    let mut all = Vec::new();
    while let Some(message) = messages.next().await {
        match message {
            Ok(message) => all.push(message),
            Err(status) => return (all, Some(status)),
        }
    }
    (all, None)
}
