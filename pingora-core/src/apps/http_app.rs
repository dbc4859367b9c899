//! A plain HTTP server as an application: a function from request to response.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use h2::server::Builder as H2Options;
use http::Response;
use log::{debug, error};
use pingora_error::ErrorType::{ConnectionClosed, H2Error, WriteError, WriteTimedout};
use pingora_error::Result;
use pingora_http::ResponseHeader;

use super::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream};
use crate::exchange::ServerHooks;
use crate::limits::LIMITS;
use crate::listeners::accepting::Settings;
use crate::modules::http::{HttpModules, ModuleBuilder};
use crate::protocols::http::server::{RefusedRequest, Session};
use crate::protocols::http::HttpTask;
use crate::shutdown::watch::{shutting_down, ShutdownWatch};
use crate::shutdown::{close_idle, drain, Registry, Stage};

/// A function from request to response.
#[async_trait]
pub trait ServeHttp {
    /// Answers a request, whose body may be read from the session.
    ///
    /// Content-Length is added to the response when neither it nor Transfer-Encoding is there.
    async fn response(&self, http_session: &mut Session) -> Response<Vec<u8>>;

    /// Sees a request that is refused without being answered by [`response`](Self::response), as it is malformed, too large
    /// or too slow. It may log it, and choose the answer. Unless overridden it does nothing.
    fn request_refused(&self, _refused: &mut RefusedRequest<'_>) {}
}

#[async_trait]
impl<SV> HttpServerApp for SV
where
    SV: ServeHttp + Send + Sync,
{
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: Session,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let refused = |r: &mut RefusedRequest<'_>| ServeHttp::request_refused(&**self, r);
        if !read_request(&mut session, shutdown, refused).await {
            return None;
        }
        let response = AssertUnwindSafe(self.response(&mut session)).catch_unwind();
        let Ok(response) = response.await else {
            return excuse(session).await;
        };
        let (head, body) = framed(response, &session);
        let response = vec![
            HttpTask::Header(Box::new(head), false),
            HttpTask::Body(Some(body), true),
        ];
        match session.response_duplex_vec(response).await {
            Ok(_) => finish(session).await,
            Err(e) => {
                debug!("response not written: {e}");
                session.shutdown().await;
                None
            }
        }
    }

    fn request_refused(&self, refused: &mut RefusedRequest<'_>) {
        ServeHttp::request_refused(self, refused);
    }
}

/// A [`ServeHttp`] with modules between it and the client.
pub struct HttpServer<SV> {
    app: SV,
    modules: HttpModules,
    registry: Arc<Registry>,
    /// Options of the server.
    pub server_options: Option<HttpServerOptions>,
    /// The options of HTTP/2 connections.
    pub h2_options: Option<H2Options>,
}

impl<SV> HttpServer<SV> {
    /// A server without modules.
    pub fn new_app(app: SV) -> Self {
        HttpServer {
            app,
            modules: HttpModules::new(),
            registry: Registry::new(LIMITS.waiting_lists),
            server_options: None,
            h2_options: None,
        }
    }

    /// Adds a module.
    pub fn add_module(&mut self, module: ModuleBuilder) {
        self.modules.add_module(module);
    }
}

impl<SV: ServeHttp> HttpServer<SV> {
    async fn answer(&self, session: &mut Session) -> Result<()> {
        let mut modules = self.modules.build_ctx();
        modules
            .request_header_filter(session.req_header_mut())
            .await?;
        let response = self.app.response(session).await;
        let (mut head, body) = framed(response, session);
        let mut body = (!body.is_empty()).then_some(body);
        modules
            .response_header_filter(&mut head, body.is_none())
            .await?;
        modules.response_body_filter(&mut body, true)?;
        let last = modules.response_done_filter()?;
        session
            .response_duplex_vec(vec![
                HttpTask::Header(Box::new(head), false),
                HttpTask::Body(body, false),
                HttpTask::Body(last, true),
            ])
            .await
            .map(|_| ())
    }
}

