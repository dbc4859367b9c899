//! An application that notes every call of a phase, and what it was called with.

use super::super::common::*;
use async_trait::async_trait;
use bytes::Bytes;
use hyper::header::HeaderMap;
use pingora_cache::storage::PurgeAction;
use pingora_core::modules::http::{HttpModule, HttpModuleBuilder, HttpModules};
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, PurgeStatus, Session};
use std::any::Any;
use std::borrow::Cow;
use std::fmt::Display;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Has warnings and errors be written, to nowhere: some phases are called for them only.
pub fn log_warnings() {
    struct Nowhere;
    impl log::Log for Nowhere {
        fn enabled(&self, _: &log::Metadata) -> bool {
            true
        }
        fn log(&self, _: &log::Record) {}
        fn flush(&self) {}
    }
    // Of several tests, one is the first.
    if log::set_logger(&Nowhere).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
}

/// The calls in their order. How a body is cut into pieces is not for a phase to count on, so that those pieces are
/// one call here; it stands where its first piece did.
#[derive(Clone, Default)]
pub struct Calls {
    made: Arc<Mutex<Vec<Call>>>,
    /// The phase that panics when it is called.
    panics: &'static str,
    /// The phase that panics when it is called the next time.
    panics_once: Arc<Mutex<Option<&'static str>>>,
    holders: Arc<()>,
}

struct Call {
    phase: &'static str,
    with: String,
    /// Of a body: the bytes so far, until its end was said.
    open: Option<usize>,
}

impl Calls {
    pub fn that_panic(panics: &'static str) -> Self {
        Calls {
            panics,
            ..Calls::default()
        }
    }

    /// Has a phase panic when it is called the next time.
    pub fn panic_once(&self, phase: &'static str) {
        *self.panics_once.lock().unwrap() = Some(phase);
    }

    /// Returns whether that phase was called.
    pub fn has_panicked(&self) -> bool {
        self.panics_once.lock().unwrap().is_none()
    }

    /// The number of those who can make a call: the application, its modules, and the contexts of requests.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.holders)
    }

    fn add(&self, phase: &'static str, with: impl Display) {
        let with = with.to_string();
        let open = None;
        self.made.lock().unwrap().push(Call { phase, with, open });
        self.panic_at(phase);
    }

    fn panic_at(&self, phase: &str) {
        let mut once = self.panics_once.lock().unwrap();
        let now = once.take_if(|once| *once == phase).is_some();
        drop(once);
        if self.panics == phase || now {
            panic!("a test wants it");
        }
    }

    fn body(&self, phase: &'static str, body: &Option<Bytes>, end: bool) {
        let mut calls = self.made.lock().unwrap();
        let size = body.as_ref().map_or(0, Bytes::len);
        let so_far = |call: &&mut Call| call.phase == phase && call.open.is_some();
        let mut new = Call {
            phase,
            with: String::new(),
            open: Some(0),
        };
        let call = calls.iter_mut().find(so_far);
        let is_new = call.is_none();
        let call = call.unwrap_or(&mut new);
        let size = call.open.unwrap_or(0) + size;
        call.open = (!end).then_some(size);
        call.with = match end {
            true => format!("{size} end"),
            false => size.to_string(),
        };
        if is_new {
            calls.push(new);
        }
        drop(calls);
        self.panic_at(phase);
    }

    /// Waits for a call of `last`, and takes all that were made.
    #[track_caller]
    pub fn take_to(&self, last: &str) -> Vec<String> {
        eventually(last, || {
            self.made
                .lock()
                .unwrap()
                .iter()
                .any(|call| call.phase == last)
        });
        let calls = std::mem::take(&mut *self.made.lock().unwrap());
        calls
            .iter()
            .map(|call| format!("{} {}", call.phase, call.with))
            .map(|line| line.trim_end().to_string())
            .collect()
    }
}

/// What a phase does besides noting that it was called.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Turn {
    #[default]
    None,
    EarlyFails,
    Answers,
    RequestFails,
    CacheFails,
    Purges,
    PurgeFails,
    GoesNowhere,
    UpstreamFails,
    PeerFails,
    ConnectedFails,
    RequestHeadFails,
    RequestBodyFails,
    UpstreamHeadFails,
    HeadFails,
    UpstreamBodyFails,
    BodyFails,
    TrailersBecomeBody,
    TrailersFail,
    UpstreamTrailersFail,
}

#[derive(Default)]
pub struct Recorder {
    pub calls: Calls,
    pub turn: Turn,
    /// One for each try.
    pub peers: Vec<HttpPeer>,
}

impl Recorder {
    fn fails(&self, turn: Turn) -> Result<()> {
        match self.turn == turn {
            true => Error::e_explain(ErrorType::HTTPStatus(418), "asked for"),
            false => Ok(()),
        }
    }
}

