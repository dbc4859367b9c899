//! Which phases of `ProxyHttp` run, and in which order.

use super::common::*;
use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use std::any::Any;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// The names of the phases that ran; a phase that runs several times in a row stands once.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Vec<&'static str>>>);

impl Record {
    fn add(&self, phase: &'static str) {
        let mut phases = self.0.lock().unwrap();
        if phases.last() != Some(&phase) {
            phases.push(phase);
        }
    }

    /// Waits until a request is over, and gives its phases.
    #[track_caller]
    fn of_one_request(&self, last: &str) -> Vec<&'static str> {
        eventually("the request is over", || {
            self.0.lock().unwrap().contains(&last)
        });
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Where a request is to be answered, or to fail.
#[derive(Clone, Copy, Default, PartialEq)]
enum Turn {
    #[default]
    None,
    EarlyError,
    Answer,
    RequestError,
    NotUpstream,
    UpstreamError,
    PeerError,
    ResponseError,
}

#[derive(Default)]
struct Recorder {
    record: Record,
    /// One for each try; the last is for all further ones.
    upstreams: Vec<PathBuf>,
    turn: Turn,
    retry_connect: bool,
}

impl Recorder {
    fn to(origin: &Origin) -> Self {
        Recorder {
            upstreams: vec![origin.path()],
            ..Recorder::default()
        }
    }

    fn unless(&self, turn: Turn) -> Result<()> {
        match self.turn == turn {
            true => Error::e_explain(ErrorType::HTTPStatus(418), "asked for"),
            false => Ok(()),
        }
    }
}

#[derive(Default)]
struct Tries(usize);

#[async_trait]
impl ProxyHttp for Recorder {
    type CTX = Tries;

    fn new_ctx(&self) -> Tries {
        self.record.add("new_ctx");
        Tries::default()
    }

    fn init_downstream_modules(&self, _: &mut HttpModules) {
        self.record.add("init_downstream_modules");
    }

    fn on_connection_reuse(
        &self,
        _: &mut Session,
        _: &mut Tries,
        kept: Box<dyn Any + Send + Sync>,
    ) {
        assert_eq!(kept.downcast_ref::<&str>(), Some(&"kept"));
        self.record.add("on_connection_reuse");
    }

    async fn early_request_filter(&self, _: &mut Session, _: &mut Tries) -> Result<()> {
        self.record.add("early_request_filter");
        self.unless(Turn::EarlyError)
    }

    fn allow_spawning_subrequest(&self, _: &Session, _: &Tries) -> bool {
        self.record.add("allow_spawning_subrequest");
        false
    }

    async fn request_filter(&self, session: &mut Session, _: &mut Tries) -> Result<bool> {
        self.record.add("request_filter");
        if self.turn == Turn::Answer {
            let mut response = ResponseHeader::build(200, None)?;
            response.insert_header("Content-Length", 3)?;
            session
                .write_response_header(Box::new(response), false)
                .await?;
            session
                .write_response_body(Some(Bytes::from_static(b"own")), true)
                .await?;
            return Ok(true);
        }
        self.unless(Turn::RequestError).map(|()| false)
    }

    fn request_cache_filter(&self, _: &mut Session, _: &mut Tries) -> Result<()> {
        self.record.add("request_cache_filter");
        Ok(())
    }

    fn is_purge(&self, _: &Session, _: &Tries) -> bool {
        self.record.add("is_purge");
        false
    }

    async fn proxy_upstream_filter(&self, _: &mut Session, _: &mut Tries) -> Result<bool> {
        self.record.add("proxy_upstream_filter");
        self.unless(Turn::UpstreamError)
            .map(|()| self.turn != Turn::NotUpstream)
    }

