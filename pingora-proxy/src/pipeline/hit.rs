//! Processing of a stored response by the application and the modules. The filters for upstreams it has passed before
//! it was stored.

use std::future::{ready, Future};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use pingora_core::protocols::http::HttpTask;
use pingora_error::Result;

use crate::duplex::{Fate, Pipeline};
use crate::{ProxyHttp, Session};

/// The phases of an application for a hit. Its header has passed `response_filter` already.
pub(crate) struct HitPhases<'a, SV: ProxyHttp> {
    pub(crate) inner: &'a SV,
    pub(crate) session: &'a mut Session,
    pub(crate) ctx: &'a mut SV::CTX,
}

impl<SV> HitPhases<'_, SV>
where
    SV: ProxyHttp + Sync,
    SV::CTX: Send + Sync,
{
    fn filter(&mut self, task: &mut HttpTask) -> Result<Fate> {
        match task {
            HttpTask::Body(body, end) => Ok(match self.filter_body(body, *end)? {
                Some(delay) if !delay.is_zero() => Fate::Later(delay),
                _ => Fate::Pass,
            }),
            // The filter may fill a body that is empty.
            HttpTask::Header(_, end @ true) => {
                let mut body = None;
                let delay = self.filter_body(&mut body, true)?;
                if body.is_none() && delay.is_none() {
                    return Ok(Fate::Pass);
                }
                *end = false;
                let rest = HttpTask::Body(body, true);
                Ok(Fate::Then(Box::new((delay.unwrap_or_default(), rest))))
            }
            _ => Ok(Fate::Pass),
        }
    }

    fn filter_body(&mut self, body: &mut Option<Bytes>, end: bool) -> Result<Option<Duration>> {
        self.inner
            .response_body_filter(self.session, body, end, self.ctx)
    }
}

impl<SV> Pipeline for HitPhases<'_, SV>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
{
    type Downstream = Session;

    fn downstream(&self) -> &Session {
        self.session
    }

    fn downstream_mut(&mut self) -> &mut Session {
        self.session
    }

    fn asks_for_tunnel(&self) -> bool {
        false
    }

    fn tunnel_idle_timeout(&self, _client_ended: bool) -> Option<Duration> {
        None
    }

    fn kept_request(&mut self) -> Option<(Option<Bytes>, bool)> {
        None
    }

    fn request<'b>(
        &'b mut self,
        _body: &'b mut Option<Bytes>,
        _end: bool,
    ) -> impl Future<Output = Result<()>> + Send {
        ready(Ok(()))
    }

    fn request_trailers(&mut self) -> Option<HeaderMap> {
        None
    }

    fn response<'b>(
        &'b mut self,
        task: &'b mut HttpTask,
    ) -> impl Future<Output = Result<Fate>> + Send {
        ready(self.filter(task))
    }

    fn has_more(&self) -> bool {
        false
    }

    fn emits(&mut self) -> bool {
        !self.session.downstream_modules_ctx.is_dormant()
    }

    fn emit<'b>(&'b mut self, task: &'b mut HttpTask) -> impl Future<Output = Result<()>> + Send {
        self.session.filter_step(task)
    }

    fn emits_more(&self) -> bool {
        self.session.downstream_modules_ctx.is_pending()
    }
}
