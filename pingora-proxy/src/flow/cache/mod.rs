//! The cache before the upstream: what a request is called there, whether what is stored answers it, and how it is served.
//!
//! ```text
//! request_cache_filter -> cache_key_callback -> is_purge? -> purge, purge_response_filter
//!   -> predicted uncacheable? -> bypass
//!   -> look up <----------------------------+
//!        another variant -------------------+ (its own slot)
//!        nothing: lock -> writer: cache_miss -> upstream
//!                      -> reader: wait -----+ (at most as often as is set, then without the cache)
//!        found: cache_hit_filter -> fresh -> serve
//!               stale: lock -> writer: served, and revalidated in the background; or -> upstream
//!                           -> reader: served; or wait
//! serve: Age -> cache_not_modified_filter -> range_header_filter -> response_filter -> response_body_filter
//! ```
//!
//! The state machine, the lock and the storages are those of `pingora-cache`. Here they are driven, and what they panic
//! at is not asked of them.

mod hit;
mod lookup;
mod purge;

use std::sync::Arc;

use log::warn;
use pingora_cache::NoCacheReason;
use pingora_core::connectors::http::custom;

use super::Early;
use crate::{request_policy, HttpProxy, ProxyHttp, Session};

/// The reason for which a request is not cached of which Connection names a field.
const WITHDRAWN: NoCacheReason = NoCacheReason::Custom("Connection names a field");

impl<SV, C> HttpProxy<SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    /// Gives a request whose cache is on its key. Without one the cache is off for the request.
    pub(super) fn name_in_cache(&self, session: &mut Session, ctx: &mut SV::CTX) {
        match self.inner.cache_key_callback(session, ctx) {
            Ok(key) => session.cache.set_cache_key(key),
            Err(e) => {
                let summary = self.inner.request_summary(session, ctx);
                warn!("not cached, as it has no key: {e}, {summary}");
                session.cache.disable(NoCacheReason::InternalError);
            }
        }
    }

    /// Answers a request by what is stored, if that may be, or else has it go upstream.
    pub(super) async fn answer_from_cache(
        self: &Arc<Self>,
        session: &mut Session,
        ctx: &mut SV::CTX,
    ) -> Early {
        if request_policy::withdraws_fields(session.req_header()) {
            session.cache.disable(WITHDRAWN);
            return Early::Proceed;
        }
        if !session.cache.cacheable_prediction() {
            session.cache.bypass();
            return Early::Proceed;
        }
        let served = match self.look_up(session, ctx).await {
            Ok(lookup::Found::Usable) => self.serve_stored(session, ctx).await,
            Ok(lookup::Found::Nothing) => return Early::Proceed,
            Err(e) => Err(e),
        };
        match served {
            Ok(()) => Early::Answered,
            Err(e) => Early::Failed(e),
        }
    }
}
