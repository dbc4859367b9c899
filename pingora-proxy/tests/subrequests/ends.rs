//! How piped subrequests end when something fails.

use super::*;
use std::sync::{mpsc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

const GET: &str = "GET /page HTTP/1.1\r\nHost: a.test\r\n\r\n";

fn pipe_or_fail<'a>(session: &'a mut Session, seen: &'a Seen) -> BoxFuture<'a, Result<bool>> {
    Box::pin(async {
        let path = session.req_header().uri.path().to_string();
        match pipe(session, &path, no_body()).await {
            Ok(_) => Ok(true),
            Err(e) => {
                let whose = if e.from_subreq {
                    "subrequest"
                } else {
                    "parent"
                };
                let header = e.state.header_received;
                seen.add(format!(
                    "{whose}, header: {header}, {}",
                    e.error.etype.as_str()
                ));
                Err(e.error)
            }
        }
    })
}

#[test]
fn an_upstream_that_cannot_be_reached() {
    let (app, seen) = app(forward_to("/nowhere".into()).peer, pipe_or_fail);
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(GET);
    assert_eq!(client.read_response().status(), 502);
    seen.has("client /page 502 failed");
    let told = seen.all();
    assert_eq!(told[2], "sub /page 502 failed");
    assert!(
        told[3].starts_with("subrequest, header: true, "),
        "{told:?}"
    );
}

#[test]
fn an_upstream_that_fails_midway() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    });
    let (app, seen) = app(forward_to(origin.path()).peer, pipe_or_fail);
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(GET);
    assert!(client.read_head().starts_with("HTTP/1.1 200"));
    assert_eq!(client.read_to_end(), b"hello", "cut short, and closed");
    seen.has("client /page 200 failed");
    let told = seen.all();
    assert_eq!(told[2], "sub /page 200 failed");
    assert!(
        told[3].starts_with("subrequest, header: true, "),
        "{told:?}"
    );
}

/// The end of such a body would be all that tells the client that it is complete.
#[test]
fn an_upstream_that_fails_midway_in_a_chunked_body() {
    let (go, goes) = mpsc::channel::<()>();
    let goes = Mutex::new(goes);
    let origin = Origin::scripted(move |mut wire, _| {
        wire.read_message();
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        goes.lock().unwrap().recv().unwrap();
    });
    let (app, seen) = app(forward_to(origin.path()).peer, pipe_or_fail);
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(GET);
    assert!(client.read_head().starts_with("HTTP/1.1 200"));
    go.send(()).unwrap();
    assert_eq!(
        client.read_to_end(),
        b"5\r\nhello\r\n",
        "cut short, and closed"
    );
    seen.has("client /page 200 failed");
}

#[test]
fn a_panic_is_the_subrequests_own() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let (app, seen) = app(forward_to(origin.path()).peer, pipe_or_fail);
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_response().status(), 500);
    seen.has("subrequest, header: false, InternalError");
    seen.has("client /panic 500 failed");
    let mut client = proxy.connect();
    client.send(GET);
    assert_eq!(client.read_response().status(), 200);
}

#[test]
fn a_client_that_leaves_ends_it() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        wire.expect_end();
    });
    let (app, seen) = app(forward_to(origin.path()).peer, pipe_or_fail);
    let setup = Setup {
        tcp: true,
        ..Setup::default()
    };
    let proxy = Proxy::start_with(setup, app);
    let stream = std::net::TcpStream::connect(proxy.tcp()).unwrap();
    let mut client = Wire::over_tcp(stream.try_clone().unwrap());
    client.send(GET);
    client.read_until("hello");
    reset_on_close(&stream);
    drop((client, stream));
    seen.has("parent, header: true, ConnectionClosed");
    seen.has("sub /page 200 failed");
    seen.has("client /page 200 failed");
}

#[test]
fn a_parent_that_gives_up_ends_it() {
    static ASKED: Notify = Notify::const_new();
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        ASKED.notify_one();
        wire.expect_end();
    });
    let (app, seen) = app(forward_to(origin.path()).peer, |session, _| {
        Box::pin(async {
            tokio::select! {
                _ = pipe(session, "/", no_body()) => panic!("nobody answers"),
                () = ASKED.notified() => {}
            }
            session.respond_error(504).await?;
            Ok(true)
        })
    });
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(GET);
    assert_eq!(client.read_response().status(), 504);
    seen.has("sub / 0 failed");
}