#[async_trait]
impl<SV> HttpServerApp for HttpServer<SV>
where
    SV: ServeHttp + Send + Sync,
{
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: Session,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        session.wait_in(&self.registry, LIMITS.client_shutdown_read);
        let refused = |r: &mut RefusedRequest<'_>| ServeHttp::request_refused(&self.app, r);
        if !read_request(&mut session, shutdown, refused).await {
            return None;
        }
        if self.registry.is_shutting_down() {
            session.set_keepalive(None);
        }
        let answered = AssertUnwindSafe(self.answer(&mut session)).catch_unwind();
        match answered.await {
            Ok(Ok(())) => finish(session).await,
            Ok(Err(e)) => {
                match e.etype {
                    // The client has left, or takes nothing.
                    WriteError | WriteTimedout | ConnectionClosed | H2Error => {
                        debug!("response not written: {e}")
                    }
                    _ => error!("response not written: {e}"),
                }
                excuse(session).await
            }
            Err(_) => excuse(session).await,
        }
    }

    fn request_refused(&self, refused: &mut RefusedRequest<'_>) {
        ServeHttp::request_refused(&self.app, refused);
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.h2_options.clone()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.server_options.as_ref()
    }

    fn shutdown_registry(&self) -> Option<&Arc<Registry>> {
        Some(&self.registry)
    }

    async fn http_cleanup(&self) {
        let keep = Settings::current().keep_idle;
        drain(&self.registry, Stage::Draining, keep);
        close_idle(&self.registry);
    }
}

/// Returns whether there is a request to answer.
async fn read_request(
    session: &mut Session,
    shutdown: &ShutdownWatch,
    refused: impl Fn(&mut RefusedRequest<'_>),
) -> bool {
    let read = session.read_request().await;
    match read.and_then(|is_there| served(session, is_there)) {
        Ok(true) => {
            let last = shutting_down(shutdown, !session.is_reused());
            let keepalive = (!last).then(|| session.idle_seconds());
            session.set_keepalive(keepalive);
            true
        }
        Ok(false) => {
            session.shutdown().await;
            false
        }
        Err(e) => {
            session.refuse(&e, refused).await;
            session.shutdown().await;
            false
        }
    }
}

/// A request is served only if it says which host it is for.
fn served(session: &Session, is_there: bool) -> Result<bool> {
    if is_there {
        session.check_host()?;
    }
    Ok(is_there)
}

/// Ends a request that the application has not answered, by an error or a panic of which somebody else has told.
async fn excuse(mut session: Session) -> Option<ReusedHttpStream> {
    if session.response_written().is_none() {
        let _ = session.respond_error(500).await;
    }
    session.shutdown().await;
    None
}

/// The head and the body of an answer, with the length of the body where it is known. The application need not give the body
/// that a HEAD or a 304 leaves out, and then nothing tells how long it would be (RFC 9110 section 8.6).
fn framed(response: Response<Vec<u8>>, session: &Session) -> (ResponseHeader, Bytes) {
    let (parts, body) = response.into_parts();
    let mut head = ResponseHeader::from(parts);
    let is_framed = head.headers.contains_key(http::header::CONTENT_LENGTH)
        || head.headers.contains_key(http::header::TRANSFER_ENCODING);
    let left_out = head.status == http::StatusCode::NOT_MODIFIED
        || (session.req_header().method == http::Method::HEAD && body.is_empty());
    if !is_framed && !left_out {
        // A number is always a valid value.
        let _ = head.set_content_length(body.len());
    }
    (head, body.into())
}

async fn finish(session: Session) -> Option<ReusedHttpStream> {
    let settings = HttpPersistentSettings::for_session(&session);
    match session.finish().await {
        Ok(reusable) => Some(ReusedHttpStream::from_reusable_stream(reusable?, settings)),
        Err(e) => {
            debug!("response not written: {e}");
            None
        }
    }
}

#[cfg(test)]
mod tests;
