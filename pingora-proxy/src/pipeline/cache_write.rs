//! The upstream's side of the cache: what an upstream answers is stored, or shows that what is stored may be served.
//!
//! ```text
//! request:  strip what asks for less than the whole -> ask for what is stored, if it is stale
//! header:   304 for what is stored, or 5xx while it may be served stale -> the stored response answers
//!           else -> response_cache_filter -> size -> cache_vary_filter -> admission, or the cache is off
//!           -> what the client asked for of the whole: 304, ranges, no body for HEAD
//! body:     each piece, after the upstream filters, is copied to the storage, then cut for the client
//! end:      the asset is complete; whatever ends otherwise is discarded
//! ```
//!
//! Every path gives the write lock back: those that wait behind it look up again, or go upstream by themselves.

use bytes::Bytes;
use http::header::{self, HeaderMap, CONTENT_LENGTH};
use http::{Method, StatusCode};
use log::warn;
use pingora_cache::filters::upstream::request_filter;
use pingora_cache::storage::{HandleMiss, MissFinishType};
use pingora_cache::RespCacheable::{Cacheable, Uncacheable};
use pingora_cache::{CacheMeta, CachePhase, HttpCache, NoCacheReason};
use pingora_core::protocols::http::conditional_filter::to_304;
use pingora_error::ErrorType::{HTTPStatus, InternalError};
use pingora_error::{Error, ErrorSource, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::error_status::awaits_response;
use crate::range::RangeBodyFilter;
use crate::{ProxyHttp, RangeType, Session};
use fills::Fill;
use progress::{CacheWrite, Share};

pub(crate) mod fills;
pub(crate) mod progress;
mod storage;

/// Prepares the request of a try for the cache: the whole response is asked for, or whether what is stored still holds.
pub(crate) fn begin_try(session: &mut Session, request: &mut RequestHeader) {
    // What an earlier try has left.
    if session.cache_write.take().is_some_and(|last| last.mutated) {
        session.upstream_headers_mutated_for_cache = false;
    }
    if !session.cache.enabled() {
        return;
    }
    let stored = match session.cache.phase() {
        CachePhase::Stale => session.cache.maybe_cache_meta(),
        _ => None,
    };
    request_filter(request, stored);
    session.mark_upstream_headers_mutated_for_cache();
    session.cache_write = Some(Box::new(CacheWrite {
        mutated: true,
        ..CacheWrite::default()
    }));
}

/// Returns whether a response of the upstream is of interest here: the cache is on, or was, or the upstream was asked
/// for more than the client did.
pub(crate) fn is_concerned(session: &Session) -> bool {
    session.upstream_headers_mutated_for_cache
        || session.cache.phase() != CachePhase::Disabled(NoCacheReason::NeverEnabled)
}

/// Decides by a response header, before anything has changed it, whether what is stored answers in its place: it was
/// validated by a 304, or the upstream failed and it may be served stale.
///
/// # Errors
/// Those of `upstream_response_filter`.
pub(crate) async fn answered_by_stored<SV>(
    inner: &SV,
    session: &mut Session,
    ctx: &mut SV::CTX,
    header: &mut ResponseHeader,
) -> Result<bool>
where
    SV: ProxyHttp + Sync,
    SV::CTX: Send + Sync,
{
    let stored = session.cache.phase() == CachePhase::Stale;
    let answered = if stored && header.status == StatusCode::NOT_MODIFIED {
        inner.upstream_response_filter(session, header, ctx).await?;
        revalidate(inner, session, ctx, header).await;
        true
    } else {
        let failed = stored && header.status.is_server_error();
        let status = HTTPStatus(header.status.as_u16());
        failed && may_serve_stale(inner, session, ctx, &Error::new_up(status))
    };
    if answered {
        let write = session.cache_write.get_or_insert_default();
        write.answered_by_stored = true;
    }
    Ok(answered)
}

/// Freshens what is stored by a 304. It is served whatever comes of that.
async fn revalidate<SV>(
    inner: &SV,
    session: &mut Session,
    ctx: &mut SV::CTX,
    not_modified: &ResponseHeader,
) where
    SV: ProxyHttp + Sync,
    SV::CTX: Send + Sync,
{
    let mut merged = session.cache.revalidate_merge_header(not_modified);
    // Merging leaves the age of the response that was stored. A 304 without one is of this moment.
    merged.remove_header(&header::AGE);
    for age in not_modified.headers.get_all(header::AGE) {
        // It is refused only by a header without room for one more field.
        let _ = merged.append_header(header::AGE, age);
    }
    // It is kept for longer than the 304, of which it has fields now.
    merged.detach();
    let variance = session
        .cache
        .maybe_cache_meta()
        .and_then(CacheMeta::variance);
    match inner.response_cache_filter(session, &merged, ctx) {
        Ok(Cacheable(mut meta)) => {
            // By the same request fields it was found, and the body is the same.
            match variance {
                Some(variance) => meta.set_variance_key(variance),
                None => meta.remove_variance(),
            }
            meta.response_header_mut().detach();
            if let Err(e) = storage::update(&mut session.cache, meta).await {
                say(inner, session, ctx, "revalidated, but not stored", &e);
                if session.cache.phase() == CachePhase::Stale {
                    let reason = NoCacheReason::StorageError;
                    session.cache.revalidate_uncacheable(merged, reason);
                }
            }
        }
        Ok(Uncacheable(reason)) => {
            let reason = allowed(reason);
            session.cache.response_became_uncacheable(reason);
            session.cache.revalidate_uncacheable(merged, reason);
        }
        Err(e) => {
            say(inner, session, ctx, "response_cache_filter", &e);
            session
                .cache
                .revalidate_uncacheable(merged, NoCacheReason::InternalError);
        }
    }
}

/// Returns whether what is stored answers a request that failed with `e`. If it does, nobody waits any longer for this
/// request to replace it.
pub(crate) fn may_serve_stale<SV: ProxyHttp>(
    inner: &SV,
    session: &mut Session,
    ctx: &mut SV::CTX,
    e: &Error,
) -> bool {
    let may = session.cache.can_serve_stale_error()
        && awaits_response(session)
        && inner.should_serve_stale(session, ctx, Some(e));
    if may {
        let cache = &mut session.cache;
        cache.release_write_lock(NoCacheReason::UpstreamError);
    }
    may
}

/// Begins to store a response, or turns the cache off, by its header as the upstream filters have left it. `end`:
/// nothing follows it.
pub(crate) async fn admit<SV>(
    inner: &SV,
    session: &mut Session,
    ctx: &mut SV::CTX,
    header: &ResponseHeader,
    end: bool,
) where
    SV: ProxyHttp + Sync,
    SV::CTX: Send + Sync,
{
    if !session.cache.enabled() && !session.cache.bypassing() {
        return;
    }
    let Some(mut meta) = admissible(inner, session, ctx, header, end) else {
        return;
    };
    // It is kept for longer than the buffer that it was received in.
    meta.response_header_mut().detach();
    let variance = inner.cache_vary_filter(&meta, ctx, session.req_header());
    let expected = content_length(&meta.response_header().headers);
    let created = meta.created();
    session.cache.set_cache_meta(meta);
    session.cache.update_variance(variance);
    let shared = session.cache.support_streaming_partial_write() == Some(true);
    let fill = shared.then(|| Fill::begin(session.cache.cache_key(), created));
    if let Err(e) = storage::begin(&mut session.cache).await {
        say(inner, session, ctx, "a response cannot be stored", &e);
        discard(&mut session.cache, NoCacheReason::StorageError);
        return;
    }
    let write = session.cache_write.get_or_insert_default();
    // A response without a body has the length that it would have with one.
    write.expected = expected.filter(|_| !end);
    write.fill = fill;
    if end {
        store(inner, session, ctx, None, true).await;
    }
}

/// Returns the metadata to store with a response that may be stored; `None` turns the cache off.
fn admissible<SV: ProxyHttp>(
    inner: &SV,
    session: &mut Session,
    ctx: &mut SV::CTX,
    header: &ResponseHeader,
    end: bool,
) -> Option<CacheMeta> {
    // It says nothing about a response that is not there.
    if header.status == StatusCode::NOT_MODIFIED {
        refuse(
            session,
            match session.cache.bypassing() {
                true => NoCacheReason::Deferred,
                false => NoCacheReason::Custom("304 on miss"),
            },
        );
        return None;
    }
    let meta = match inner.response_cache_filter(session, header, ctx) {
        // What follows is another protocol.
        Ok(_) if header.status == StatusCode::SWITCHING_PROTOCOLS => {
            refuse(session, NoCacheReason::OriginNotCache);
            return None;
        }
        Ok(Cacheable(meta)) => meta,
        Ok(Uncacheable(reason)) => {
            refuse(session, allowed(reason));
            return None;
        }
        Err(e) => {
            say(inner, session, ctx, "response_cache_filter", &e);
            session.cache.disable(NoCacheReason::InternalError);
            return None;
        }
    };
    let length = match end {
        true => Some(0),
        false => content_length(&header.headers),
    };
    let max = session.cache.max_file_size_bytes();
    if matches!((length, max), (Some(length), Some(max)) if length > max) {
        refuse(session, NoCacheReason::ResponseTooLarge);
        return None;
    }
    if session.cache.bypassing() {
        if let Some(reason) = bypassed(session, header, length) {
            session.cache.disable(reason);
            return None;
        }
        session.cache.response_became_cacheable();
        inner.cache_miss(session, ctx);
    }
    match session.cache.phase() {
        CachePhase::Miss | CachePhase::Stale => Some(meta),
        // An application that has turned the cache off meanwhile, or has not recorded the miss.
        CachePhase::Disabled(_) => None,
        _ => {
            session.cache.disable(NoCacheReason::InternalError);
            None
        }
    }
}

/// Why a response that may be stored is not, to a request that the predictor has kept from the cache: the upstream
/// was asked what the client asked, or its length has yet to be seen.
fn bypassed(
    session: &Session,
    header: &ResponseHeader,
    length: Option<usize>,
) -> Option<NoCacheReason> {
    if !is_whole(session.req_header(), header.status) {
        return Some(NoCacheReason::Deferred);
    }
    // Without a reason it may have been the size.
    let by_size = matches!(
        session.cache.predicted_uncacheable_reason(),
        None | Some(NoCacheReason::ResponseTooLarge)
    );
    let limited = session.cache.max_file_size_bytes().is_some();
    (by_size && limited && length.is_none()).then_some(NoCacheReason::PredictedResponseTooLarge)
}

/// Returns true if the response to this request is all that there is, and not what the client's preconditions left of
/// it.
fn is_whole(request: &RequestHeader, status: StatusCode) -> bool {
    let partial = [
        StatusCode::PARTIAL_CONTENT,
        StatusCode::PRECONDITION_FAILED,
        StatusCode::RANGE_NOT_SATISFIABLE,
    ];
    request.method != Method::HEAD && !partial.contains(&status)
}

/// Turns the cache off, and lets the predictor know why.
fn refuse(session: &mut Session, reason: NoCacheReason) {
    session.cache.response_became_uncacheable(reason);
    session.cache.disable(reason);
}

/// The reason of an application, unless it is one that only the cache itself may have, and panics at.
fn allowed(reason: NoCacheReason) -> NoCacheReason {
    use NoCacheReason::*;
    match reason {
        NeverEnabled | CacheLockGiveUp | CacheLockTimeout | CacheLockRetryLimit => OriginNotCache,
        _ => reason,
    }
}

/// Makes the header of a whole response the one that the client has asked for, where the upstream was asked for more.
/// Returns whether nothing follows it to the client.
pub(crate) fn answer_client<SV: ProxyHttp>(
    inner: &SV,
    session: &mut Session,
    ctx: &mut SV::CTX,
    header: &mut ResponseHeader,
) -> bool {
    if !session.upstream_headers_mutated_for_cache {
        return false;
    }
    let share = share(inner, session, ctx, header);
    let write = session.cache_write.get_or_insert_default();
    write.client = share;
    write.is_client_served()
}

fn share<SV: ProxyHttp>(
    inner: &SV,
    session: &mut Session,
    ctx: &mut SV::CTX,
    header: &mut ResponseHeader,
) -> Share {
    match inner.cache_not_modified_filter(session, header, ctx) {
        Ok(true) => {
            to_304(header);
            return Share::Nothing;
        }
        Ok(false) => {}
        Err(e) => say(inner, session, ctx, "cache_not_modified_filter", &e),
    }
    let range = match session.ignore_downstream_range {
        true => RangeType::None,
        false => inner.range_header_filter(session, header, ctx),
    };
    match range {
        _ if session.req_header().method == Method::HEAD => Share::Nothing,
        RangeType::None => Share::Whole,
        RangeType::Invalid => Share::Nothing,
        range => Share::Parts(RangeBodyFilter::new(range)),
    }
}

/// Stores a piece of the body as the upstream filters have left it, or the mere end.
pub(crate) async fn store<SV>(
    inner: &SV,
    session: &mut Session,
    ctx: &mut SV::CTX,
    body: Option<&Bytes>,
    end: bool,
) where
    SV: ProxyHttp + Sync,
    SV::CTX: Send + Sync,
{
    let length = body.map_or(0, Bytes::len);
    match session.cache.phase() {
        CachePhase::Miss | CachePhase::Expired => {}
        CachePhase::Disabled(NoCacheReason::PredictedResponseTooLarge) => {
            count(&mut session.cache, length, end);
            return;
        }
        _ => return,
    }
    if session.cache.miss_handler().is_none() {
        return;
    }
    if length > 0 && !session.cache.track_body_bytes_for_max_file_size(length) {
        let reason = NoCacheReason::ResponseTooLarge;
        session.cache.response_became_uncacheable(reason);
        discard(&mut session.cache, reason);
        return;
    }
    let write = session.cache_write.get_or_insert_default();
    write.stored += length;
    if end && write.expected.is_some_and(|length| length != write.stored) {
        let e = Error::explain(InternalError, "another length than Content-Length says");
        say(inner, session, ctx, "a response is not stored", &e);
        discard(&mut session.cache, NoCacheReason::UpstreamError);
        return;
    }
    let fill = write.fill.take_if(|_| end);
    if let Some(fill) = &fill {
        fill.ends_at(write.stored);
    }
    if let Err(e) = storage::write(&mut session.cache, body, end).await {
        say(inner, session, ctx, "a response is not stored", &e);
        discard(&mut session.cache, NoCacheReason::StorageError);
    }
}

/// Counts the body of a response that is not stored only because others for this key were too large.
fn count(cache: &mut HttpCache, length: usize, end: bool) {
    if cache.track_body_bytes_for_max_file_size(length) && end {
        cache.response_became_cacheable();
    }
}

/// Returns whether a response is being stored.
pub(crate) fn is_storing(cache: &mut HttpCache) -> bool {
    matches!(cache.phase(), CachePhase::Miss | CachePhase::Expired)
        && cache.miss_handler().is_some()
}

/// Returns whether what has come of the response is stored, and all of it at its end.
pub(crate) fn is_stored(cache: &mut HttpCache, end: bool) -> bool {
    let filling = matches!(cache.phase(), CachePhase::Miss | CachePhase::Expired);
    filling && (end || cache.miss_handler().is_some())
}

/// Ends what a try that failed has begun. The next one can use the cache only if nothing was stored.
pub(crate) fn abandon_try(cache: &mut HttpCache, e: &Error) {
    if is_storing(cache) {
        discard(cache, reason(e));
    }
}

/// Ends what a response has begun and not completed, which its client needs no more of.
pub(crate) fn settle(cache: &mut HttpCache) {
    if is_storing(cache) {
        discard(cache, NoCacheReason::UpstreamError);
    }
}

/// Turns the cache off after an error that ends the request.
pub(crate) fn fail(cache: &mut HttpCache, e: &Error) {
    if cache.enabled() || cache.bypassing() {
        discard(cache, reason(e));
    }
}

fn reason(e: &Error) -> NoCacheReason {
    match e.esource() {
        ErrorSource::Upstream => NoCacheReason::UpstreamError,
        _ => NoCacheReason::InternalError,
    }
}

/// Turns the cache off. What was stored of the response goes first: whoever waits for the lock must not find it.
fn discard(cache: &mut HttpCache, reason: NoCacheReason) {
    if matches!(cache.phase(), CachePhase::Miss | CachePhase::Expired) {
        if let Some(handler) = cache.miss_handler() {
            *handler = Box::new(Discarded);
        }
    }
    cache.disable(reason);
}

/// Gives back what a request holds of the cache, however it ends: a phase may panic, and a connection be dropped at
/// any await. A `Session` that did so when it is dropped could not be taken apart, by applications neither.
pub(crate) struct Lease<'a>(pub(crate) &'a mut Session);

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let cache = &mut self.0.cache;
        if !cache.enabled() {
            return;
        }
        if is_storing(cache) {
            discard(cache, NoCacheReason::InternalError);
        } else {
            cache.release_write_lock(NoCacheReason::InternalError);
        }
    }
}

/// Stands where the writer of a discarded response was.
struct Discarded;

#[async_trait::async_trait]
impl HandleMiss for Discarded {
    async fn write_body(&mut self, _data: Bytes, _eof: bool) -> Result<()> {
        Error::e_explain(InternalError, "the response was discarded")
    }

    async fn finish(self: Box<Self>) -> Result<MissFinishType> {
        Error::e_explain(InternalError, "the response was discarded")
    }
}

/// The length that a header says, if it says one.
fn content_length(headers: &HeaderMap) -> Option<usize> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let value = values.next()?.to_str().ok()?.trim();
    let single = values.next().is_none() && !headers.contains_key(header::TRANSFER_ENCODING);
    single.then(|| value.parse().ok()).flatten()
}

#[cold]
fn say<SV: ProxyHttp>(inner: &SV, session: &Session, ctx: &SV::CTX, what: &str, e: &Error) {
    warn!("{what}: {e}, {}", inner.request_summary(session, ctx));
}

#[cfg(test)]
mod tests;