    async fn upstream_peer(&self, _: &mut Session, tries: &mut Tries) -> Result<Box<HttpPeer>> {
        self.record.add("upstream_peer");
        self.unless(Turn::PeerError)?;
        let path = self
            .upstreams
            .get(tries.0)
            .or(self.upstreams.last())
            .unwrap();
        tries.0 += 1;
        Ok(Box::new(forward_to(path.clone()).peer))
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        _: &mut Tries,
        mut e: Box<Error>,
    ) -> Box<Error> {
        self.record.add("fail_to_connect");
        e.set_retry(self.retry_connect);
        e
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        _: bool,
        _: &HttpPeer,
        _: std::os::fd::RawFd,
        _: Option<&Digest>,
        _: &mut Tries,
    ) -> Result<()> {
        self.record.add("connected_to_upstream");
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        _: &mut RequestHeader,
        _: &mut Tries,
    ) -> Result<()> {
        self.record.add("upstream_request_filter");
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        _: &mut Option<Bytes>,
        _: bool,
        _: &mut Tries,
    ) -> Result<()> {
        self.record.add("request_body_filter");
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        _: &mut ResponseHeader,
        _: &mut Tries,
    ) -> Result<()> {
        self.record.add("upstream_response_filter");
        Ok(())
    }

    fn upstream_response_body_filter(
        &self,
        _: &mut Session,
        _: &mut Option<Bytes>,
        _: bool,
        _: &mut Tries,
    ) -> Result<Option<Duration>> {
        self.record.add("upstream_response_body_filter");
        Ok(None)
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        _: &mut ResponseHeader,
        _: &mut Tries,
    ) -> Result<()> {
        self.record.add("response_filter");
        self.unless(Turn::ResponseError)
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        _: &mut Option<Bytes>,
        _: bool,
        _: &mut Tries,
    ) -> Result<Option<Duration>> {
        self.record.add("response_body_filter");
        Ok(None)
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut e: Box<Error>,
        _: &mut Tries,
        client_reused: bool,
    ) -> Box<Error> {
        self.record.add("error_while_proxy");
        e.retry
            .decide_reuse(client_reused && !session.as_ref().retry_buffer_truncated());
        e
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Tries,
        _: &Error,
        context: ProxyWarnLogContext,
    ) -> bool {
        assert_eq!(context, ProxyWarnLogContext::UpstreamRetry);
        self.record.add("suppress_proxy_warn_log");
        true
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, _: &mut Tries) -> FailToProxy {
        self.record.add("fail_to_proxy");
        let error_code = match e.etype() {
            ErrorType::HTTPStatus(code) => *code,
            _ => 502,
        };
        session.respond_error(error_code).await.unwrap();
        FailToProxy {
            error_code,
            can_reuse_downstream: false,
        }
    }

    fn suppress_error_log(&self, _: &Session, _: &Tries, _: &Error) -> bool {
        self.record.add("suppress_error_log");
        true
    }

    async fn logging(&self, _: &mut Session, e: Option<&Error>, _: &mut Tries) {
        self.record.add(if e.is_some() {
            "logging an error"
        } else {
            "logging"
        });
    }

