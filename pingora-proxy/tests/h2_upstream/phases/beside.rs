//! A callback that panics, in any phase, costs its own request. Those beside it on the same worker go on, of either version
//! of HTTP, and all that is counted comes back.

use super::super::common::*;
use super::super::pairs::{streamed, AnyClient, AnyOrigin, Speaks};
use super::recorder::Recorder;
use super::{post, send, start, BEFORE_THE_ANSWER};
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{stream, SinkExt, StreamExt};
use http_body_util::{BodyExt, BodyStream};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::{Request, Response as HyperResponse};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Answers a request whose body has begun, at once or when it is whole; and others.
async fn answer(request: Request<Incoming>, begun: Arc<AtomicUsize>) -> HyperResponse<Stub> {
    let path = request.uri().path().to_string();
    let mut body = request.into_body();
    if path == "/echo" || path == "/whole" {
        let first = body.frame().await.unwrap();
        begun.fetch_add(1, Ordering::SeqCst);
        let body = stream::iter([first]).chain(BodyStream::new(body));
        let body = match path.as_str() {
            "/echo" => streamed(body),
            _ => whole(streamed(body).collect().await.unwrap().to_bytes()),
        };
        return HyperResponse::new(body);
    }
    drop(body.collect().await);
    let frame = Frame::data(Bytes::from_static(b"hello"));
    if path == "/broken" {
        let frames = streamed(stream::iter([Ok(frame)]));
        let response = HyperResponse::builder().header("content-length", "10");
        return response.body(frames).unwrap();
    }
    let mut sum = HeaderMap::new();
    sum.insert("x-sum", "7".parse().unwrap());
    let frames = streamed(stream::iter([Ok(frame), Ok(Frame::trailers(sum))]));
    let response = HyperResponse::builder().header("trailer", "x-sum");
    response.body(frames).unwrap()
}

/// A request that is in the middle of its body, and whose answer has begun or not.
struct Sibling {
    say: mpsc::Sender<hyper::Result<Frame<Bytes>>>,
    answer: JoinHandle<Bytes>,
}

impl Sibling {
    /// Returns when nothing is on its way any more.
    async fn begin(mut client: AnyClient, path: &str) -> Self {
        let (mut say, said) = mpsc::channel(8);
        let mut request = post(&client, path);
        *request.body_mut() = streamed(said);
        say.send(Ok(Frame::data(Bytes::from_static(b"one "))))
            .await
            .unwrap();
        let answer = match path {
            "/echo" => {
                let mut body = client.send(request).await.into_body();
                let first = body.frame().await.unwrap().unwrap();
                let first = first.into_data().unwrap();
                tokio::spawn(async move {
                    let rest = body.collect().await.unwrap().to_bytes();
                    drop(client);
                    [first, rest].concat().into()
                })
            }
            _ => tokio::spawn(async move {
                let body = client.send(request).await.into_body();
                body.collect().await.unwrap().to_bytes()
            }),
        };
        Sibling { say, answer }
    }

    async fn end(mut self, case: &str) {
        let last = Frame::data(Bytes::from_static(b"two"));
        self.say.send(Ok(last)).await.unwrap();
        drop(self.say);
        assert_eq!(self.answer.await.unwrap(), "one two", "{case}");
    }
}

const PATHS: [&str; 2] = ["/echo", "/whole"];

/// Phases, with a request that gets there, and what its client may get: a status, or the end of what had begun.
type Case = (
    &'static [&'static str],
    &'static str,
    &'static [Option<u16>],
);

const PHASES: [Case; 4] = [
    (&BEFORE_THE_ANSWER, "/", &[Some(500)]),
    (
        &["error_while_proxy", "fail_to_proxy"],
        "/broken",
        &[None, Some(500)],
    ),
    (
        &[
            "upstream_response_body_filter",
            "upstream_response_trailer_filter",
            "response_body_filter",
            "response_trailer_filter",
        ],
        "/",
        &[None, Some(500)],
    ),
    (
        &["logging", "persist_connection_context"],
        "/",
        &[Some(200)],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_go_on() {
    for upstream in [Speaks::H1, Speaks::H2] {
        let begun = Arc::new(AtomicUsize::new(0));
        let origin = AnyOrigin::start(upstream, {
            let begun = begun.clone();
            move |request| answer(request, begun.clone())
        });
        let mut peer = origin.peer();
        // For the siblings, and one that ends while another begins: a stream that is counted for ever is one too many.
        peer.options.max_h2_streams = 2 * PATHS.len() + 2;
        let app = Recorder {
            peers: vec![peer],
            ..Recorder::default()
        };
        let (proxy, calls) = start(Speaks::H2, app);
        let holders = calls.holders();
        let AnyClient::H2(streams) = AnyClient::connect(Speaks::H2, &proxy).await else {
            unreachable!("it was asked for");
        };
        let mut siblings = Vec::new();
        for path in PATHS {
            let client = AnyClient::connect(Speaks::H1, &proxy).await;
            siblings.push(Sibling::begin(client, path).await);
            let client = AnyClient::H2(streams.clone());
            siblings.push(Sibling::begin(client, path).await);
        }
        let count = siblings.len();
        eventually("all have begun", || begun.load(Ordering::SeqCst) == count);

        for (phases, path, may_get) in PHASES {
            for phase in phases {
                for downstream in [Speaks::H1, Speaks::H2] {
                    let case = format!("{phase}, {downstream:?} to {upstream:?}");
                    let mut client = match downstream {
                        Speaks::H1 => AnyClient::connect(Speaks::H1, &proxy).await,
                        _ => AnyClient::H2(streams.clone()),
                    };
                    calls.panic_once(phase);
                    let got = send(&mut client, path).await.map(|got| got.status);
                    assert!(may_get.contains(&got), "{case}: {got:?}");
                    eventually(&case, || calls.has_panicked());
                }
            }
        }
        let case = format!("to {upstream:?}");
        for sibling in siblings {
            sibling.end(&case).await;
        }

        // What requests count by what they own, as limits do, and the connections of clients.
        eventually("no request is counted", || calls.holders() == holders);
        eventually("one connection is open", || proxy.open() == 1);
        // And the connections to the origin.
        let mut client = AnyClient::H2(streams);
        for _ in 0..2 {
            calls.take_to("logging");
            assert_eq!(send(&mut client, "/").await.unwrap().body, "hello");
        }
        let last = calls.take_to("logging");
        let reused = last
            .iter()
            .any(|call| call == "connected_to_upstream reused");
        assert!(reused, "{last:?}");
        if let AnyOrigin::H2(origin) = &origin {
            assert_eq!(origin.accepted(), 1);
        }
    }
}
