//! The same scenarios for every pair of protocols, without TLS: what a client sees must not depend on them.

use super::common::custom::{bridge_client, custom_peer, CustomOrigin};
use super::common::h2_origin::*;
use super::common::*;
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt, Stream, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::HeaderMap;
use hyper::{Request, Response as HyperResponse, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pingora_core::apps::HttpServerOptions;
use pingora_core::upstreams::peer::HttpPeer;
use std::future::Future;
use tokio::net::UnixStream;

/// What a side of the proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speaks {
    H1,
    H2,
    /// Frames, by sessions with the required methods only.
    Custom,
    /// Frames, by sessions that take the proxy's tasks.
    CustomTasks,
}

pub const CLIENTS: [Speaks; 4] = [Speaks::H1, Speaks::H2, Speaks::Custom, Speaks::CustomTasks];
pub const ORIGINS: [Speaks; 3] = [Speaks::H1, Speaks::H2, Speaks::Custom];

impl From<Version> for Speaks {
    fn from(version: Version) -> Self {
        match version {
            Version::HTTP_2 => Speaks::H2,
            _ => Speaks::H1,
        }
    }
}

impl Speaks {
    pub fn is_custom(self) -> bool {
        matches!(self, Speaks::Custom | Speaks::CustomTasks)
    }
}

/// An origin of any kind.
pub enum AnyOrigin {
    H1(HyperOrigin),
    H2(H2Origin),
    Custom(CustomOrigin),
}