    fn persist_connection_context(
        &self,
        _: &Session,
        _: &Tries,
    ) -> Option<Box<dyn Any + Send + Sync>> {
        self.record.add("persist_connection_context");
        Some(Box::new("kept"))
    }
}

const BEGIN: [&str; 4] = [
    "new_ctx",
    "early_request_filter",
    "allow_spawning_subrequest",
    "request_filter",
];
const TO_UPSTREAM: [&str; 3] = ["request_cache_filter", "is_purge", "proxy_upstream_filter"];
const ONE_TRY: [&str; 4] = [
    "upstream_peer",
    "connected_to_upstream",
    "upstream_request_filter",
    "request_body_filter",
];
const RESPONSE: [&str; 4] = [
    "upstream_response_filter",
    "response_filter",
    "upstream_response_body_filter",
    "response_body_filter",
];
const FAILED: [&str; 3] = ["fail_to_proxy", "suppress_error_log", "logging an error"];

/// Sends a GET through `app`, and gives its status and its phases up to `last`.
#[track_caller]
fn get(app: Recorder, last: &str) -> (u16, Vec<&'static str>) {
    let record = app.record.clone();
    let proxy = Proxy::start(app);
    assert_eq!(
        std::mem::take(&mut *record.0.lock().unwrap()),
        ["init_downstream_modules"]
    );
    let mut client = proxy.connect();
    client.send(GET);
    let response = client.read_response();
    (response.status(), record.of_one_request(last))
}

/// The phases of a response whose head and body come one after the other, whether the filters of
/// a piece run together or those of all pieces one by one.
#[track_caller]
fn assert_response(phases: &[&str]) {
    let place = |phase| {
        phases
            .iter()
            .position(|p| *p == phase)
            .unwrap_or(usize::MAX)
    };
    let places = RESPONSE.map(place);
    assert!(!places.contains(&usize::MAX), "{phases:?}");
    assert!(places[0] < places[1] && places[2] < places[3], "{phases:?}");
    assert!(places[0] < places[2] && places[1] < places[3], "{phases:?}");
}

#[test]
fn a_request_goes_through_every_phase_in_order() {
    let origin = Origin::answering(HELLO);
    let (status, phases) = get(Recorder::to(&origin), "persist_connection_context");
    assert_eq!(status, 200);
    let to_response = [&BEGIN[..], &TO_UPSTREAM, &ONE_TRY].concat();
    let (before, rest) = phases.split_at(to_response.len().min(phases.len()));
    assert_eq!(before, to_response);
    let (response, end) = rest.split_at(rest.len() - 2);
    assert_response(response);
    assert_eq!(end, ["logging", "persist_connection_context"]);
}

#[test]
fn what_a_request_leaves_for_its_connection_is_there_for_the_next() {
    let origin = Origin::answering(HELLO);
    let app = Recorder::to(&origin);
    let record = app.record.clone();
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(GET);
    client.read_response();
    record.of_one_request("persist_connection_context");
    client.send(GET);
    client.read_response();
    let phases = record.of_one_request("persist_connection_context");
    assert_eq!(
        phases[..3],
        ["new_ctx", "on_connection_reuse", "early_request_filter"]
    );
}

#[test]
fn a_request_that_the_filter_answers_goes_no_further() {
    let app = Recorder {
        turn: Turn::Answer,
        ..Recorder::default()
    };
    let (status, phases) = get(app, "persist_connection_context");
    assert_eq!(status, 200);
    assert_eq!(
        phases,
        [&BEGIN[..], &["logging", "persist_connection_context"]].concat()
    );
}

#[test]
fn an_early_error_is_answered_and_logged() {
    let app = Recorder {
        turn: Turn::EarlyError,
        ..Recorder::default()
    };
    let (status, phases) = get(app, "logging an error");
    assert_eq!(status, 418);
    assert_eq!(phases, [&BEGIN[..2], &FAILED].concat());
}

#[test]
fn an_error_of_the_request_filter_is_answered_and_logged() {
    let app = Recorder {
        turn: Turn::RequestError,
        ..Recorder::default()
    };
    let (status, phases) = get(app, "logging an error");
    assert_eq!(status, 418);
    assert_eq!(phases, [&BEGIN[..], &FAILED].concat());
}

#[test]
fn a_request_that_must_not_go_upstream_gets_502() {
    let app = Recorder {
        turn: Turn::NotUpstream,
        ..Recorder::default()
    };
    let (status, phases) = get(app, "persist_connection_context");
    assert_eq!(status, 502);
    let end = ["logging", "persist_connection_context"];
    assert_eq!(phases, [&BEGIN[..], &TO_UPSTREAM, &end].concat());
}

#[test]
fn an_error_before_the_upstream_is_answered_and_logged() {
    let app = Recorder {
        turn: Turn::UpstreamError,
        ..Recorder::default()
    };
    let (status, phases) = get(app, "logging an error");
    assert_eq!(status, 418);
    assert_eq!(phases, [&BEGIN[..], &TO_UPSTREAM, &FAILED].concat());
}

#[test]
fn no_peer_is_an_error_of_the_request() {
    let app = Recorder {
        turn: Turn::PeerError,
        ..Recorder::default()
    };
    let (status, phases) = get(app, "logging an error");
    assert_eq!(status, 418);
    assert_eq!(
        phases,
        [&BEGIN[..], &TO_UPSTREAM, &["upstream_peer"], &FAILED].concat()
    );
}

#[test]
fn a_peer_that_cannot_be_reached_is_asked_once_unless_told() {
    let origin = Origin::answering(HELLO);
    let nobody = origin.path().with_file_name("nobody");
    let app = Recorder {
        upstreams: vec![nobody],
        ..Recorder::default()
    };
    let (status, phases) = get(app, "logging an error");
    assert_eq!(status, 502);
    let failed = ["upstream_peer", "fail_to_connect"];
    assert_eq!(
        phases,
        [&BEGIN[..], &TO_UPSTREAM, &failed, &FAILED].concat()
    );
}

#[test]
fn a_peer_that_cannot_be_reached_is_followed_by_the_next() {
    let origin = Origin::answering(HELLO);
    let nobody = origin.path().with_file_name("nobody");
    let upstreams = vec![nobody, origin.path()];
    let app = Recorder {
        upstreams,
        retry_connect: true,
        ..Recorder::default()
    };
    let (status, phases) = get(app, "persist_connection_context");
    assert_eq!(status, 200);
    let failed = [
        "upstream_peer",
        "fail_to_connect",
        "suppress_proxy_warn_log",
    ];
    let before = [&BEGIN[..], &TO_UPSTREAM, &failed, &ONE_TRY].concat();
    assert_eq!(phases[..before.len()], before);
}

#[test]
fn a_kept_connection_that_died_is_an_error_while_proxying() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.send(HELLO);
        if wire.has_more() {
            wire.read_message();
        }
    });
    let app = Recorder::to(&origin);
    let record = app.record.clone();
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(GET);
    client.read_response();
    record.of_one_request("persist_connection_context");
    client.send(GET);
    assert_eq!(client.read_response().text(), "hello");
    let phases = record.of_one_request("persist_connection_context");
    let failed = ["error_while_proxy", "suppress_proxy_warn_log"];
    let begin = ["new_ctx", "on_connection_reuse"];
    let before = [
        &begin[..],
        &BEGIN[1..],
        &TO_UPSTREAM,
        &ONE_TRY,
        &failed,
        &ONE_TRY,
    ]
    .concat();
    assert_eq!(phases[..before.len()], before);
}

#[test]
fn an_error_of_the_response_filter_is_an_error_while_proxying() {
    let origin = Origin::answering(HELLO);
    let app = Recorder {
        turn: Turn::ResponseError,
        ..Recorder::to(&origin)
    };
    let (status, phases) = get(app, "logging an error");
    assert_eq!(status, 418);
    assert_eq!(
        phases[phases.len() - 4..],
        [&["error_while_proxy"], &FAILED[..]].concat()
    );
}

#[test]
fn interim_answers_pass_the_response_filters_too() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_head();
        wire.send("HTTP/1.1 103 Early Hints\r\n\r\n");
        assert_eq!(wire.read_exact(2), b"go");
        wire.send(HELLO);
    });
    let app = Recorder::to(&origin);
    let record = app.record.clone();
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
    assert!(client.read_head().starts_with("HTTP/1.1 103 "));
    let phases = record.of_one_request("response_filter");
    assert_eq!(phases[phases.len() - 2..], RESPONSE[..2]);
    client.send("go");
    assert_eq!(client.read_response().text(), "hello");
    let phases = record.of_one_request("persist_connection_context");
    assert_eq!(phases[0], "request_body_filter");
    assert_response(&phases);
}
