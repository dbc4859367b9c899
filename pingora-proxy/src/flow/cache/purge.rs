//! Removing an entry from the cache, because a request says so.

use std::borrow::Cow;

use http::header::{HeaderValue, ALLOW};
use log::{error, warn};
use pingora_cache::storage::PurgeAction;
use pingora_core::connectors::http::custom;
use pingora_core::protocols::http::error_resp::gen_error_response;
use pingora_error::Result;

use crate::{HttpProxy, ProxyHttp, PurgeStatus, Session};

impl<SV, C> HttpProxy<SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    /// Answers a purge: 200 if there was an entry, 404 if not, 405 without a cache, 500 if the storage failed.
    ///
    /// # Errors
    /// Those of the write.
    pub(in crate::flow) async fn purge(
        &self,
        session: &mut Session,
        ctx: &mut SV::CTX,
    ) -> Result<()> {
        let status = self.purge_entry(session, ctx).await;
        let code = match &status {
            PurgeStatus::Found => 200,
            PurgeStatus::NotFound => 404,
            PurgeStatus::NoCache => 405,
            PurgeStatus::Error(_) => 500,
        };
        let mut response = gen_error_response(code);
        if code == 405 {
            // RFC 9110 section 15.5.6.
            response.insert_header(ALLOW, HeaderValue::from_static("GET, HEAD"))?;
        }
        let mut response = Cow::Owned(response);
        let filtered = self
            .inner
            .purge_response_filter(session, ctx, status, &mut response);
        if let Err(e) = filtered {
            error!("purge_response_filter: {e}");
            response = Cow::Owned(gen_error_response(500));
        }
        session
            .write_response_header(Box::new(response.into_owned()), true)
            .await
    }

    async fn purge_entry(&self, session: &mut Session, ctx: &mut SV::CTX) -> PurgeStatus {
        if !session.cache.enabled() {
            return PurgeStatus::NoCache;
        }
        let purged = match self.inner.purge_action(session, ctx) {
            PurgeAction::Delete => session.cache.purge().await,
            PurgeAction::Expire => session.cache.expire().await,
        };
        match purged {
            Ok(true) => PurgeStatus::Found,
            Ok(false) => PurgeStatus::NotFound,
            Err(e) => {
                let summary = self.inner.request_summary(session, ctx);
                warn!("cannot purge: {e}, {summary}");
                PurgeStatus::Error(e)
            }
        }
    }
}
