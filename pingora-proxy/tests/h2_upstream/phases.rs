//! Each phase of `ProxyHttp`: that it is called, when, how often and with what, for clients and origins of every kind.
//!
//! The phases of a cache that is on, of subrequests and of custom messages are not among them.

mod beside;
mod recorder;

use super::common::custom::{custom_peer, read_frame, write_frame};
use super::common::h2_origin::*;
use super::common::*;
use super::pairs::{for_client, streamed, AnyClient, Speaks, CLIENTS, ORIGINS};
use bytes::Bytes;
use h2::Reason;
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::header::HeaderMap;
use hyper::Request;
use pingora_core::upstreams::peer::HttpPeer;
use recorder::{log_warnings, Calls, Recorder, Turn};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};

/// An origin of any kind that reads a request to its end, and answers with an interim head, a head, a body and a
/// trailer; or gives the request up then.
enum AnyOrigin {
    H1(Origin),
    H2(H2Origin),
    Custom(TempDir),
}

const H1_ANSWER: &str = "HTTP/1.1 103 Early Hints\r\n\r\n\
    HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n";

impl AnyOrigin {
    fn start(speaks: Speaks, gives_up: bool) -> Self {
        if speaks.is_custom() {
            return AnyOrigin::Custom(frames_origin(gives_up));
        }
        if speaks == Speaks::H1 {
            return AnyOrigin::H1(Origin::scripted(move |mut wire, _| {
                while wire.has_more() {
                    // A request that fails on its way may come in part.
                    let head = wire.read_until("\r\n\r\n");
                    for _ in BODY {
                        if !wire.has_more() {
                            assert!(head.contains("/cut"));
                            return;
                        }
                        wire.read_exact(1);
                    }
                    if gives_up {
                        return;
                    }
                    wire.send_if_taken(H1_ANSWER).unwrap_or_default();
                }
            }));
        }
        AnyOrigin::H2(H2Origin::streams(
            move |request, mut respond, _| async move {
                let mut body = request.into_body();
                while let Some(Ok(_)) = body.data().await {}
                if gives_up {
                    return respond.send_reset(Reason::INTERNAL_ERROR);
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", "7".parse().unwrap());
                // A proxy that has given the stream up takes none of it.
                drop(respond.send_informational(status(103)));
                if let Ok(mut send) = respond.send_response(status(200), false) {
                    drop(send.send_data(Bytes::from_static(b"hello"), false));
                    drop(send.send_trailers(trailers));
                }
            },
        ))
    }

    fn peer(&self) -> HttpPeer {
        match self {
            AnyOrigin::H1(origin) => forward_to(origin.path()).peer,
            AnyOrigin::H2(origin) => h2_peer(&origin.path()),
            AnyOrigin::Custom(dir) => custom_peer(&dir.path().join("origin")),
        }
    }
}

/// An origin of frames, in a folder of its own; it ends with the runtime.
fn frames_origin(gives_up: bool) -> TempDir {
    let dir = TempDir::new().unwrap();
    let listener = UnixListener::bind(dir.path().join("origin")).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_frames(stream, gives_up));
        }
    });
    dir
}

