//! Requests that an application makes on behalf of a request: piped to its client, or in the background.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod background;
mod bodies;
mod ends;
mod parents;
mod piped;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use common::*;
use futures::future::BoxFuture;
use pingora_core::protocols::http::subrequest::server::SubrequestHandle;
use pingora_core::protocols::http::HttpTask;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_proxy::subrequest::pipe::{
    pipe_subrequest, InputBody, InputBodyType, PipeSubrequestError, PipeSubrequestState,
};
use pingora_proxy::subrequest::{BodyMode, Ctx};
use pingora_proxy::{PreparedSubrequest, ProxyHttp, Session};

/// What an application does with the request of a client.
type Act = for<'a> fn(&'a mut Session, &'a Seen) -> BoxFuture<'a, Result<bool>>;

/// What happened, in its order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    #[track_caller]
    fn has(&self, what: &str) {
        eventually(what, || self.all().iter().any(|seen| seen == what));
    }
}

/// Makes subrequests of requests of clients, and sends subrequests to an upstream.
struct App {
    peer: HttpPeer,
    act: Act,
    seen: Seen,
}

fn app(peer: HttpPeer, act: Act) -> (App, Seen) {
    let seen = Seen::default();
    let app = App {
        peer,
        act,
        seen: seen.clone(),
    };
    (app, seen)
}

#[async_trait]
impl ProxyHttp for App {
    type CTX = ();

    fn new_ctx(&self) {
        self.seen.add("new_ctx");
    }

    fn allow_spawning_subrequest(&self, _: &Session, _: &()) -> bool {
        true
    }

    fn on_connection_reuse(
        &self,
        session: &mut Session,
        _: &mut (),
        _: Box<dyn std::any::Any + Send + Sync>,
    ) {
        assert!(!session.is_subrequest());
        self.seen.add("reused");
    }

    fn persist_connection_context(
        &self,
        _: &Session,
        _: &(),
    ) -> Option<Box<dyn std::any::Any + Send + Sync>> {
        Some(Box::new(()))
    }

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        assert_eq!(session.is_subrequest(), session.subrequest_ctx.is_some());
        if !session.is_subrequest() {
            return (self.act)(session, &self.seen).await;
        }
        assert_ne!(session.req_header().uri.path(), "/panic", "a phase panics");
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        if session.req_header().uri.path() == "/nowhere" {
            return Ok(Box::new(HttpPeer::new_uds(
                "/nowhere",
                false,
                String::new(),
            )?));
        }
        Ok(Box::new(self.peer.clone()))
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, _: &mut ()) {
        let who = if session.is_subrequest() {
            "sub"
        } else {
            "client"
        };
        let status = session.response_written().map_or(0, |r| r.status.as_u16());
        let failed = if e.is_some() { " failed" } else { "" };
        let path = session.req_header().uri.path();
        self.seen.add(format!("{who} {path} {status}{failed}"));
    }
}

/// A subrequest for `path`.
fn prepare(
    session: &Session,
    path: &str,
    body: BodyMode,
) -> (PreparedSubrequest, SubrequestHandle) {
    let spawner = session.subrequest_spawner.as_ref().expect("it is allowed");
    let ctx = Ctx::builder().body_mode(body).build();
    let (mut subrequest, handle) = spawner.create_subrequest(session.as_downstream(), ctx);
    let request = subrequest.session_mut().req_header_mut();
    request.set_raw_path(path.as_bytes()).unwrap();
    assert_eq!(
        subrequest.session().req_header().raw_path(),
        path.as_bytes()
    );
    (subrequest, handle)
}

/// Has a subrequest for `path` answer the client.
async fn pipe(
    session: &mut Session,
    path: &str,
    body: InputBodyType,
) -> Result<PipeSubrequestState, PipeSubrequestError> {
    let mode = match &body {
        InputBodyType::Preset(InputBody::NoBody) => BodyMode::NoBody,
        _ => BodyMode::ExpectBody,
    };
    let (subrequest, handle) = prepare(session, path, mode);
    pipe_subrequest(session, subrequest, handle, |task| Ok(Some(task)), body).await
}

fn no_body() -> InputBodyType {
    InputBodyType::Preset(InputBody::NoBody)
}

/// What of a body a message carries.
fn data(task: &HttpTask) -> &[u8] {
    match task {
        HttpTask::Body(Some(data), _) => data,
        _ => b"",
    }
}
