//! The admin interface: health, metrics, the state of the proxy as JSON, reload and drain, and the dashboard.
//!
//! It listens at an address of its own and runs on a thread of its own: workers know nothing of it. What it tells is
//! read from counts that workers keep for themselves. It goes on answering while the process drains.
//!
//! [`access`] decides who may ask: a client that names a host that is not ours is refused (DNS rebinding), and so is a
//! page of another site that tries to change something (cross-site requests). Where there is a token, all but health is
//! for those who know it.

mod access;
mod actions;
mod answer;
mod pages;
mod service;
mod sessions;
mod status;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use http::{Method, Response, StatusCode};
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::listeners::AcceptCounts;
use pingora_core::protocols::http::server::Session;

use crate::live::{Live, Reloader};
use crate::observe::prometheus::prometheus;
use access::Refusal;
use answer::{json, refuse, text};
pub use service::AdminService;
use sessions::Sessions;

/// The type of metrics in the text format of Prometheus.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The admin interface of a process.
pub struct Admin {
    live: Arc<Live>,
    reloader: Arc<Reloader>,
    /// Those of the service that serves the sites.
    workers: AcceptCounts,
    sessions: Sessions,
    started: Instant,
    since: SystemTime,
}

impl Admin {
    /// Makes the interface to what `live` holds and `reloader` reloads; `workers` are those that serve the sites.
    pub fn new(live: Arc<Live>, reloader: Arc<Reloader>, workers: AcceptCounts) -> Self {
        Self {
            live,
            reloader,
            workers,
            sessions: Sessions::default(),
            started: Instant::now(),
            since: SystemTime::now(),
        }
    }

    /// Tells whether the process takes new work.
    fn is_ready(&self) -> bool {
        !self.live.is_draining()
    }

    async fn answer(&self, session: &mut Session) -> Response<Vec<u8>> {
        let running = self.live.current();
        let Some(admin) = &running.plan.admin else {
            // A reload cannot take it away.
            return refuse(StatusCode::NOT_FOUND, "there is no admin interface");
        };
        let head = session.req_header();
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        let mut judged = access::judge(admin, head);
        if judged.is_ok() && !is_open(&path) {
            judged = access::authenticate(admin, head, &self.sessions);
        }
        match judged {
            Ok(()) => {}
            Err(Refusal::Unknown) if path == "/" => return pages::login(),
            Err(refusal) => return refusal.into(),
        }
        let is_get = method == Method::GET || method == Method::HEAD;
        match &*path {
            "/healthz" if is_get => text(StatusCode::OK, "ok\n"),
            "/readyz" if is_get && self.is_ready() => text(StatusCode::OK, "ready\n"),
            "/readyz" if is_get => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            "/metrics" if is_get => {
                let text = prometheus(&self.live.snapshot());
                answer::of(StatusCode::OK, METRICS, text)
            }
            "/api/status" if is_get => json(StatusCode::OK, &self.status(&running)),
            "/api/config" if is_get => json(StatusCode::OK, &self.config(&running)),
            "/api/log" if is_get => self.log(head.uri.query()),
            "/api/explain" if is_get => actions::explain(&running.plan, head.uri.query()),
            _ if method == Method::POST => self.act(&path, session).await,
            _ => match pages::find(&path) {
                Some(page) if is_get => page,
                Some(_) => refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed here"),
                None => refuse(StatusCode::NOT_FOUND, "there is nothing here"),
            },
        }
    }
}

/// Tells whether everybody may ask for a path: it tells nothing of the proxy, or is the way in.
fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/api/login") || pages::is_asset(path)
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut Session) -> Response<Vec<u8>> {
        answer::guarded(self.answer(session).await)
    }
}
