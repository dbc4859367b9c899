//! Subrequests without a client.

use super::*;
use pingora_cache::key::CacheKey;
use pingora_cache::lock::{CacheKeyLockImpl, CacheLock, LockStatus, Locked};
use std::sync::{mpsc, LazyLock};
use std::time::Duration;

const GET: &str = "GET /page HTTP/1.1\r\nHost: a.test\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

async fn answer(session: &mut Session) -> Result<bool> {
    session.respond_error(404).await?;
    Ok(true)
}

/// An origin that answers when it is told to.
fn held() -> (Origin, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (asked, asks) = mpsc::channel();
    let (go, goes) = mpsc::channel();
    let goes = Mutex::new(goes);
    let origin = Origin::scripted(move |mut wire, _| {
        while wire.has_more() {
            let request = wire.read_message();
            assert!(request.body.is_empty());
            assert!(matches!(request.field("Content-Length"), None | Some("0")));
            asked.send(()).unwrap();
            goes.lock().unwrap().recv().unwrap();
            wire.send(OK);
        }
    });
    (origin, asks, go)
}

fn in_background<'a>(session: &'a mut Session, _: &'a Seen) -> BoxFuture<'a, Result<bool>> {
    let spawner = session.subrequest_spawner.as_ref().unwrap();
    let ctx = Ctx::builder().user_ctx(Box::new("mine")).build();
    spawner.spawn_background_subrequest(session.as_downstream(), ctx);
    Box::pin(answer(session))
}

#[test]
fn it_outlives_its_parent() {
    let (origin, asks, go) = held();
    let (app, seen) = app(forward_to(origin.path()).peer, in_background);
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    // A body of the parent is not the subrequest's.
    client.send("POST /page HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(client.read_response().status(), 404);
    drop(client);
    asks.recv_timeout(PATIENCE).unwrap();
    seen.has("client /page 404");
    go.send(()).unwrap();
    seen.has("sub /page 200");
}

#[test]
fn a_shutdown_waits_for_it() {
    let (origin, asks, go) = held();
    let (app, seen) = app(forward_to(origin.path()).peer, in_background);
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(GET);
    assert_eq!(client.read_response().status(), 404);
    drop(client);
    asks.recv_timeout(PATIENCE).unwrap();
    proxy.begin_shutdown();
    eventually("it listens no more", || {
        std::os::unix::net::UnixStream::connect(proxy.path()).is_err()
    });
    go.send(()).unwrap();
    proxy.wait();
    seen.has("sub /page 200");
}

#[test]
fn a_panic_stays_there() {
    let origin = Origin::answering(OK);
    let (app, _) = app(forward_to(origin.path()).peer, |session, seen| {
        Box::pin(async move {
            let (subrequest, handle) = prepare(session, "/panic", BodyMode::NoBody);
            let error = handle.subreq_proxy_error;
            subrequest.run().await;
            let error = error.await.unwrap();
            seen.add(error.etype.as_str());
            answer(session).await
        })
    });
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(GET);
    assert_eq!(client.read_response().status(), 404);
}

static LOCK: LazyLock<CacheLock> = LazyLock::new(|| CacheLock::new(Duration::from_secs(60)));

/// Answers once the lock that its subrequest brings is released.
fn hands_lock_over<'a>(session: &'a mut Session, _: &'a Seen) -> BoxFuture<'a, Result<bool>> {
    Box::pin(async {
        let path = session.req_header().uri.path();
        let key = CacheKey::new(path, "");
        let lock: &'static CacheKeyLockImpl = &*LOCK;
        let Locked::Write(permit) = lock.lock(&key, false) else {
            panic!("it is locked");
        };
        let Locked::Read(reader) = lock.lock(&key, false) else {
            panic!("it is not locked");
        };
        let ctx = Ctx::builder().cache_write_lock(lock, key.clone(), permit);
        let spawner = session.subrequest_spawner.as_ref().unwrap();
        spawner.spawn_background_subrequest(session.as_downstream(), ctx.build());
        reader.wait().await;
        let Locked::Write(permit) = lock.lock(&key, false) else {
            panic!("it is locked still");
        };
        lock.release(&key, permit, LockStatus::Done);
        answer(session).await
    })
}

/// A lock that is handed over is released at the end, however it comes, for the next one to try.
#[test]
fn a_lock_that_nobody_takes_is_released() {
    for path in ["/ok", "/panic", "/nowhere"] {
        let origin = Origin::answering(OK);
        let (app, seen) = app(forward_to(origin.path()).peer, hands_lock_over);
        let proxy = Proxy::start(app);
        let mut client = proxy.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.read_response().status(), 404, "{path}");
        if path == "/ok" {
            // It may go on after its lock is released.
            seen.has("sub /ok 200");
        }
    }
}

/// Its cache is off, so that nobody has to wait for its upstream.
#[test]
fn a_lock_is_released_before_the_upstream_answers_a_subrequest_that_stores_nothing() {
    let (origin, asks, go) = held();
    let (app, seen) = app(forward_to(origin.path()).peer, hands_lock_over);
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send("GET /unstored HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_response().status(), 404);
    asks.recv_timeout(PATIENCE).unwrap();
    go.send(()).unwrap();
    seen.has("sub /unstored 200");
}
