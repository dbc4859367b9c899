//! Serving what is stored.

use http::header::{AGE, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode, Version};
use log::{error, warn};
use pingora_cache::{CacheMeta, CachePhase, HttpCache};
use pingora_core::connectors::http::custom;
use pingora_core::protocols::http::conditional_filter::to_304;
use pingora_core::protocols::http::ServerSession;
use pingora_error::ErrorType::InternalError;
use pingora_error::{Error, Result};
use pingora_http::internal::{MessageHead, Names};
use pingora_http::ResponseHeader;

use crate::duplex::Duplex;
use crate::flow::custom_sides::settle_down;
use crate::pipeline::HitPhases;
use crate::range::RangeBodyFilter;
use crate::request_policy::strip_response;
use crate::upstream::{Hit, Lent, Parts, Share, Stored, Windows};
use crate::{HttpProxy, ProxyHttp, RangeType, Session};

impl<SV, C> HttpProxy<SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    /// Answers the request by the response that the cache has found.
    ///
    /// # Errors
    /// Those of the storage and of the client's connection. The response may be under way.
    pub(in crate::flow) async fn serve_stored(
        &self,
        session: &mut Session,
        ctx: &mut SV::CTX,
    ) -> Result<()> {
        let served = self.send_stored(session, ctx).await;
        if has_hit(&session.cache) {
            if let Err(e) = session.cache.finish_hit_handler().await {
                let summary = self.inner.request_summary(session, ctx);
                warn!("cannot finish a hit: {e}, {summary}");
            }
        }
        served
    }

    async fn send_stored(&self, session: &mut Session, ctx: &mut SV::CTX) -> Result<()> {
        if !has_hit(&session.cache) {
            return Error::e_explain(InternalError, "no stored response to serve");
        }
        let (mut header, range) = self.stored_header(session, ctx);
        let end = is_bodiless(session, &header);
        let share = if end {
            Share::Whole(Some(0))
        } else {
            share(&mut session.cache, range)?
        };
        if let Err(e) = self.inner.response_filter(session, &mut header, ctx).await {
            let summary = self.inner.request_summary(session, ctx);
            error!("response_filter: {e}, {summary}");
            let refused = Box::new(ServerSession::generate_error(500));
            return session.write_response_header(refused, true).await;
        }
        if !has_hit(&session.cache) {
            return Error::e_explain(InternalError, "the cache was disabled under a hit");
        }
        let handler = std::mem::replace(session.cache.hit_handler(), Box::new(Lent));
        let mut stored = Stored(Hit::body(handler, share).with_header(header, end));
        let phases = HitPhases {
            inner: &self.inner,
            session: &mut *session,
            ctx,
        };
        let custom = phases.session.is_custom();
        let mut duplex = Duplex::new(phases, &mut stored).with_custom(custom);
        let passed = duplex.run().await;
        drop(duplex);
        if custom {
            Box::pin(settle_down(session)).await;
        }
        if let Some(handler) = stored.0.into_handler() {
            if has_hit(&session.cache) {
                *session.cache.hit_handler() = handler;
            }
        }
        passed.map(|_| ())
    }

    /// The header of a response to this request, and what of the body goes with it.
    fn stored_header(
        &self,
        session: &mut Session,
        ctx: &mut SV::CTX,
    ) -> (Box<ResponseHeader>, RangeType) {
        let version = session.req_header().version;
        let mut header = hit_header(session.cache.cache_meta(), version);
        match self.inner.cache_not_modified_filter(session, &header, ctx) {
            Ok(true) => {
                to_304(&mut header);
                return (header, RangeType::None);
            }
            Ok(false) => {}
            Err(e) => {
                let summary = self.inner.request_summary(session, ctx);
                warn!("cache_not_modified_filter: {e}, {summary}");
            }
        }
        let range = if session.ignore_downstream_range {
            RangeType::None
        } else {
            self.inner.range_header_filter(session, &mut header, ctx)
        };
        (header, range)
    }
}

/// Returns whether the cache is in a phase in which it has a stored response.
fn has_hit(cache: &HttpCache) -> bool {
    matches!(
        cache.phase(),
        CachePhase::Hit
            | CachePhase::Stale
            | CachePhase::StaleUpdating
            | CachePhase::Revalidated
            | CachePhase::RevalidatedNoCache(_)
    )
}

/// The header of a stored response, as it is sent to a client of this version.
fn hit_header(meta: &CacheMeta, version: Version) -> Box<ResponseHeader> {
    let mut header = Box::new(meta.response_header_copy());
    strip_response(&mut header, version);
    header.set_version(Version::HTTP_11);
    let age = HeaderValue::from(age(meta));
    header.remove_any(Names::AGE);
    // It is refused only by a header without room for one more field.
    let _ = header.raw_fields().append(b"Age", age);
    let has_length = header.may_have(Names::CONTENT_LENGTH);
    if has_length || is_bodiless_status(header.status) || version != Version::HTTP_11 {
        header.remove_any(Names::TRANSFER_ENCODING);
    } else {
        let chunked = HeaderValue::from_static("chunked");
        let _ = header.insert_header(TRANSFER_ENCODING, chunked);
    }
    header
}

/// Seconds since the origin made or validated the response (RFC 9111 section 4.2.3).
fn age(meta: &CacheMeta) -> u64 {
    let here = meta.age().as_secs();
    // What it had when it came, or the 304 that has confirmed it since.
    if !meta.response_header().may_have(Names::AGE) {
        return here;
    }
    let mut ages = meta.headers().get_all(AGE).iter();
    let came = match (ages.next(), ages.next()) {
        (Some(age), None) => age.to_str().ok().and_then(|age| age.parse::<u64>().ok()),
        _ => None,
    };
    here.saturating_add(came.unwrap_or(0))
}

fn is_bodiless_status(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Returns whether a response to this request is no more than its header.
fn is_bodiless(session: &Session, header: &ResponseHeader) -> bool {
    session.req_header().method == Method::HEAD
        || is_bodiless_status(header.status)
        || header.status == StatusCode::RANGE_NOT_SATISFIABLE
}

/// The length of a stored response, by its header.
fn content_length(header: &ResponseHeader) -> Option<usize> {
    if let Some(length) = header.index().content_length() {
        return usize::try_from(length).ok();
    }
    // Of a header that a storage has read, no field is known without a look.
    header
        .headers
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Limits what the storage reads to what is sent, where it can seek.
///
/// # Errors
/// Those of the storage.
fn share(cache: &mut HttpCache, range: RangeType) -> Result<Share> {
    let length = content_length(cache.cache_meta().response_header());
    let handler = cache.hit_handler();
    let whole = match &range {
        RangeType::None => length.map(|length| 0..length),
        RangeType::Single(range) => Some(range.clone()),
        RangeType::Multi(_) | RangeType::Invalid => None,
    };
    if let Some(part) = whole.filter(|part| part.len() > Windows::SIZE) {
        if handler.can_seek_multipart() {
            return Ok(Share::Windows(Windows::new(part)));
        }
    }
    Ok(match range {
        RangeType::None => Share::Whole(length),
        RangeType::Single(range) if handler.can_seek() => {
            handler.seek(range.start, Some(range.end))?;
            Share::Whole(Some(range.len()))
        }
        RangeType::Multi(info) if handler.can_seek_multipart() => Share::Parts(Parts::new(info)),
        range => Share::Cut(RangeBodyFilter::new(range)),
    })
}
