//! An origin to try a proxy with, inside the proxy's own process.

use async_trait::async_trait;
use bytes::Bytes;
use http::{header, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{combinators::BoxBody, BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::task::{Context, Poll};

const WELCOME: &str = "\
This page comes from the demo origin, through the proxy.

  GET  /             this page
  GET  /status/NNN   an answer with that status, 200 to 599
  GET  /bytes/N      N bytes of body
  POST /echo         the body that was sent
";

/// A small HTTP/1.1 server on a port of 127.0.0.1 that the system picks.
///
/// It is a service of the proxy's server, and not a thread of its own from the start, because a
/// daemon forks before its services start and a thread would be left behind.
pub struct DemoOrigin {
    listener: TcpListener,
}

impl DemoOrigin {
    /// Binds the port, and tells where it answers.
    ///
    /// # Errors
    ///
    /// When the system has no port to give, in one line.
    pub fn bind() -> Result<(Self, SocketAddr), String> {
        let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((Self { listener }, address))
        });
        bound.map_err(|e| format!("cannot start the demo origin: {e}"))
    }

    /// Starts to answer, on a thread that goes on until the process ends.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    fn spawn(&self) -> io::Result<()> {
        let listener = self.listener.try_clone()?;
        let name = "demo origin".to_owned();
        std::thread::Builder::new()
            .name(name)
            .spawn(move || run(listener))
            .map(drop)
    }
}

#[async_trait]
impl BackgroundService for DemoOrigin {
    /// Returns at once; the thread goes on until the process ends, so that requests which a
    /// shutdown lets finish still find their origin.
    async fn start(&self, _shutdown: ShutdownWatch) {
        let started = self.spawn();
        if let Err(e) = started {
            log::error!("the demo origin did not start: {e}");
        }
    }
}

fn run(listener: TcpListener) {
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(accept(listener)));
    if let Err(e) = served {
        log::error!("the demo origin ended: {e}");
    }
}

async fn accept(listener: TcpListener) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                // Out of descriptors, most likely: some will be free a little later.
                log::warn!("the demo origin cannot accept: {e}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            if let Err(e) = connection.await {
                log::debug!("a connection of the demo origin ended: {e}");
            }
        });
    }
}

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

async fn answer(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let path = request.uri().path();
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    let answer = if get && path == "/" {
        text(StatusCode::OK, WELCOME)
    } else if let (true, Some(status)) = (get, path.strip_prefix("/status/")) {
        match status
            .parse()
            .ok()
            .filter(|s| (200..600).contains(s))
            .map(StatusCode::from_u16)
        {
            Some(Ok(status)) => Response::builder().status(status).body(empty()),
            _ => text(StatusCode::NOT_FOUND, "a status is 200 to 599\n"),
        }
    } else if let (true, Some(Ok(size))) = (get, path.strip_prefix("/bytes/").map(str::parse)) {
        Response::builder().body(Zeros(size).map_err(|never| match never {}).boxed())
    } else if path == "/echo" && request.method() == Method::POST {
        let kind = request.headers().get(header::CONTENT_TYPE).cloned();
        let mut echo = Response::new(request.into_body().boxed());
        if let Some(kind) = kind {
            echo.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        Ok(echo)
    } else {
        text(StatusCode::NOT_FOUND, "there is no such page\n")
    };
    // Only a bad part makes `build` fail, and then a plain 500 is the answer.
    Ok(answer.unwrap_or_else(|_| {
        let mut failed = Response::new(empty());
        *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        failed
    }))
}

fn text(status: StatusCode, page: &'static str) -> http::Result<Answer> {
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, plain)
        .body(Full::from(page).map_err(|never| match never {}).boxed())
}

fn empty() -> BoxBody<Bytes, hyper::Error> {
    Full::default().map_err(|never| match never {}).boxed()
}

/// So many zero bytes, in pieces that take no memory of their own.
struct Zeros(u64);

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static PIECE: [u8; 64 * 1024] = [0; 64 * 1024];
        let size = self.0.min(PIECE.len() as u64);
        self.0 -= size;
        Poll::Ready(
            (size > 0).then(|| Ok(Frame::data(Bytes::from_static(&PIECE[..size as usize])))),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}