async fn answer_frames(mut stream: UnixStream, gives_up: bool) {
    while let Some((kind, _)) = read_frame(&mut stream).await {
        let answer: &[(u8, &str)] = match kind {
            b'E' if gives_up => &[(b'R', "")],
            b'E' => &[
                (b'H', "103\n"),
                (b'H', "200\n"),
                (b'D', "hello"),
                (b'T', "x-sum: 7\n"),
            ],
            _ => &[],
        };
        for (kind, payload) in answer {
            // A proxy that has given the exchange up takes none of it.
            if write_frame(&mut stream, *kind, payload.as_bytes())
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

const BODY: &[u8] = b"2\r\nab\r\n0\r\n\r\n";

/// A request with a body of two bytes and an unknown length.
fn post(client: &AnyClient, path: &str) -> Request<Stub> {
    let mut post = request("POST", path, "");
    post.headers_mut().insert("te", "trailers".parse().unwrap());
    if matches!(client, AnyClient::H1(_)) {
        let option = "te".parse().unwrap();
        post.headers_mut().insert("connection", option);
    }
    let frames = [Ok(Frame::data(Bytes::from_static(b"ab")))];
    *post.body_mut() = streamed(futures::stream::iter(frames));
    post
}

/// What a client got.
struct Got {
    status: u16,
    /// Whether it was told that the connection closes, as it can be in HTTP/1.1.
    closes: bool,
    body: String,
    trailer: Option<String>,
}

/// `None` when it broke off.
async fn send(client: &mut AnyClient, path: &str) -> Option<Got> {
    let post = post(client, path);
    let response = client.try_send(post).await.ok()?;
    let status = response.status().as_u16();
    let closes = response.headers().get("connection");
    let closes = closes.is_some_and(|option| option == "close");
    let body = response.into_body().collect().await.ok()?;
    let trailer = body.trailers().and_then(|t| t.get("x-sum"));
    let trailer = trailer.map(|sum| sum.to_str().unwrap().to_string());
    let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    Some(Got {
        status,
        closes,
        body,
        trailer,
    })
}

fn start(downstream: Speaks, app: Recorder) -> (Proxy, Calls) {
    log_warnings();
    let calls = app.calls.clone();
    let proxy = Proxy::start_with(for_client(downstream), app);
    assert_eq!(
        calls.take_to("init_downstream_modules"),
        ["init_downstream_modules"]
    );
    (proxy, calls)
}

/// The calls up to an upstream, of a request without a predecessor.
const BEFORE: [&str; 8] = [
    "new_ctx",
    "early_request_filter POST /",
    "allow_spawning_subrequest",
    "module: request_header_filter",
    "request_filter",
    "request_cache_filter",
    "is_purge",
    "proxy_upstream_filter",
];
const END: [&str; 2] = ["logging 200 5", "persist_connection_context"];

/// The calls of a try with such sides, up to the answer.
fn one_try(number: usize, reused: &str, (downstream, upstream): (Speaks, Speaks)) -> Vec<String> {
    let version = if upstream == Speaks::H2 {
        "HTTP/2.0"
    } else {
        "HTTP/1.1"
    };
    let mut calls = vec![
        format!("upstream_peer {number}"),
        format!("connected_to_upstream {reused}"),
        format!("upstream_request_filter {version}"),
    ];
    if downstream.is_custom() || upstream.is_custom() {
        calls.push(format!("custom_forwarding {}", upstream.is_custom()));
    }
    calls.push("module: request_body_filter 2 end".into());
    calls.push("request_body_filter 2 end".into());
    calls
}

const RESPONSE: [&str; 13] = [
    "upstream_response_filter 103",
    "response_filter 103",
    "module: response_header_filter 103",
    "upstream_response_filter 200",
    "upstream_response_decision 200",
    "response_filter 200",
    "module: response_header_filter 200",
    "upstream_response_body_filter 5",
    "response_body_filter 5",
    "module: response_body_filter 5",
    "upstream_response_trailer_filter 7",
    "response_trailer_filter 8",
    "module: response_trailer_filter 9",
];

fn strings(lines: &[&str]) -> Vec<String> {
    lines.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_goes_through_all_of_them() {
    for downstream in CLIENTS {
        for upstream in ORIGINS {
            let pair = format!("{downstream:?} to {upstream:?}");
            let origin = AnyOrigin::start(upstream, false);
            let (proxy, calls) = start(
                downstream,
                Recorder {
                    peers: vec![origin.peer()],
                    ..Recorder::default()
                },
            );
            let mut client = AnyClient::connect(downstream, &proxy).await;
            for reused in ["new", "reused"] {
                let got = send(&mut client, "/").await.unwrap();
                assert_eq!((got.status, got.body.as_str()), (200, "hello"), "{pair}");
                assert_eq!(got.trailer.as_deref(), Some("9"), "{pair}");
                let mut expected = strings(&BEFORE);
                // A stream of HTTP/2 has no predecessor.
                if reused == "reused" && downstream == Speaks::H1 {
                    expected.insert(1, "on_connection_reuse kept".into());
                }
                expected.extend(one_try(1, reused, (downstream, upstream)));
                expected.extend(strings(&RESPONSE));
                expected.extend(strings(&END));
                assert_eq!(
                    calls.take_to("persist_connection_context"),
                    expected,
                    "{pair}"
                );
            }
            drop(client);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_may_become_the_end_of_the_body() {
    for downstream in CLIENTS {
        for upstream in ORIGINS {
            for turn in [Turn::TrailersBecomeBody, Turn::TrailersFail] {
                let case = format!("{turn:?}, {downstream:?} to {upstream:?}");
                let origin = AnyOrigin::start(upstream, false);
                let (proxy, calls) = start(
                    downstream,
                    Recorder {
                        peers: vec![origin.peer()],
                        turn,
                        ..Recorder::default()
                    },
                );
                let mut client = AnyClient::connect(downstream, &proxy).await;
                let got = send(&mut client, "/").await.unwrap();
                let mut calls = calls.take_to("persist_connection_context");
                calls.retain(|call| !call.starts_with("module: "));
                let at = calls
                    .iter()
                    .position(|call| call == "response_trailer_filter 8");
                let after = &calls[at.unwrap() + 1..];
                assert_eq!(after[after.len() - 2..], END, "{case}");
                if turn == Turn::TrailersFail {
                    // Nothing but a line in the log comes of it.
                    assert_eq!(after[0], "request_summary", "{case}");
                    assert_eq!(got.body, "hello", "{case}");
                    assert_eq!(got.trailer.as_deref(), Some("9"), "{case}");
                } else {
                    assert_eq!(got.body, "hello and a sum", "{case}");
                    assert_eq!(got.trailer, None, "{case}");
                    assert_eq!(after.len(), 2, "{case}: {after:?}");
                }
            }
        }
    }
}

/// Connecting fails, then an exchange does, and the third origin answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_try_has_its_own() {
    for downstream in CLIENTS {
        for upstream in ORIGINS {
            let pair = format!("{downstream:?} to {upstream:?}");
            let gives_up = AnyOrigin::start(upstream, true);
            let answers = AnyOrigin::start(upstream, false);
            let (proxy, calls) = start(
                downstream,
                Recorder {
                    peers: vec![nobody(), gives_up.peer(), answers.peer()],
                    ..Recorder::default()
                },
            );
            let mut client = AnyClient::connect(downstream, &proxy).await;
            let got = send(&mut client, "/").await.unwrap();
            assert_eq!((got.status, got.body.as_str()), (200, "hello"), "{pair}");
            let again = ["suppress_proxy_warn_log UpstreamRetry", "request_summary"];
            let expected = [
                strings(&BEFORE),
                strings(&["upstream_peer 1", "fail_to_connect Upstream"]),
                strings(&again),
                one_try(2, "new", (downstream, upstream)),
                strings(&["error_while_proxy new"]),
                strings(&again),
                one_try(3, "new", (downstream, upstream)),
                strings(&RESPONSE),
                strings(&END),
            ];
            assert_eq!(
                calls.take_to("persist_connection_context"),
                expected.concat(),
                "{pair}"
            );
            drop(client);
        }
    }
}

/// Where nobody listens.
fn nobody() -> HttpPeer {
    HttpPeer::new_uds("/nonexistent/socket", false, String::new()).unwrap()
}

/// How a request ends that does not go its whole way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_may_end_the_request() {
    const BEGUN: usize = 5;
    /// The phases of a failure, and whether the connection may go on after it.
    const FAILED: [&str; 4] = [
        "fail_to_proxy HTTPStatus",
        "suppress_error_log",
        "request_summary",
        "logging 418 0 error",
    ];
    let early = [&FAILED[..], &["persist_connection_context"]].concat();
    let late = FAILED.to_vec();
    let while_proxying = [&["error_while_proxy new"][..], &FAILED].concat();
    let answered = |status| vec![status, "persist_connection_context"];
    let purged = |status| {
        [
            &BEFORE[BEGUN..7],
            &["purge_response_filter NoCache 405", status],
            &["persist_connection_context"],
        ]
        .concat()
    };
    // The turn, how many of the first phases were called, the phases that follow, and the status.
    let table: Vec<(Turn, usize, Vec<&str>, u16)> = vec![
        (Turn::EarlyFails, 2, early.clone(), 418),
        (Turn::RequestFails, BEGUN, early.clone(), 418),
        (Turn::Answers, BEGUN, answered("logging 203 0"), 203),
        (Turn::Purges, BEGUN, purged("logging 405 0"), 405),
        (Turn::PurgeFails, BEGUN, purged("logging 500 0"), 500),
        (Turn::GoesNowhere, 8, answered("logging 502 0"), 502),
        (Turn::UpstreamFails, 8, early, 418),
        (Turn::PeerFails, 9, late.clone(), 418),
        (Turn::ConnectedFails, 10, while_proxying.clone(), 418),
        (Turn::RequestHeadFails, 11, while_proxying, 418),
    ];
    for downstream in CLIENTS {
        for upstream in ORIGINS {
            for (turn, before, after, status) in &table {
                let case = format!("{turn:?}, {downstream:?} to {upstream:?}");
                let origin = AnyOrigin::start(upstream, false);
                let (proxy, calls) = start(
                    downstream,
                    Recorder {
                        peers: vec![origin.peer()],
                        turn: *turn,
                        ..Recorder::default()
                    },
                );
                let mut client = AnyClient::connect(downstream, &proxy).await;
                let got = send(&mut client, "/").await.unwrap();
                assert_eq!(got.status, *status, "{case}");
                let whole = [strings(&BEFORE), one_try(1, "new", (downstream, upstream))].concat();
                let of_module = |call: &String| call.starts_with("module: response_");
                let mut got = calls.take_to(after[after.len() - 1].split(' ').next().unwrap());
                got.retain(|call| !of_module(call));
                assert_eq!(got[..*before], whole[..*before], "{case}");
                assert_eq!(got[*before..], *after, "{case}");
            }
        }
    }
}

/// The same for those that see a message that is on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_may_break_the_exchange_off() {
    let table = [
        (Turn::RequestBodyFails, "request_body_filter 2"),
        (Turn::UpstreamHeadFails, "upstream_response_filter 103"),
        (Turn::HeadFails, "response_filter 103"),
        (Turn::UpstreamBodyFails, "upstream_response_body_filter 5"),
        (Turn::BodyFails, "response_body_filter 5"),
        (
            Turn::UpstreamTrailersFail,
            "upstream_response_trailer_filter 7",
        ),
    ];
    for downstream in CLIENTS {
        for upstream in ORIGINS {
            for (turn, last) in table {
                let case = format!("{turn:?}, {downstream:?} to {upstream:?}");
                let path = if turn == Turn::RequestBodyFails {
                    "/cut"
                } else {
                    "/"
                };
                let origin = AnyOrigin::start(upstream, false);
                let (proxy, calls) = start(
                    downstream,
                    Recorder {
                        peers: vec![origin.peer()],
                        turn,
                        ..Recorder::default()
                    },
                );
                let mut client = AnyClient::connect(downstream, &proxy).await;
                let got = send(&mut client, path).await;
                let begun = matches!(
                    turn,
                    Turn::UpstreamBodyFails | Turn::BodyFails | Turn::UpstreamTrailersFail
                );
                match got {
                    None => assert!(begun, "{case}"),
                    Some(got) => assert!(!begun && got.status == 418, "{case}"),
                }
                let mut calls = calls.take_to("logging");
                calls.retain(|call| !call.starts_with("module: response_"));
                let (before, after) = calls.split_at(calls.len() - 5);
                let at = before.last().unwrap();
                assert!(at.starts_with(last), "{case}: {at}");
                assert_eq!(
                    after[..4],
                    [
                        "error_while_proxy new",
                        "fail_to_proxy HTTPStatus",
                        "suppress_error_log",
                        "request_summary"
                    ],
                    "{case}"
                );
                assert!(after[4].ends_with(" error"), "{case}: {}", after[4]);
            }
        }
    }
}

/// An error of the phase that turns the cache on is logged, and the request goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_may_fail() {
    for downstream in CLIENTS {
        for upstream in ORIGINS {
            let origin = AnyOrigin::start(upstream, false);
            let (proxy, calls) = start(
                downstream,
                Recorder {
                    peers: vec![origin.peer()],
                    turn: Turn::CacheFails,
                    ..Recorder::default()
                },
            );
            let mut client = AnyClient::connect(downstream, &proxy).await;
            let got = send(&mut client, "/").await.unwrap();
            assert_eq!(got.status, 200);
            let calls = calls.take_to("persist_connection_context");
            assert_eq!(
                calls[5..8],
                ["request_cache_filter", "request_summary", "is_purge"]
            );
            assert_eq!(calls[calls.len() - 2..], END);
        }
    }
}

/// The phases that come before anything of the answer has been sent.
const BEFORE_THE_ANSWER: [&str; 16] = [
    "new_ctx",
    "early_request_filter",
    "allow_spawning_subrequest",
    "module: request_header_filter",
    "request_filter",
    "request_cache_filter",
    "is_purge",
    "proxy_upstream_filter",
    "upstream_peer",
    "connected_to_upstream",
    "upstream_request_filter",
    "module: request_body_filter",
    "request_body_filter",
    "upstream_response_filter",
    "response_filter",
    "module: response_header_filter",
];

/// A phase that panics costs its request and its connection. The client learns of it, as long as nothing else was said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_may_panic() {
    let failed = ["error_while_proxy", "fail_to_proxy"];
    let after_its_head = ["response_body_filter", "response_trailer_filter"];
    let after_it = ["logging", "persist_connection_context"];
    let table = [
        (&BEFORE_THE_ANSWER[..], Turn::None, Some(500)),
        (&failed, Turn::RequestHeadFails, Some(500)),
        (&after_its_head, Turn::None, None),
        (&after_it, Turn::None, Some(200)),
    ];
    for downstream in CLIENTS {
        for upstream in ORIGINS {
            for (phases, turn, status) in &table {
                for phase in *phases {
                    let case = format!("{phase}, {downstream:?} to {upstream:?}");
                    let origin = AnyOrigin::start(upstream, false);
                    let (proxy, _) = start(
                        downstream,
                        Recorder {
                            peers: vec![origin.peer()],
                            turn: *turn,
                            calls: Calls::that_panic(phase),
                        },
                    );
                    // The worker goes on to serve others.
                    for _ in 0..2 {
                        let mut client = AnyClient::connect(downstream, &proxy).await;
                        let got = send(&mut client, "/cut").await;
                        let got = got.map(|got| {
                            let says_so = got.closes || downstream != Speaks::H1;
                            assert!(got.status != 500 || says_so, "{case}");
                            got.status
                        });
                        assert_eq!(got, *status, "{case}");
                    }
                }
            }
        }
    }
}
