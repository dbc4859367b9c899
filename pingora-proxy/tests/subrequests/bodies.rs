//! Request bodies of subrequests.

use super::h2_origin::*;
use super::*;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response as HyperResponse;

/// A peer of either version that answers with the body it got, and its path.
pub(crate) enum Echo {
    H1(Origin),
    H2(H2Origin),
}

async fn echo(request: hyper::Request<hyper::body::Incoming>) -> HyperResponse<Stub> {
    let path = request.uri().path().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    HyperResponse::new(whole([path.as_bytes(), b":", &body[..]].concat()))
}

impl Echo {
    pub(crate) fn both() -> [Echo; 2] {
        [
            Echo::H1(Origin::scripted(|mut wire, _| {
                while wire.has_more() {
                    let asked = wire.read_message();
                    let path = asked.head.split(' ').nth(1).unwrap();
                    let body = format!("{path}:{}", asked.text());
                    wire.send(format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    ));
                }
            })),
            Echo::H2(H2Origin::hyper(echo)),
        ]
    }

    pub(crate) fn peer(&self) -> HttpPeer {
        match self {
            Echo::H1(origin) => forward_to(origin.path()).peer,
            Echo::H2(origin) => h2_peer(&origin.path()),
        }
    }
}

const COUNTED: &str = "POST /page HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
const CHUNKED: &str = "POST /page HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
    2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n";

#[test]
fn a_saved_body_can_be_sent_again() {
    for origin in Echo::both() {
        let (app, _) = app(origin.peer(), |session, _| {
            Box::pin(async {
                let (subrequest, handle) = prepare(session, "/first", BodyMode::ExpectBody);
                let mut first = Vec::new();
                let look = |task: HttpTask| {
                    first.extend_from_slice(data(&task));
                    Ok(None)
                };
                let save = InputBodyType::SaveBody(100);
                let done = pipe_subrequest(session, subrequest, handle, look, save).await;
                assert_eq!(first, b"/first:body");
                let saved = done.unwrap().saved_body.unwrap();
                assert!(saved.is_body_complete());
                let again = InputBodyType::Preset(saved.into());
                let done = pipe(session, "/second", again).await;
                done.map(|_| true).map_err(|e| e.error)
            })
        });
        let proxy = Proxy::start(app);
        for ask in [COUNTED, CHUNKED] {
            let mut client = proxy.connect();
            client.send(ask);
            assert_eq!(client.read_response().text(), "/second:body");
        }
    }
}

#[test]
fn a_body_that_is_too_long_to_be_saved_goes_through() {
    let [origin, _] = Echo::both();
    let (app, _) = app(origin.peer(), |session, _| {
        Box::pin(async {
            let done = pipe(session, "/", InputBodyType::SaveBody(3)).await;
            assert!(!done.unwrap().saved_body.unwrap().is_body_complete());
            Ok(true)
        })
    });
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(COUNTED);
    assert_eq!(client.read_response().text(), "/:body");
}

#[test]
fn a_body_of_ones_own() {
    for origin in Echo::both() {
        let (app, _) = app(origin.peer(), |session, _| {
            Box::pin(async {
                let (mut subrequest, handle) = prepare(session, "/", BodyMode::ExpectBody);
                let request = subrequest.session_mut().req_header_mut();
                request.set_method(http::Method::PUT);
                request.insert_header("content-length", "6").unwrap();
                let pieces = ["own", "", "own"].map(|p| Bytes::from_static(p.as_bytes()));
                let body = InputBodyType::Preset(InputBody::Bytes(pieces.into()));
                pipe_subrequest(session, subrequest, handle, |t| Ok(Some(t)), body)
                    .await
                    .unwrap();
                Ok(true)
            })
        });
        let proxy = Proxy::start(app);
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.read_response().text(), "/:ownown");
    }
}