/// The number of tries, and what counts the request.
pub struct Tries(usize, #[allow(dead_code)] Arc<()>);

#[async_trait]
impl ProxyHttp for Recorder {
    type CTX = Tries;

    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        self.calls.add("init_downstream_modules", "");
        modules.add_module(Box::new(Module(self.calls.clone())));
    }

    fn new_ctx(&self) -> Tries {
        self.calls.add("new_ctx", "");
        Tries(0, self.calls.holders.clone())
    }

    fn on_connection_reuse(
        &self,
        _: &mut Session,
        _: &mut Tries,
        kept: Box<dyn Any + Send + Sync>,
    ) {
        let kept = kept.downcast_ref::<&str>().unwrap();
        self.calls.add("on_connection_reuse", kept);
    }

    async fn early_request_filter(&self, session: &mut Session, _: &mut Tries) -> Result<()> {
        let head = session.req_header();
        let target = format!("{} {}", head.method, head.uri.path());
        self.calls.add("early_request_filter", target);
        self.fails(Turn::EarlyFails)
    }

    fn allow_spawning_subrequest(&self, _: &Session, _: &Tries) -> bool {
        self.calls.add("allow_spawning_subrequest", "");
        false
    }

    async fn request_filter(&self, session: &mut Session, _: &mut Tries) -> Result<bool> {
        self.calls.add("request_filter", "");
        self.fails(Turn::RequestFails)?;
        if self.turn != Turn::Answers {
            return Ok(false);
        }
        answer(session, 203).await?;
        Ok(true)
    }

    fn request_cache_filter(&self, _: &mut Session, _: &mut Tries) -> Result<()> {
        self.calls.add("request_cache_filter", "");
        self.fails(Turn::CacheFails)
    }

    fn is_purge(&self, _: &Session, _: &Tries) -> bool {
        self.calls.add("is_purge", "");
        matches!(self.turn, Turn::Purges | Turn::PurgeFails)
    }

    fn purge_action(&self, _: &Session, _: &Tries) -> PurgeAction {
        self.calls.add("purge_action", "");
        PurgeAction::Delete
    }

    fn purge_response_filter(
        &self,
        _: &Session,
        _: &mut Tries,
        status: PurgeStatus,
        response: &mut Cow<'static, ResponseHeader>,
    ) -> Result<()> {
        let with = format!("{status:?} {}", response.status.as_u16());
        self.calls.add("purge_response_filter", with);
        self.fails(Turn::PurgeFails)
    }

    async fn proxy_upstream_filter(&self, _: &mut Session, _: &mut Tries) -> Result<bool> {
        self.calls.add("proxy_upstream_filter", "");
        self.fails(Turn::UpstreamFails)?;
        Ok(self.turn != Turn::GoesNowhere)
    }

    async fn upstream_peer(&self, _: &mut Session, tries: &mut Tries) -> Result<Box<HttpPeer>> {
        tries.0 += 1;
        self.calls.add("upstream_peer", tries.0);
        self.fails(Turn::PeerFails)?;
        Ok(Box::new(self.peers[tries.0 - 1].clone()))
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        peer: &HttpPeer,
        tries: &mut Tries,
        mut e: Box<Error>,
    ) -> Box<Error> {
        assert_eq!(peer.address(), self.peers[tries.0 - 1].address());
        self.calls.add("fail_to_connect", e.esource().as_str());
        e.set_retry(tries.0 < self.peers.len());
        e
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        peer: &HttpPeer,
        fd: RawFd,
        digest: Option<&Digest>,
        tries: &mut Tries,
    ) -> Result<()> {
        assert_eq!(peer.address(), self.peers[tries.0 - 1].address());
        assert!(fd > 0 && digest.is_some());
        let with = if reused { "reused" } else { "new" };
        self.calls.add("connected_to_upstream", with);
        self.fails(Turn::ConnectedFails)
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        _: &mut Tries,
    ) -> Result<()> {
        let with = format!("{:?}", request.version);
        self.calls.add("upstream_request_filter", with);
        self.fails(Turn::RequestHeadFails)
    }

    async fn custom_forwarding(
        &self,
        _: &mut Session,
        _: &mut Tries,
        to_upstream: Option<mpsc::Sender<Bytes>>,
        _: mpsc::Sender<Bytes>,
    ) -> Result<()> {
        self.calls.add("custom_forwarding", to_upstream.is_some());
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        _: &mut Tries,
    ) -> Result<()> {
        self.calls.body("request_body_filter", body, end);
        self.fails(Turn::RequestBodyFails)
    }

    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        _: &mut Tries,
    ) -> Result<()> {
        let status = response.status.as_u16();
        self.calls.add("upstream_response_filter", status);
        self.fails(Turn::UpstreamHeadFails)
    }

    async fn upstream_response_decision(
        &self,
        _: &mut Session,
        response: &ResponseHeader,
        _: &mut Tries,
    ) -> Option<Box<Error>> {
        let status = response.status.as_u16();
        self.calls.add("upstream_response_decision", status);
        None
    }

    fn upstream_response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        _: &mut Tries,
    ) -> Result<Option<Duration>> {
        self.calls.body("upstream_response_body_filter", body, end);
        self.fails(Turn::UpstreamBodyFails).map(|()| None)
    }

    fn upstream_response_trailer_filter(
        &self,
        _: &mut Session,
        trailers: &mut HeaderMap,
        _: &mut Tries,
    ) -> Result<()> {
        let sum = trailers["x-sum"].to_str().unwrap();
        self.calls.add("upstream_response_trailer_filter", sum);
        trailers.insert("x-sum", "8".parse().unwrap());
        self.fails(Turn::UpstreamTrailersFail)
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        _: &mut Tries,
    ) -> Result<()> {
        self.calls.add("response_filter", response.status.as_u16());
        self.fails(Turn::HeadFails)
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        _: &mut Tries,
    ) -> Result<Option<Duration>> {
        self.calls.body("response_body_filter", body, end);
        self.fails(Turn::BodyFails).map(|()| None)
    }

    async fn response_trailer_filter(
        &self,
        _: &mut Session,
        trailers: &mut HeaderMap,
        _: &mut Tries,
    ) -> Result<Option<Bytes>> {
        let sum = trailers["x-sum"].to_str().unwrap();
        self.calls.add("response_trailer_filter", sum);
        trailers.insert("x-sum", "9".parse().unwrap());
        self.fails(Turn::TrailersFail)?;
        let becomes_body = self.turn == Turn::TrailersBecomeBody;
        Ok(becomes_body.then(|| Bytes::from_static(b" and a sum")))
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        _: &mut Session,
        mut e: Box<Error>,
        tries: &mut Tries,
        reused: bool,
    ) -> Box<Error> {
        assert_eq!(peer.address(), self.peers[tries.0 - 1].address());
        let with = if reused { "reused" } else { "new" };
        self.calls.add("error_while_proxy", with);
        e.set_retry(tries.0 < self.peers.len());
        e
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Tries,
        _: &Error,
        context: ProxyWarnLogContext,
    ) -> bool {
        let with = format!("{context:?}");
        self.calls.add("suppress_proxy_warn_log", with);
        false
    }

    fn request_summary(&self, session: &Session, _: &Tries) -> String {
        self.calls.add("request_summary", "");
        session.as_ref().request_summary()
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, _: &mut Tries) -> FailToProxy {
        self.calls.add("fail_to_proxy", e.etype().as_str());
        if session.response_written().is_none() {
            answer(session, 418).await.unwrap();
        }
        FailToProxy {
            error_code: 418,
            can_reuse_downstream: true,
        }
    }

    fn suppress_error_log(&self, _: &Session, _: &Tries, _: &Error) -> bool {
        self.calls.add("suppress_error_log", "");
        false
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, _: &mut Tries) {
        let received = session.upstream_body_bytes_received();
        let status = session.response_written().map_or(0, |r| r.status.as_u16());
        let failed = if e.is_some() { " error" } else { "" };
        self.calls
            .add("logging", format!("{status} {received}{failed}"));
    }

    fn persist_connection_context(
        &self,
        _: &Session,
        _: &Tries,
    ) -> Option<Box<dyn Any + Send + Sync>> {
        self.calls.add("persist_connection_context", "");
        Some(Box::new("kept"))
    }
}

