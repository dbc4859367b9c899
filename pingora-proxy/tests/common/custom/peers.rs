//! The other ends: what hyper says and hears, in frames.

use super::*;
use crate::common::h2_origin::H2Origin;
use crate::common::Stub;
use futures::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame as BodyFrame, Incoming};
use hyper::client::conn::http2::{handshake, SendRequest};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::future::Future;
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};

/// A body of frames.
type Body = BoxBody<Bytes, io::Error>;
type Piece = io::Result<BodyFrame<Bytes>>;

fn channel() -> (mpsc::Sender<Piece>, Body) {
    let (sender, mut receiver) = mpsc::channel::<Piece>(1);
    let frames = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (sender, BodyExt::boxed(StreamBody::new(frames)))
}

/// Sends a body to its end, or gives up. Whoever has sent it before is told.
async fn send_body<B>(sink: &Sink, mut body: B) -> Result<()>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
{
    while let Some(frame) = body.frame().await {
        match frame.map(BodyFrame::into_data) {
            Ok(Ok(data)) => sink.send(b'D', &data).await?,
            Ok(Err(frame)) => {
                let trailers = fields(frame.trailers_ref().unwrap());
                return sink.send(b'T', trailers.as_bytes()).await;
            }
            Err(_) => {
                let _ = sink.send(b'R', b"").await;
                return Err(gone());
            }
        }
    }
    sink.send(b'E', b"").await
}

/// An origin: hyper behind frames.
pub struct CustomOrigin {
    dir: TempDir,
    accepts: tokio::task::JoinHandle<()>,
    origin: H2Origin,
}

impl CustomOrigin {
    /// Has `answer` answer each request.
    pub fn start<F, R>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Stub>> + Send + 'static,
    {
        let dir = TempDir::new().unwrap();
        let origin = H2Origin::hyper(answer);
        let listener = UnixListener::bind(dir.path().join("origin")).unwrap();
        let path = origin.path();
        let accepts = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer_frames(stream, path.clone()));
            }
        });
        CustomOrigin {
            dir,
            accepts,
            origin,
        }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("origin")
    }
}

impl Drop for CustomOrigin {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

/// One connection of the proxy.
async fn answer_frames(stream: UnixStream, origin: PathBuf) {
    let (mut from, to) = stream.into_split();
    let sink = Sink::new(to);
    let io = TokioIo::new(UnixStream::connect(origin).await.unwrap());
    let (requests, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(async { drop(connection.await) });
    let mut next = read_frame(&mut from).await;
    while let Some((b'H', head)) = next {
        let (body, request) = channel();
        let answer = tokio::spawn(answer_one(requests.clone(), head, request, sink.clone()));
        let mut body = Some(body);
        loop {
            let next = match read_frame(&mut from).await {
                Some((b'D', data)) => Ok(BodyFrame::data(data)),
                Some((b'E', _)) => break,
                _ => Err(io::ErrorKind::ConnectionReset.into()),
            };
            let failed = next.is_err();
            if let Some(sender) = &body {
                if sender.send(next).await.is_err() {
                    body = None;
                }
            }
            if failed {
                return answer.abort();
            }
        }
        drop(body);
        // One that leaves in the middle of the answer.
        next = read_frame(&mut from).await;
        if next.is_none() {
            return answer.abort();
        }
        drop(answer.await);
    }
}

async fn answer_one(mut requests: SendRequest<Body>, head: Bytes, body: Body, sink: Sink) {
    let head = std::str::from_utf8(&head).unwrap();
    let mut lines = head.lines();
    let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://origin.test{target}"))
        .body(body)
        .unwrap();
    *request.headers_mut() = parse_fields(lines);
    assert_eq!(request.headers_mut().remove("host").unwrap(), "origin.test");
    request.headers_mut().remove("connection");
    let Ok(response) = requests.send_request(request).await else {
        let _ = sink.send(b'R', b"").await;
        return sink.close().await;
    };
    let status = response.status().as_u16();
    let head = format!("{status}\n{}", fields(response.headers()));
    if sink.send(b'H', head.as_bytes()).await.is_err()
        || send_body(&sink, response.into_body()).await.is_err()
    {
        sink.close().await;
    }
}

/// A client: what is sent to it goes to the proxy at `path` in frames, a connection for each request.
pub async fn bridge_client(path: PathBuf) -> SendRequest<Stub> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let service = service_fn(move |request| {
        let path = path.clone();
        async move { Ok::<_, Infallible>(ask(&path, request).await) }
    });
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(far), service);
    tokio::spawn(async { drop(serving.await) });
    let (requests, connection) = handshake(TokioExecutor::new(), TokioIo::new(near))
        .await
        .unwrap();
    tokio::spawn(async { drop(connection.await) });
    requests
}

async fn ask(path: &Path, request: Request<Incoming>) -> Response<Body> {
    let stream = UnixStream::connect(path).await.unwrap();
    let (mut from, to) = stream.into_split();
    let sink = Sink::new(to);
    let (head, body) = request.into_parts();
    let mut headers = head.headers;
    headers.insert("host", "origin.test".parse().unwrap());
    if headers.contains_key("te") {
        headers.insert("connection", "te".parse().unwrap());
    }
    let head = format!("{} {}\n{}", head.method, head.uri.path(), fields(&headers));
    sink.send(b'H', head.as_bytes()).await.unwrap();
    tokio::spawn({
        let sink = sink.clone();
        async move { drop(send_body(&sink, body).await) }
    });
    let response = loop {
        let Some((b'H', head)) = read_frame(&mut from).await else {
            return broken();
        };
        let head = String::from_utf8(head.to_vec()).unwrap();
        let mut lines = head.lines();
        let status: u16 = lines.next().unwrap().parse().unwrap();
        if status >= 200 {
            let mut response = Response::builder().status(status);
            *response.headers_mut().unwrap() = parse_fields(lines);
            break response;
        }
    };
    let (sender, body) = channel();
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = read_frame(&mut from) => next,
                // Nobody takes the response: the client leaves.
                () = sender.closed() => return sink.close().await,
            };
            let next = match next {
                Some((b'D', data)) => Ok(BodyFrame::data(data)),
                Some((b'T', lines)) => {
                    let lines = std::str::from_utf8(&lines).unwrap();
                    let _ = sender
                        .send(Ok(BodyFrame::trailers(parse_fields(lines.lines()))))
                        .await;
                    return;
                }
                Some((b'E', _)) => return,
                _ => Err(io::ErrorKind::ConnectionReset.into()),
            };
            if sender.send(next).await.is_err() {
                return sink.close().await;
            }
        }
    });
    response.body(body).unwrap()
}

/// Makes hyper reset the stream.
fn broken() -> Response<Body> {
    let cut = futures::stream::once(async { Err(io::ErrorKind::ConnectionReset.into()) });
    Response::builder()
        .status(502)
        .body(BodyExt::boxed(StreamBody::new(cut)))
        .unwrap()
}