#[test]
fn a_body_that_was_read_ahead() {
    let [origin, _] = Echo::both();
    let (app, _) = app(origin.peer(), |session, _| {
        Box::pin(async {
            session.buffer_request_body(100).await?;
            let done = pipe(session, "/", InputBodyType::SaveBody(100)).await;
            let saved = done.unwrap().saved_body.unwrap();
            assert!(saved.is_body_complete());
            Ok(true)
        })
    });
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(COUNTED);
    assert_eq!(client.read_response().text(), "/:body");
}

/// The client is not asked for a body that the subrequest has no use for.
#[test]
fn without_a_use_for_it_no_body_is_read() {
    let (app, _) = app(forward_to("/nowhere".into()).peer, |session, _| {
        Box::pin(async {
            let done = pipe(session, "/", InputBodyType::SaveBody(100)).await;
            let e = done.unwrap_err();
            assert!(e.from_subreq);
            assert_eq!(session.body_bytes_read(), 0);
            assert!(!e.state.saved_body.unwrap().is_body_complete());
            Ok(true)
        })
    });
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(COUNTED);
    assert_eq!(client.read_response().status(), 502);
}

/// An upstream that fails after it has read the body is followed by another try, with what was kept.
#[test]
fn a_body_is_kept_for_a_retry() {
    let origin = Origin::scripted(|mut wire, number| {
        while wire.has_more() {
            let asked = wire.read_message();
            assert_eq!(asked.text(), "body");
            // A connection that was used before may close at any time.
            if number == 0 && asked.head.starts_with("PUT /second") {
                return;
            }
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let (app, _) = app(forward_to(origin.path()).peer, |session, _| {
        Box::pin(async {
            let path = session.req_header().uri.path().to_string();
            let done = pipe(session, &path, InputBodyType::SaveBody(100)).await;
            done.map(|_| true).map_err(|e| e.error)
        })
    });
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for path in ["/first", "/second"] {
        client.send(format!(
            "PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
        ));
        assert_eq!(client.read_response().text(), "ok");
    }
    assert_eq!(origin.accepted(), 2);
}

/// Both directions flow at once: an origin that answers as it reads stops neither.
#[test]
fn no_direction_waits_for_the_other() {
    const PIECES: usize = 400;
    let piece = "x".repeat(16 * 1024);
    let origin = Origin::scripted({
        let piece = piece.clone();
        move |mut wire, _| {
            wire.read_head();
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let mut answered = 0;
            loop {
                // The proxy may cut the pieces anew.
                let line = wire.read_until("\r\n");
                let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
                answered += wire.read_exact(size + 2).len() - 2;
                if size == 0 {
                    break;
                }
                while answered >= piece.len() {
                    answered -= piece.len();
                    wire.send(format!("4000\r\n{piece}\r\n"));
                }
            }
            wire.send("0\r\n\r\n");
        }
    });
    let (app, _) = app(forward_to(origin.path()).peer, |session, _| {
        Box::pin(async {
            let done = pipe(session, "/", InputBodyType::SaveBody(0)).await;
            done.map(|_| true).map_err(|e| e.error)
        })
    });
    let proxy = Proxy::start(app);
    let stream = std::os::unix::net::UnixStream::connect(proxy.path()).unwrap();
    let mut sender = Wire::new(stream.try_clone().unwrap());
    let mut client = Wire::new(stream);
    sender.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    sender.send(format!("4000\r\n{piece}\r\n"));
    assert!(client.read_head().starts_with("HTTP/1.1 200"));
    let mut rest = String::new();
    let next = format!("4000\r\n{piece}\r\n");
    let sends = std::thread::spawn(move || {
        for _ in 1..PIECES {
            sender.send(&next);
        }
        sender.send("0\r\n\r\n");
    });
    while !rest.ends_with("\r\n0\r\n\r\n") {
        rest.push_str(&client.read_until("\r\n"));
    }
    sends.join().unwrap();
    assert_eq!(rest.matches('x').count(), PIECES * piece.len());
}
