//! Removing what is stored.

use crate::common::*;
use crate::fixture::*;
use async_trait::async_trait;
use http::{HeaderValue, StatusCode};
use pingora_cache::storage::PurgeAction;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, PurgeStatus, Session};
use std::borrow::Cow;
use std::time::SystemTime;

#[test]
fn an_entry_is_deleted_once() {
    let origin = Counting::answering(|_, _| ok("", "origin"));
    let app = Caching::to(&origin.origin);
    let storage = app.storage;
    store(storage, &key("/a"), &meta(60, "200"), "body");
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    let purged = ask(&mut client, "PURGE", "/a", "");
    assert_eq!(purged.status(), 200, "{}", purged.head);
    assert_eq!(purged.field("Content-Length"), Some("0"));
    assert!(stored(storage, &key("/a")).is_none());
    assert_eq!(ask(&mut client, "PURGE", "/a", "").status(), 404);
    assert_eq!(get(&mut client, "/a", "").text(), "origin");
    assert_eq!(origin.count(), 1, "a purge does not go upstream");
}

#[test]
fn an_entry_is_made_stale() {
    let origin = Counting::answering(|_, _| ok("", "origin"));
    let mut app = Caching::to(&origin.origin);
    app.purge = PurgeAction::Expire;
    let storage = app.storage;
    store(storage, &key("/a"), &meta(60, "200"), "body");
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    assert_eq!(ask(&mut client, "PURGE", "/a", "").status(), 200);
    let (meta, body) = stored(storage, &key("/a")).unwrap();
    assert!(!meta.is_fresh(SystemTime::now()));
    assert_eq!(body, "body");
    assert_eq!(ask(&mut client, "PURGE", "/b", "").status(), 404);
}

#[test]
fn what_has_no_key_cannot_be_purged() {
    let origin = Counting::answering(|_, _| ok("", "origin"));
    let mut app = Caching::to(&origin.origin);
    app.key = Box::new(|_| Err(Error::new(pingora_core::ErrorType::InternalError)));
    let proxy = Proxy::start(app);
    let answer = ask(&mut proxy.connect(), "PURGE", "/a", "");
    assert_eq!(answer.status(), 405);
    assert_eq!(answer.field("allow"), Some("GET, HEAD"));
}

/// Tells in the answer what became of a purge.
struct Telling(Caching);

#[async_trait]
impl ProxyHttp for Telling {
    type CTX = ();

    fn new_ctx(&self) {}

    fn is_purge(&self, _: &Session, _: &()) -> bool {
        true
    }

    fn request_cache_filter(&self, session: &mut Session, ctx: &mut ()) -> Result<()> {
        match session.req_header().uri.path() {
            "/off" => Ok(()),
            _ => self.0.request_cache_filter(session, ctx),
        }
    }

    fn cache_key_callback(
        &self,
        session: &Session,
        ctx: &mut (),
    ) -> Result<pingora_cache::CacheKey> {
        self.0.cache_key_callback(session, ctx)
    }

    fn purge_response_filter(
        &self,
        session: &Session,
        _: &mut (),
        status: PurgeStatus,
        response: &mut Cow<'static, ResponseHeader>,
    ) -> Result<()> {
        if session.req_header().uri.path() == "/fails" {
            return Error::e_explain(pingora_core::ErrorType::InternalError, "as asked");
        }
        let status = match status {
            PurgeStatus::Found => "found",
            PurgeStatus::NotFound => "not found",
            PurgeStatus::NoCache => "no cache",
            PurgeStatus::Error(_) => "error",
        };
        let response = response.to_mut();
        response.insert_header("purged", HeaderValue::from_static(status))?;
        if status == "not found" {
            response.set_status(StatusCode::NO_CONTENT)?;
        }
        Ok(())
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.0.peer.clone()))
    }
}

#[test]
fn the_answer_is_the_applications() {
    let origin = Counting::answering(|_, _| ok("", "origin"));
    let app = Caching::to(&origin.origin);
    store(app.storage, &key("/a"), &meta(60, "200"), "body");
    let proxy = Proxy::start(Telling(app));
    let mut client = proxy.connect();
    let rows = [
        ("/a", 200, Some("found")),
        ("/a", 204, Some("not found")),
        ("/off", 405, Some("no cache")),
        ("/fails", 500, None),
    ];
    for (path, status, told) in rows {
        let response = ask(&mut client, "POST", path, "");
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.field("purged"), told, "{path}");
    }
    assert_eq!(origin.count(), 0);
}