async fn answer(session: &mut Session, status: u16) -> Result<()> {
    let mut head = ResponseHeader::build(status, None)?;
    head.insert_header("Content-Length", "3")?;
    session.write_response_header(Box::new(head), false).await?;
    let body = Some(Bytes::from_static(b"own"));
    session.write_response_body(body, true).await
}

struct Module(Calls);

impl HttpModuleBuilder for Module {
    fn init(&self) -> Box<dyn HttpModule + 'static + Send + Sync> {
        Box::new(Module(self.0.clone()))
    }
}

#[async_trait]
impl HttpModule for Module {
    async fn request_header_filter(&mut self, _: &mut RequestHeader) -> Result<()> {
        self.0.add("module: request_header_filter", "");
        Ok(())
    }

    async fn request_body_filter(&mut self, body: &mut Option<Bytes>, end: bool) -> Result<()> {
        self.0.body("module: request_body_filter", body, end);
        Ok(())
    }

    async fn response_header_filter(&mut self, head: &mut ResponseHeader, _: bool) -> Result<()> {
        let status = head.status.as_u16();
        self.0.add("module: response_header_filter", status);
        Ok(())
    }

    fn response_body_filter(&mut self, body: &mut Option<Bytes>, end: bool) -> Result<()> {
        self.0.body("module: response_body_filter", body, end);
        Ok(())
    }

    fn response_trailer_filter(
        &mut self,
        trailers: &mut Option<Box<HeaderMap>>,
    ) -> Result<Option<Bytes>> {
        let trailers = trailers.as_ref().unwrap();
        let sum = trailers["x-sum"].to_str().unwrap();
        self.0.add("module: response_trailer_filter", sum);
        Ok(None)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
