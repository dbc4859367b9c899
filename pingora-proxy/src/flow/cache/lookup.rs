//! Looking up, and waiting for the one that fetches what is looked for.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use log::warn;
use pingora_cache::lock::LockWaitOutcome;
use pingora_cache::{
    CacheMeta, CachePhase, ForcedFreshness, HitHandler, HitStatus, HttpCache, NoCacheReason,
};
use pingora_core::connectors::http::custom;
use pingora_core::exchange::Downstream;
use pingora_error::{Error, Result};

use crate::pipeline::cache_write::fills;
use crate::subrequest::Ctx;
use crate::upstream::Partial;
use crate::{HttpProxy, ProxyHttp, Session};

/// The lookups of a request after waits for a writer, unless it sets another limit.
const LOOKUPS_AFTER_WAITS: usize = 2;

/// The slots that are asked for the variant of one request. The second has it, unless what responses vary by changes
/// meanwhile.
const MAX_SLOTS: usize = 4;

/// The end of looking up.
pub(super) enum Found {
    /// The session's cache has a response that may be served.
    Usable,
    /// The request goes upstream: to fill the cache, to revalidate what is there, or without the cache.
    Nothing,
}

/// The result of one look at the storage.
enum Look {
    Fresh,
    Stale,
    /// Nothing, or nothing that may be used. The cache is locked if it has a lock.
    Missing,
    /// The storage cannot answer, and nobody is to wait for it.
    Failed,
    /// The application has turned the cache off.
    Off,
}

impl<SV, C> HttpProxy<SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    /// Looks up until there is an answer, or nobody left to wait for.
    ///
    /// # Errors
    /// That the client has left while it waited.
    pub(super) async fn look_up(
        self: &Arc<Self>,
        session: &mut Session,
        ctx: &mut SV::CTX,
    ) -> Result<Found> {
        // Whoever brings a lock is to revalidate for others, and has nobody to serve.
        let brought = session.subrequest_ctx.as_ref();
        let revalidates = brought.is_some_and(|brought| brought.has_write_lock());
        let mut retries = 0;
        loop {
            let look = self.look(session, ctx).await;
            inherit_write_lock(session);
            match look {
                Look::Fresh => return Ok(Found::Usable),
                Look::Off => return Ok(Found::Nothing),
                Look::Failed => {
                    self.miss(session, ctx);
                    return Ok(Found::Nothing);
                }
                Look::Stale if !revalidates && self.serves_while_updating(session, ctx) => {
                    return Ok(Found::Usable);
                }
                Look::Stale | Look::Missing => {}
            }
            if !session.cache.enabled() {
                return Ok(Found::Nothing);
            }
            if !session.cache.is_cache_locked() {
                if let Look::Missing = look {
                    self.miss(session, ctx);
                }
                return Ok(Found::Nothing);
            }
            let most = session.cache.cache_lock_max_retries();
            let outcome = wait_for_writer(session).await?;
            if let Some(reason) = gives_up(outcome, retries, most.unwrap_or(LOOKUPS_AFTER_WAITS)) {
                session.cache.disable(reason);
                return Ok(Found::Nothing);
            }
            retries += 1;
        }
    }

    /// Looks once for the variant of the request.
    async fn look(&self, session: &mut Session, ctx: &mut SV::CTX) -> Look {
        let mut slot = 0;
        loop {
            slot += 1;
            let cuts = fills::cuts();
            let found = match session.cache.cache_lookup().await {
                Ok(found) => found,
                Err(e) => {
                    let summary = self.inner.request_summary(session, ctx);
                    warn!("cache lookup: {e}, {summary}");
                    return Look::Failed;
                }
            };
            let Some((mut meta, hit)) = found else {
                return Look::Missing;
            };
            let mut hit = until_filled(&session.cache, &meta, hit, cuts);
            let variance = self
                .inner
                .cache_vary_filter(&meta, ctx, session.req_header());
            let mut status = HitStatus::ForceMiss;
            if variance.is_none_or(|variance| session.cache.cache_vary_lookup(variance, &meta)) {
                status = self.judge(session, ctx, &mut meta, &mut hit).await;
            } else if slot < MAX_SLOTS {
                continue;
            }
            if !session.cache.enabled() {
                return Look::Off;
            }
            session.cache.cache_found(meta, hit, status);
            return match status {
                HitStatus::Fresh | HitStatus::ForceFresh => Look::Fresh,
                HitStatus::ForceMiss | HitStatus::FailedHitFilter => Look::Missing,
                HitStatus::Expired
                | HitStatus::ForceExpired
                | HitStatus::ForceExpiredServeStale => Look::Stale,
            };
        }
    }

    /// Asks the application what may become of an entry.
    async fn judge(
        &self,
        session: &mut Session,
        ctx: &mut SV::CTX,
        meta: &mut CacheMeta,
        hit: &mut HitHandler,
    ) -> HitStatus {
        let fresh = meta.is_fresh(SystemTime::now());
        let forced = self
            .inner
            .cache_hit_filter(session, meta, hit, fresh, ctx)
            .await;
        match forced {
            Ok(None) if fresh => HitStatus::Fresh,
            Ok(None) => HitStatus::Expired,
            Ok(Some(ForcedFreshness::ForceFresh)) => HitStatus::ForceFresh,
            Ok(Some(ForcedFreshness::ForceMiss)) => HitStatus::ForceMiss,
            Ok(Some(ForcedFreshness::ForceExpired)) => {
                meta.disable_serve_stale();
                HitStatus::ForceExpired
            }
            Ok(Some(ForcedFreshness::ForceExpiredServeStale { expired_at })) => {
                if let Some(at) = expired_at {
                    meta.expire_at(at);
                }
                HitStatus::ForceExpiredServeStale
            }
            Err(e) => {
                let summary = self.inner.request_summary(session, ctx);
                warn!("cache_hit_filter: {e}, {summary}");
                HitStatus::FailedHitFilter
            }
        }
    }

    /// Returns whether a stale entry is served as it is, because it is being revalidated: by another request, or in the
    /// background from now on.
    fn serves_while_updating(self: &Arc<Self>, session: &mut Session, ctx: &mut SV::CTX) -> bool {
        let writer = session.cache.is_cache_lock_writer();
        let updates = writer || session.cache.is_cache_locked();
        if !updates || !session.cache.can_serve_stale_updating() {
            return false;
        }
        if !self.inner.should_serve_stale(session, ctx, None) || !session.cache.enabled() {
            return false;
        }
        if writer {
            self.revalidate_in_background(session);
        }
        session.cache.set_stale_updating();
        true
    }

    /// Hands the write lock to a subrequest, which revalidates the entry for all others.
    fn revalidate_in_background(self: &Arc<Self>, session: &mut Session) {
        let key = session.cache.cache_key().clone();
        let (permit, lock) = session.cache.take_write_lock();
        let brought = Ctx::builder().cache_write_lock(lock, key, permit).build();
        self.spawner()
            .spawn_background_subrequest(&session.downstream_session, brought);
    }

    /// Records that nothing is there, after which the request may fill the cache.
    fn miss(&self, session: &mut Session, ctx: &mut SV::CTX) {
        self.inner.cache_miss(session, ctx);
        // An override that has neither recorded the miss nor disabled the cache.
        if matches!(
            session.cache.phase(),
            CachePhase::CacheKey | CachePhase::Stale
        ) {
            session.cache.cache_miss();
        }
    }
}