/// A client that does not read stops the origin, so that memory is bounded.
#[test]
fn a_slow_client_stops_the_origin() {
    const LONG: usize = 64 << 20;
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n"));
        let mut sent = 0;
        while sent < LONG && wire.send_if_taken([b'x'; 1 << 16]).is_ok() {
            sent += 1 << 16;
            SENT.store(sent, std::sync::atomic::Ordering::SeqCst);
        }
    });
    static SENT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let sent = || SENT.load(std::sync::atomic::Ordering::SeqCst);
    let (app, _) = app(forward_to(origin.path()).peer, pipe_or_fail);
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(GET);
    client.read_head();
    let mut before = usize::MAX;
    // It comes to rest: nothing more is taken over a while.
    eventually("the origin is stopped", || {
        std::thread::sleep(Duration::from_millis(200));
        let now = sent();
        std::mem::replace(&mut before, now) == now
    });
    assert!(sent() < 8 << 20, "{} bytes are kept somewhere", sent());
    assert_eq!(client.read_exact(LONG).len(), LONG);
    drop(client);
}

/// A shutdown neither ends a subrequest nor keeps it from being made.
#[test]
fn a_shutdown_lets_it_finish() {
    use pingora_core::server::configuration::ShutdownPolicy;
    for policy in [ShutdownPolicy::Finish, ShutdownPolicy::Strict] {
        let (asked, asks) = mpsc::channel();
        let (go, goes) = mpsc::channel();
        let goes = Mutex::new(goes);
        let origin = Origin::scripted(move |mut wire, _| {
            while wire.has_more() {
                wire.read_message();
                asked.send(()).unwrap();
                goes.lock().unwrap().recv().unwrap();
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
            }
        });
        let (app, _) = app(forward_to(origin.path()).peer, |session, _| {
            Box::pin(async {
                let (subrequest, handle) = prepare(session, "/first", BodyMode::NoBody);
                let first =
                    pipe_subrequest(session, subrequest, handle, |_| Ok(None), no_body()).await;
                first.map_err(|e| e.error)?;
                let second = pipe(session, "/second", no_body()).await;
                second.map(|_| true).map_err(|e| e.error)
            })
        });
        let mut setup = Setup::default();
        setup.conf.shutdown_policy = policy;
        let proxy = Proxy::start_with(setup, app);
        let mut client = proxy.connect();
        client.send(GET);
        asks.recv_timeout(PATIENCE).unwrap();
        proxy.begin_shutdown();
        eventually("it listens no more", || {
            std::os::unix::net::UnixStream::connect(proxy.path()).is_err()
        });
        go.send(()).unwrap();
        asks.recv_timeout(PATIENCE).unwrap();
        go.send(()).unwrap();
        let response = client.read_response();
        assert_eq!((response.status(), response.text()), (200, "hello"));
        proxy.wait();
    }
}

/// Gives its response up, and tells why only a while later.
struct GivesUp;

#[async_trait]
impl pingora_proxy::Subrequest for GivesUp {
    async fn process_subrequest(
        self: Arc<Self>,
        mut session: Box<pingora_core::protocols::http::ServerSession>,
        _: Box<Ctx>,
    ) {
        session.shutdown().await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let why = Error::explain(pingora_core::HTTPStatus(418), "as it says");
        session.on_proxy_failure(why);
    }
}

#[tokio::test]
async fn the_error_of_a_subrequest_that_has_given_up_is_waited_for() {
    let (mut near, far) = tokio::io::duplex(1000);
    let mut parent = Session::new_h1(Box::new(far));
    let ask = tokio::io::AsyncWriteExt::write_all(&mut near, GET.as_bytes());
    ask.await.unwrap();
    assert!(parent.read_request().await.unwrap());
    let spawner = pingora_proxy::SubrequestSpawner::new(Arc::new(GivesUp));
    let ctx = Ctx::builder().build();
    let (subrequest, handle) = spawner.create_subrequest(parent.as_downstream(), ctx);
    let keep = |task| Ok(Some(task));
    let done = pipe_subrequest(&mut parent, subrequest, handle, keep, no_body()).await;
    let e = done.unwrap_err();
    assert!(e.from_subreq);
    assert_eq!(*e.error.etype(), pingora_core::HTTPStatus(418));
}
