//! The response where the cache has a part in it: see [`cache_write`].

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use log::warn;
use pingora_core::connectors::http::custom;
use pingora_core::protocols::http::HttpTask;
use pingora_error::ErrorType::InternalError;
use pingora_error::{Error, Result};
use pingora_http::ResponseHeader;

use super::response::both;
use super::{cache_write, Phases};
use crate::duplex::Fate;
use crate::pipeline::feed::Feed;
use crate::{ProxyHttp, ProxyWarnLogContext};

impl<SV, C> Phases<'_, SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    /// [`filter_response`](Self::filter_response) of a message that was received, with a part for the cache.
    pub(super) async fn filter_cached(&mut self, task: &mut HttpTask) -> Result<Fate> {
        if let HttpTask::Header(header, end) = task {
            if let Some(fate) = self.replaced_by_stored(header, *end).await? {
                return Ok(fate);
            }
        }
        if !self.session.upstream_compression.is_pending() {
            self.upstream_modules(task).await?;
        }
        self.decompress(task)?;
        let (inner, session, ctx) = (&self.proxy.inner, &mut *self.session, &mut *self.ctx);
        match task {
            HttpTask::Header(header, end) if is_decisive(header.status) => {
                self.cached_header(header, end).await
            }
            HttpTask::Header(header, _) => {
                inner.upstream_response_filter(session, header, ctx).await?;
                let (session, ctx) = (&mut *self.session, &mut *self.ctx);
                inner.response_filter(session, header, ctx).await?;
                Ok(Fate::Pass)
            }
            HttpTask::Body(body, end) => {
                let delay = inner.upstream_response_body_filter(session, body, *end, ctx)?;
                let fate = if self.cached_rest(task).await? {
                    Fate::Kept(delay)
                } else {
                    self.filter_for_client(task, delay)?
                };
                Ok(self.unless_served(fate))
            }
            HttpTask::Trailer(trailers) => {
                if let Some(trailers) = trailers {
                    inner.upstream_response_trailer_filter(session, trailers, ctx)?;
                }
                if self.cached_rest(task).await? {
                    return Ok(Fate::Kept(None));
                }
                self.filter_trailers(task).await;
                Ok(Fate::Pass)
            }
            HttpTask::Done => {
                let kept = self.cached_rest(task).await?;
                Ok(if kept { Fate::Kept(None) } else { Fate::Pass })
            }
            HttpTask::UpgradedBody(body, end) => {
                let delay = inner.upstream_response_body_filter(session, body, *end, ctx)?;
                self.filter_for_client(task, delay)
            }
            HttpTask::Failed(_) => Ok(Fate::Pass),
        }
    }

    /// The fate of a message, which is the last one when the client has all of its response and nothing is stored.
    fn unless_served(&mut self, fate: Fate) -> Fate {
        let session = &mut *self.session;
        let write = session.cache_write.as_ref();
        if write.is_some_and(|write| write.is_client_served())
            && !cache_write::is_storing(&mut session.cache)
        {
            return Fate::Last(Box::new(fate));
        }
        fate
    }

    /// A piece of the body through the client's filter, which the upstream's holds back for a while.
    fn filter_for_client(&mut self, task: &mut HttpTask, delay: Option<Duration>) -> Result<Fate> {
        let (HttpTask::Body(body, end) | HttpTask::UpgradedBody(body, end)) = task else {
            return Ok(Fate::Pass);
        };
        let (inner, session, ctx) = (&self.proxy.inner, &mut *self.session, &mut *self.ctx);
        let own = inner.response_body_filter(session, body, *end, ctx)?;
        Ok(match both(delay, own).filter(|delay| !delay.is_zero()) {
            Some(delay) => Fate::Later(delay),
            None => Fate::Pass,
        })
    }

    /// Returns the place of a header in whose place the stored response is served, if it is.
    ///
    /// # Errors
    /// Those of the filters; one without a meaning ends the exchange when more of the response would follow.
    pub(super) async fn replaced_by_stored(
        &mut self,
        header: &mut ResponseHeader,
        end: bool,
    ) -> Result<Option<Fate>> {
        let (inner, session, ctx) = (&self.proxy.inner, &mut *self.session, &mut *self.ctx);
        if !cache_write::answered_by_stored(inner, session, ctx, header).await? {
            return Ok(None);
        }
        if end {
            return Ok(Some(Fate::Kept(None)));
        }
        // A client that can be answered does not wait for the rest of an error page.
        Error::e_explain(InternalError, "the stored response is served").map_err(Error::into_up)
    }

    /// A header that decides what becomes of the response.
    pub(super) async fn cached_header(
        &mut self,
        header: &mut ResponseHeader,
        end: &mut bool,
    ) -> Result<Fate> {
        let (inner, session, ctx) = (&self.proxy.inner, &mut *self.session, &mut *self.ctx);
        inner.upstream_response_filter(session, header, ctx).await?;
        if !header.status.is_informational() {
            let decided = inner.upstream_response_decision(session, header, ctx);
            if let Some(e) = decided.await {
                self.turned_down(e)?;
            }
        }
        let (session, ctx) = (&mut *self.session, &mut *self.ctx);
        let ended = *end;
        let mut body = None;
        let mut delay = None;
        if ended {
            // The filters may fill a body that is empty.
            delay = inner.upstream_response_body_filter(session, &mut body, true, ctx)?;
            *end = body.is_none();
        }
        cache_write::admit(inner, session, ctx, header, *end).await;
        if body.is_some() {
            cache_write::store(inner, session, ctx, body.as_ref(), true).await;
        }
        let header_only = cache_write::answer_client(inner, session, ctx, header);
        inner.response_filter(session, header, ctx).await?;
        *end |= header_only;
        if !ended && !header_only {
            let feed = Feed::of(&mut self.session.cache);
            if feed.is_some() {
                self.rare.get_or_insert_default().feed = feed;
            }
            return Ok(Fate::Pass);
        }
        if header_only {
            body = None;
        } else if let Some(write) = &mut session.cache_write {
            write.cut(&mut body, end);
        }
        let (session, ctx) = (&mut *self.session, &mut *self.ctx);
        let second = inner.response_body_filter(session, &mut body, true, ctx)?;
        let delay = both(delay, second);
        if body.is_none() && delay.is_none() {
            *end = true;
            return Ok(self.unless_served(Fate::Pass));
        }
        *end = false;
        let rest = HttpTask::Body(body, true);
        let then = Fate::Then(Box::new((delay.unwrap_or_default(), rest)));
        Ok(self.unless_served(then))
    }

    /// Stores a message after the header, which has passed the upstream's filters. Returns whether the client does not get it
    /// from here.
    ///
    /// # Errors
    /// One that ends the exchange when nobody takes the response any longer.
    pub(super) async fn cached_rest(&mut self, task: &mut HttpTask) -> Result<bool> {
        let (inner, session, ctx) = (&self.proxy.inner, &mut *self.session, &mut *self.ctx);
        let (body, end): (Option<&Bytes>, bool) = match task {
            HttpTask::Body(body, end) => (body.as_ref(), *end),
            // Trailers are not stored.
            _ => (None, true),
        };
        cache_write::store(inner, session, ctx, body, end).await;
        let stored = cache_write::is_stored(&mut session.cache, end);
        if session
            .cache_write
            .as_ref()
            .is_some_and(|write| write.is_client_gone())
        {
            if stored && end {
                self.finish_feed().await;
            }
            let nobody = || Error::explain(InternalError, "neither client nor storage take it");
            return stored.then_some(true).ok_or_else(nobody);
        }
        if let Some(feed) = self.rare.as_mut().and_then(|rare| rare.feed.as_mut()) {
            if stored {
                feed.stored(body.map_or(0, Bytes::len), end);
            } else {
                feed.follow(std::mem::replace(task, HttpTask::Done));
            }
            return Ok(true);
        }
        let Some(write) = &mut session.cache_write else {
            return Ok(false);
        };
        if write.is_client_served() {
            return Ok(true);
        }
        match task {
            HttpTask::Body(body, end) => write.cut(body, end),
            // They are those of the whole.
            HttpTask::Trailer(_) if write.sends_parts() => *task = HttpTask::Body(None, true),
            _ => {}
        }
        Ok(false)
    }

    /// A message that was read from the storage, or comes after what could be.
    ///
    /// # Errors
    /// Those of the filter.
    pub(super) async fn fed(&mut self, task: &mut HttpTask) -> Result<Fate> {
        match (&mut *task, &mut self.session.cache_write) {
            (HttpTask::Body(body, end), Some(write)) => write.cut(body, end),
            // They are those of the whole.
            (HttpTask::Trailer(_), Some(write)) if write.sends_parts() => {
                *task = HttpTask::Body(None, true);
            }
            _ => {}
        }
        if task.is_end() {
            self.finish_feed().await;
        }
        if let HttpTask::Trailer(_) = task {
            self.filter_trailers(task).await;
            return Ok(Fate::Pass);
        }
        let fate = self.filter_for_client(task, None)?;
        Ok(self.unless_served(fate))
    }

    /// Returns whether a response is stored on without its client, which is lost by `e`: where others may be reading it.
    pub(super) fn stores_on(&mut self, e: &Error) -> bool {
        let session = &mut *self.session;
        let shared = session.cache.support_streaming_partial_write() == Some(true);
        if !shared || !cache_write::is_storing(&mut session.cache) {
            return false;
        }
        if let Some(write) = &mut session.cache_write {
            write.client_is_gone();
        }
        if let Some(messages) = &mut session.messages {
            messages.lose_client();
        }
        let (inner, context) = (&self.proxy.inner, ProxyWarnLogContext::DownstreamCache);
        if !inner.suppress_proxy_warn_log(self.session, self.ctx, e, context) {
            let summary = inner.request_summary(self.session, self.ctx);
            warn!("the client is gone, its response is stored on: {e}, {summary}");
        }
        true
    }

    /// Ends what the exchange has read from the storage.
    async fn finish_feed(&mut self) {
        let Some(feed) = self.rare.as_mut().and_then(|rare| rare.feed.take()) else {
            return;
        };
        if let Err(e) = feed.finish(&mut self.session.cache).await {
            let summary = self.proxy.inner.request_summary(self.session, self.ctx);
            warn!("a stored response is not finished: {e}, {summary}");
        }
    }
}

/// Returns whether the cache decides by this header: a final one, or a 101.
pub(super) fn is_decisive(status: StatusCode) -> bool {
    !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
}