/// Has a response that may still be written end only where its fill does. What can be sought is whole.
fn until_filled(cache: &HttpCache, meta: &CacheMeta, hit: HitHandler, cuts: usize) -> HitHandler {
    if hit.can_seek() || cache.support_streaming_partial_write() != Some(true) {
        return hit;
    }
    match fills::reading(cache.cache_key(), meta.created(), cuts) {
        Some(fills) => Box::new(Partial::new(hit, fills)),
        None => hit,
    }
}

/// Gives a subrequest that waits for the lock of the request that it was made for that lock.
fn inherit_write_lock(session: &mut Session) {
    let Some(brought) = &mut session.subrequest_ctx else {
        return;
    };
    let waits = session.cache.enabled() && session.cache.is_cache_locked();
    // Another key's permit would end the wait of those behind that one, and let two fill this one.
    if waits && brought.locks(session.cache.cache_key()) {
        if let Some(permit) = brought.take_write_lock() {
            session.cache.set_write_lock(permit);
            return;
        }
    }
    // It has no use for it, and others may wait.
    brought.release_write_lock();
}

/// Waits for the one that fetches the response, or for the client to leave.
async fn wait_for_writer(session: &mut Session) -> Result<LockWaitOutcome> {
    let Session {
        cache,
        downstream_session: downstream,
        ..
    } = session;
    // Until its body is read nothing shows that a client has left.
    let watched = downstream.is_body_done();
    let mut wait = pin!(cache.cache_lock_wait());
    std::future::poll_fn(|cx| {
        if let Poll::Ready(outcome) = wait.as_mut().poll(cx) {
            return Poll::Ready(Ok(outcome));
        }
        if !watched {
            return Poll::Pending;
        }
        downstream.poll_gone(cx).map(|e| Err(Error::into_down(e)))
    })
    .await
}

/// Returns the reason for which a request that has waited goes upstream without the cache. Without one it looks up again.
fn gives_up(outcome: LockWaitOutcome, retries: usize, most: usize) -> Option<NoCacheReason> {
    match outcome {
        LockWaitOutcome::Done
        | LockWaitOutcome::TransientError
        | LockWaitOutcome::Dangling
        | LockWaitOutcome::AgeTimeout => {
            (retries >= most).then_some(NoCacheReason::CacheLockRetryLimit)
        }
        LockWaitOutcome::GiveUp => Some(NoCacheReason::CacheLockGiveUp),
        LockWaitOutcome::WaitTimeout => Some(NoCacheReason::CacheLockTimeout),
        LockWaitOutcome::Abandoned { reason, .. } => Some(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LockWaitOutcome::*;

    #[test]
    fn how_a_wait_ends() {
        let abandoned = Abandoned {
            reason: NoCacheReason::Custom("other"),
            token: 1,
        };
        let rows = [
            (Done, 0, None),
            (Done, 1, None),
            (Done, 2, Some(NoCacheReason::CacheLockRetryLimit)),
            (TransientError, 1, None),
            (TransientError, 2, Some(NoCacheReason::CacheLockRetryLimit)),
            (Dangling, 0, None),
            (AgeTimeout, 0, None),
            (AgeTimeout, 2, Some(NoCacheReason::CacheLockRetryLimit)),
            (GiveUp, 0, Some(NoCacheReason::CacheLockGiveUp)),
            (WaitTimeout, 0, Some(NoCacheReason::CacheLockTimeout)),
            (abandoned, 0, Some(NoCacheReason::Custom("other"))),
        ];
        for (outcome, retries, reason) in rows {
            let row = format!("{outcome:?} after {retries}");
            assert_eq!(gives_up(outcome, retries, 2), reason, "{row}");
        }
        assert_eq!(
            gives_up(Done, 0, 0),
            Some(NoCacheReason::CacheLockRetryLimit)
        );
    }
}