impl AnyOrigin {
    pub fn start<F, R>(speaks: impl Into<Speaks>, answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = HyperResponse<Stub>> + Send + 'static,
    {
        match speaks.into() {
            Speaks::H1 => AnyOrigin::H1(HyperOrigin::start(answer)),
            Speaks::H2 => AnyOrigin::H2(H2Origin::hyper(answer)),
            _ => AnyOrigin::Custom(CustomOrigin::start(answer)),
        }
    }

    pub fn peer(&self) -> HttpPeer {
        match self {
            AnyOrigin::H1(origin) => forward_to(origin.path()).peer,
            AnyOrigin::H2(origin) => h2_peer(&origin.path()),
            AnyOrigin::Custom(origin) => custom_peer(&origin.path()),
        }
    }

    fn proxy(&self, client: Speaks) -> Proxy {
        let peer = self.peer();
        Proxy::start_with(for_client(client), Forward { peer })
    }
}

/// For clients of either version.
pub fn any_client() -> Setup {
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    Setup {
        options,
        ..Setup::default()
    }
}

/// For clients that speak this.
pub fn for_client(speaks: Speaks) -> Setup {
    let mut setup = any_client();
    setup.options.force_custom = speaks.is_custom();
    setup.custom_tasks = speaks == Speaks::CustomTasks;
    setup
}

/// A client of any kind. One that speaks frames is asked in HTTP/2 itself.
pub enum AnyClient {
    H1(http1::SendRequest<Stub>),
    H2(http2::SendRequest<Stub>),
}

impl AnyClient {
    pub async fn connect(speaks: impl Into<Speaks>, proxy: &Proxy) -> Self {
        let speaks = speaks.into();
        if speaks.is_custom() {
            return AnyClient::H2(bridge_client(proxy.path()).await);
        }
        let stream = TokioIo::new(UnixStream::connect(proxy.path()).await.unwrap());
        if speaks == Speaks::H2 {
            let (requests, connection) = http2::handshake(TokioExecutor::new(), stream)
                .await
                .unwrap();
            tokio::spawn(async { drop(connection.await) });
            return AnyClient::H2(requests);
        }
        let (requests, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(async { drop(connection.await) });
        AnyClient::H1(requests)
    }

    pub async fn send(&mut self, request: Request<Stub>) -> HyperResponse<Incoming> {
        self.try_send(request).await.unwrap()
    }

    pub async fn try_send(
        &mut self,
        mut request: Request<Stub>,
    ) -> hyper::Result<HyperResponse<Incoming>> {
        match self {
            AnyClient::H1(requests) => {
                requests.ready().await?;
                requests.send_request(request).await
            }
            AnyClient::H2(requests) => {
                let path = request.uri().path_and_query().unwrap().to_string();
                *request.uri_mut() = format!("http://origin.test{path}").parse().unwrap();
                request.headers_mut().remove("host");
                requests.ready().await?;
                requests.send_request(request).await
            }
        }
    }
}

pub const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

/// Runs a scenario for each pair.
async fn each_pair<O, A, S, R>(answer: O, scenario: S)
where
    O: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = HyperResponse<Stub>> + Send + 'static,
    S: Fn(AnyClient, (Speaks, Speaks)) -> R,
    R: Future<Output = ()>,
{
    for downstream in CLIENTS {
        for upstream in ORIGINS {
            let origin = AnyOrigin::start(upstream, answer.clone());
            let proxy = origin.proxy(downstream);
            let client = AnyClient::connect(downstream, &proxy).await;
            scenario(client, (downstream, upstream)).await;
        }
    }
}

pub fn streamed<S>(frames: S) -> Stub
where
    S: Stream<Item = hyper::Result<Frame<Bytes>>> + Send + Sync + 'static,
{
    BodyExt::boxed(StreamBody::new(frames))
}

pub fn pieces(content: &Bytes) -> Stub {
    let size = content.len();
    let pieces: Vec<_> = (0..size)
        .step_by(30_000)
        .map(|at| Ok(Frame::data(content.slice(at..size.min(at + 30_000)))))
        .collect();
    streamed(futures::stream::iter(pieces))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_pass_both_ways_at_once() {
    let echo = |request: Request<Incoming>| async move {
        assert_eq!(request.uri().path(), "/echo");
        let authority = request.uri().authority().map(|a| a.as_str().to_string());
        let host = request.headers().get("host");
        let host = host.map(|h| h.to_str().unwrap().to_string());
        assert_eq!(authority.or(host).unwrap(), "origin.test");
        HyperResponse::new(BodyExt::boxed(request.into_body()))
    };
    each_pair(echo, |mut client, pair| async move {
        let large = match pair.0.is_custom() || pair.1.is_custom() {
            true => 4 << 20,
            false => 64 << 20,
        };
        for size in [0, 1, 65_535, 65_536, 1 << 20, large] {
            let content: Bytes = (0..size).map(|i| (i / 7 % 251) as u8).collect();
            let whole = (size < large).then(|| whole(content.clone()));
            for body in whole.into_iter().chain([pieces(&content)]) {
                let mut post = request("POST", "/echo", "");
                *post.body_mut() = body;
                let response = client.send(post).await;
                assert_eq!(response.status(), 200, "{pair:?}, {size}");
                let got = response.into_body().collect().await.unwrap().to_bytes();
                assert!(got == content, "{pair:?}, {size}: {} came", got.len());
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_waits_for_nothing() {
    let echo = |request: Request<Incoming>| async {
        HyperResponse::new(BodyExt::boxed(request.into_body()))
    };
    each_pair(echo, |mut client, pair| async move {
        let (mut say, said) = mpsc::channel(8);
        let mut post = request("POST", "/", "");
        *post.body_mut() = streamed(said);
        say.send(Ok(Frame::data(Bytes::from_static(b"first"))))
            .await
            .unwrap();
        let mut answers = client.send(post).await.into_body();
        let mut expected = Bytes::from_static(b"first");
        for i in 0..20 {
            let got = answers.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(got, expected, "{pair:?}");
            expected = Bytes::from(format!("message {i}"));
            say.send(Ok(Frame::data(expected.clone()))).await.unwrap();
        }
        drop(say);
        let rest = answers.collect().await.unwrap().to_bytes();
        assert_eq!(rest, expected, "{pair:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_pass() {
    let answer = |request: Request<Incoming>| async {
        let told = request.headers().get("x-sum").cloned();
        let body = request.into_body().collect().await.unwrap();
        let sum = told.unwrap_or_else(|| body.trailers().unwrap()["x-sum"].clone());
        let mut back = HeaderMap::new();
        back.insert("x-sum", sum);
        let frames = [Ok(Frame::data(body.to_bytes())), Ok(Frame::trailers(back))];
        HyperResponse::builder()
            .header("trailer", "x-sum")
            .body(streamed(futures::stream::iter(frames)))
            .unwrap()
    };
    each_pair(answer, |mut client, pair| async move {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        let frames = [
            Ok(Frame::data(Bytes::from_static(b"hello"))),
            Ok(Frame::trailers(trailers.clone())),
        ];
        // The traits of custom sessions have no place for the trailers of a request.
        let (few, told) = match pair.0.is_custom() || pair.1.is_custom() {
            true => (1, trailers),
            false => (2, HeaderMap::new()),
        };
        let frames = frames.into_iter().take(few);
        let mut post = request("POST", "/", "");
        let fields = post.headers_mut();
        fields.extend(told);
        fields.insert("trailer", "x-sum".parse().unwrap());
        fields.insert("te", "trailers".parse().unwrap());
        if matches!(client, AnyClient::H1(_)) {
            fields.insert("connection", "te".parse().unwrap());
        }
        *post.body_mut() = streamed(futures::stream::iter(frames));
        let response = client.send(post).await.into_body().collect().await.unwrap();
        assert_eq!(response.trailers().unwrap()["x-sum"], "7", "{pair:?}");
        assert_eq!(response.to_bytes(), "hello", "{pair:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_without_a_body_end() {
    let answer = |request: Request<Incoming>| async move {
        let code: u16 = request.uri().path()[1..].parse().unwrap();
        let response = HyperResponse::builder().status(code);
        let response = match code {
            200 => response.header("content-length", "5"),
            _ => response,
        };
        response.body(whole("")).unwrap()
    };
    each_pair(answer, |mut client, pair| async move {
        for (method, path, code) in [
            ("HEAD", "/200", 200),
            ("GET", "/204", 204),
            ("GET", "/304", 304),
            ("POST", "/204", 204),
        ] {
            let response = client.send(request(method, path, "")).await;
            assert_eq!(response.status(), code, "{pair:?}");
            if method == "HEAD" {
                assert_eq!(response.headers()["content-length"], "5", "{pair:?}");
            }
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert!(body.is_empty(), "{pair:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_is_whole() {
    let answer = |request: Request<Incoming>| async {
        drop(request);
        HyperResponse::builder()
            .status(413)
            .body(whole("too much"))
            .unwrap()
    };
    for downstream in CLIENTS {
        for upstream in ORIGINS {
            let origin = AnyOrigin::start(upstream, answer);
            let proxy = origin.proxy(downstream);
            let mut client = AnyClient::connect(downstream, &proxy).await;
            // The request never ends by itself.
            let (mut say, said) = mpsc::channel(0);
            let mut post = request("POST", "/", "");
            *post.body_mut() = streamed(said);
            let first = say.send(Ok(Frame::data(Bytes::from_static(b"first"))));
            let (sent, response) = futures::join!(first, client.send(post));
            sent.unwrap();
            assert_eq!(response.status(), 413, "{downstream:?} to {upstream:?}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, "too much");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_gives_up_is_given_up_at_the_origin() {
    for downstream in CLIENTS {
        for upstream in ORIGINS {
            let (ended, mut ends) = mpsc::unbounded();
            let answer = move |request: Request<Incoming>| {
                let ended = ended.clone();
                async move {
                    // The response goes on until nobody takes it.
                    let (mut more, body) = mpsc::channel(0);
                    tokio::spawn(async move {
                        let piece = Bytes::from(vec![b'x'; 10_000]);
                        while more.send(Ok(Frame::data(piece.clone()))).await.is_ok() {}
                        drop(request);
                        ended.unbounded_send(()).unwrap();
                    });
                    HyperResponse::new(streamed(body))
                }
            };
            let origin = AnyOrigin::start(upstream, answer);
            let proxy = origin.proxy(downstream);
            let mut client = AnyClient::connect(downstream, &proxy).await;
            let mut response = client.send(request("GET", "/", "")).await;
            response.body_mut().frame().await.unwrap().unwrap();
            drop(response);
            if matches!(client, AnyClient::H1(_)) {
                drop(client);
            }
            ends.next().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_is_cut_short_is_passed_on_as_cut_short() {
    for downstream in CLIENTS {
        for upstream in ORIGINS {
            let answer = |_: Request<Incoming>| async {
                // A body whose sender goes without having ended it makes hyper reset or close.
                let (mut more, body) = mpsc::channel::<hyper::Result<Frame<Bytes>>>(1);
                more.send(Ok(Frame::data(Bytes::from_static(b"part"))))
                    .await
                    .unwrap();
                HyperResponse::builder()
                    .header("content-length", "100")
                    .body(streamed(body))
                    .unwrap()
            };
            let origin = AnyOrigin::start(upstream, answer);
            let proxy = origin.proxy(downstream);
            let mut client = AnyClient::connect(downstream, &proxy).await;
            let pair = (downstream, upstream);
            let response = match client.try_send(request("GET", "/", "")).await {
                Ok(response) if response.status() != 502 => response,
                // The head had not gone out yet.
                _ => continue,
            };
            assert_eq!(response.status(), 200, "{pair:?}");
            assert!(response.into_body().collect().await.is_err(), "{pair:?}");
        }
    }
}
