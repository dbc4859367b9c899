//! [`ProxyHttp`]: what an application decides about a request, phase by phase.
//!
//! The trait is one of `#[async_trait]`, and so are its implementations. A phase whose default
//! only says "go on" is written out here as that macro would write it, for one reason: its answer
//! is then a box of a type without size, which costs no allocation.

mod outcome;

use std::any::Any;
use std::borrow::Cow;
use std::future::Future;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use log::debug;
use pingora_cache::key::{CacheKey, HashBinary};
use pingora_cache::meta::CacheMeta;
use pingora_cache::storage::{HitHandler, PurgeAction};
use pingora_cache::{ForcedFreshness, NoCacheReason, RespCacheable};
use pingora_core::limits::LIMITS;
use pingora_core::modules::http::compression::ResponseCompressionBuilder;
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::http::conditional_filter::not_modified_filter;
use pingora_core::protocols::http::v2::client::was_not_processed;
use pingora_core::protocols::http::RefusedRequest;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::ready::ready;
use pingora_error::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::sync::mpsc;

use crate::error_status::{awaits_response, error_status};
use crate::{range_header_filter, RangeType, Session};

pub use outcome::{FailToProxy, ProxyWarnLogContext, PurgeStatus};

/// The phases of a proxied request: the only required ones are [`new_ctx`](Self::new_ctx) and
/// [`upstream_peer`](Self::upstream_peer).
///
/// The methods stand in the order in which the proxy calls them. `session` is the client's side of
/// the request, `ctx` the application's state for it. A request runs on one task: phases of one
/// request never run at the same time.
///
/// # Errors
///
/// Unless a phase says otherwise, an `Err` ends the request: it is passed to
/// [`fail_to_proxy`](Self::fail_to_proxy), which answers the client, and then to
/// [`logging`](Self::logging).
///
/// # Cancel safety
///
/// A phase is dropped at whatever it awaits when the task of its connection is.
///
/// # Example
///
/// ```
/// use async_trait::async_trait;
/// use pingora_core::upstreams::peer::HttpPeer;
/// use pingora_core::Result;
/// use pingora_proxy::{ProxyHttp, Session};
///
/// struct ToOneOrigin;
///
/// #[async_trait]
/// impl ProxyHttp for ToOneOrigin {
///     type CTX = ();
///
///     fn new_ctx(&self) -> Self::CTX {}
///
///     async fn upstream_peer(
///         &self,
///         _session: &mut Session,
///         _ctx: &mut Self::CTX,
///     ) -> Result<Box<HttpPeer>> {
///         Ok(Box::new(HttpPeer::new("127.0.0.1:8080", false, String::new())))
///     }
/// }
/// ```
#[async_trait]
pub trait ProxyHttp {
    /// The application's state for one request, handed to every phase.
    type CTX;

    /// Registers the modules that see what passes on the client's side. Called once, when the proxy
    /// is built.
    ///
    /// The default registers response compression, switched off (level 0), so that a phase can
    /// switch it on.
    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        modules.add_module(ResponseCompressionBuilder::enable(0));
    }

    /// Registers the modules that see what an upstream answers. Called once, when the proxy is
    /// built.
    ///
    /// The default registers none.
    #[cfg(feature = "upstream_modules")]
    fn init_upstream_modules(&self, _modules: &mut HttpModules) {}

    /// Sees a request that is refused before any other phase sees it: malformed, too large, too slow, or a CONNECT that
    /// is not let through. It may log it, and choose the answer; see [`RefusedRequest`]. A client that leaves within a
    /// head is not refused.
    ///
    /// The default does nothing.
    fn request_refused(&self, _refused: &mut RefusedRequest<'_>) {}

    /// Makes the state of a request, or of a subrequest.
    fn new_ctx(&self) -> Self::CTX;

    /// Takes over what [`persist_connection_context`](Self::persist_connection_context) kept of the
    /// previous request of this HTTP/1 connection. Called only if it kept something.
    ///
    /// The default drops it.
    fn on_connection_reuse(
        &self,
        _session: &mut Session,
        _ctx: &mut Self::CTX,
        _prev_ctx: Box<dyn Any + Send + Sync>,
    ) {
    }

    /// Sees the request before the downstream modules do, for instance to set them up.
    ///
    /// The default does nothing.
    fn early_request_filter<'life0, 'life1, 'life2, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _ctx: &'life2 mut Self::CTX,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        Self::CTX: Send + Sync,
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        Self: Sync + 'async_trait,
    {
        ready(|| Ok(()))
    }

    /// Returns whether this request gets a spawner of subrequests in its session.
    ///
    /// The default says no.
    fn allow_spawning_subrequest(&self, _session: &Session, _ctx: &Self::CTX) -> bool
    where
        Self::CTX: Send + Sync,
    {
        false
    }

    /// Checks or answers the request: limits, authentication, redirects.
    ///
    /// `Ok(true)` says that the response has been sent and nothing else is to be done; the default
    /// is `Ok(false)`, go on.
    fn request_filter<'life0, 'life1, 'life2, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _ctx: &'life2 mut Self::CTX,
    ) -> Pin<Box<dyn Future<Output = Result<bool>> + Send + 'async_trait>>
    where
        Self::CTX: Send + Sync,
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        Self: Sync + 'async_trait,
    {
        ready(|| Ok(false))
    }

    /// Switches the cache on for this request, by way of `session.cache`.
    ///
    /// The default leaves it off.
    ///
    /// # Errors
    ///
    /// An `Err` is logged, and the request goes on.
    fn request_cache_filter(&self, _session: &mut Session, _ctx: &mut Self::CTX) -> Result<()>
    where
        Self::CTX: Send + Sync,
    {
        Ok(())
    }

    /// Names the request in the cache. Called only if the cache was switched on.
    ///
    /// There is no key that is right for everyone, so an application that caches has to say.
    ///
    /// # Errors
    ///
    /// An `Err` switches the cache off for this request and is logged; the default is one.
    fn cache_key_callback(&self, _session: &Session, _ctx: &mut Self::CTX) -> Result<CacheKey> {
        let why = "an application that caches has to implement cache_key_callback()";
        Err(Error::explain(ErrorType::InternalError, why).into_in())
    }

    /// Returns whether this request is to remove its own entry from the cache.
    ///
    /// The default says no.
    fn is_purge(&self, _session: &Session, _ctx: &Self::CTX) -> bool {
        false
    }

    /// Returns what a purge does to the entry. Called for a purge with the cache on.
    ///
    /// The default deletes it.
    fn purge_action(&self, _session: &Session, _ctx: &Self::CTX) -> PurgeAction {
        PurgeAction::Delete
    }

    /// Changes the answer to a purge: 200 when the entry was found, 404 when not, 405 when the
    /// cache is off and 500 when it failed.
    ///
    /// The default leaves it.
    ///
    /// # Errors
    ///
    /// An `Err` makes the answer a 500.
    fn purge_response_filter(
        &self,
        _session: &Session,
        _ctx: &mut Self::CTX,
        _purge_status: PurgeStatus,
        _purge_response: &mut Cow<'static, ResponseHeader>,
    ) -> Result<()> {
        Ok(())
    }

    /// Hashes what selects among the variants of a stored response (RFC 9110 section 12.5.5). Called
    /// when an entry was found, and again before a response is stored.
    ///
    /// The default, `None`, says that there is one variant.
    fn cache_vary_filter(
        &self,
        _meta: &CacheMeta,
        _ctx: &mut Self::CTX,
        _req: &RequestHeader,
    ) -> Option<HashBinary> {
        None
    }

    /// Sees an entry that was found, fresh or not, and may overrule its freshness.
    ///
    /// The default, `Ok(None)`, keeps it.
    ///
    /// # Errors
    ///
    /// An `Err` is logged, and the entry counts as not found.
    fn cache_hit_filter<'life0, 'life1, 'life2, 'life3, 'life4, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _meta: &'life2 CacheMeta,
        _hit_handler: &'life3 mut HitHandler,
        _is_fresh: bool,
        _ctx: &'life4 mut Self::CTX,
    ) -> Pin<Box<dyn Future<Output = Result<Option<ForcedFreshness>>> + Send + 'async_trait>>
    where
        Self::CTX: Send + Sync,
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        'life4: 'async_trait,
        Self: Sync + 'async_trait,
    {
        ready(|| Ok(None))
    }

    /// Sees that the cache has nothing for this request.
    ///
    /// The default records the miss, which an override has to do as well.
    fn cache_miss(&self, session: &mut Session, _ctx: &mut Self::CTX) {
        session.cache.cache_miss();
    }

    /// Returns whether a stale entry is served: because it is being revalidated (`error` is `None`, RFC 5861
    /// section 3), or because that failed (section 4). Called only within the window that the entry
    /// grants for it.
    ///
    /// The default serves it when the upstream is at fault, and not while it revalidates.
    fn should_serve_stale(
        &self,
        _session: &mut Session,
        _ctx: &mut Self::CTX,
        error: Option<&Error>,
    ) -> bool {
        error.is_some_and(|e| *e.esource() == ErrorSource::Upstream)
    }

    /// Returns whether the client has this response already, so that a 304 answers it.
    ///
    /// The default evaluates the preconditions of the request (RFC 9110 section 13.2.2).
    ///
    /// # Errors
    ///
    /// An `Err` is logged and counts as no.
    fn cache_not_modified_filter(
        &self,
        session: &Session,
        resp: &ResponseHeader,
        _ctx: &mut Self::CTX,
    ) -> Result<bool> {
        Ok(not_modified_filter(session.req_header(), resp))
    }

    /// Chooses the ranges of the response that are sent, and makes its header say so (RFC 9110 section 14).
    ///
    /// The default follows the request's Range, up to 200 ranges.
    fn range_header_filter(
        &self,
        session: &mut Session,
        resp: &mut ResponseHeader,
        _ctx: &mut Self::CTX,
    ) -> RangeType {
        range_header_filter(session.req_header(), resp, Some(LIMITS.ranges))
    }

    /// Returns whether a request that the cache did not answer may go upstream.
    ///
    /// With `Ok(false)` the client gets a 502, unless this phase has sent it something; the default
    /// is `Ok(true)`.
    fn proxy_upstream_filter<'life0, 'life1, 'life2, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _ctx: &'life2 mut Self::CTX,
    ) -> Pin<Box<dyn Future<Output = Result<bool>> + Send + 'async_trait>>
    where
        Self::CTX: Send + Sync,
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        Self: Sync + 'async_trait,
    {
        ready(|| Ok(true))
    }

    /// Says where the request goes. Called at the start of each try.
    ///
    /// # Errors
    ///
    /// The try fails with it; neither [`fail_to_connect`](Self::fail_to_connect) nor
    /// [`error_while_proxy`](Self::error_while_proxy) sees it. One marked for retry is tried again.
    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Self::CTX,
    ) -> Result<Box<HttpPeer>>;

    /// Sees that `peer` could not be connected to, or that a handshake with it failed, and returns
    /// the error of this try; `e.set_retry(true)` asks for another.
    ///
    /// The default returns `e` as it is.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        _ctx: &mut Self::CTX,
        e: Box<Error>,
    ) -> Box<Error> {
        e
    }

    /// Sees the connection that the request will use, `reused` or new, before anything is written to
    /// it. `digest` has its timing, addresses and TLS facts.
    ///
    /// The default does nothing.
    fn connected_to_upstream<'life0, 'life1, 'life2, 'life3, 'life4, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _reused: bool,
        _peer: &'life2 HttpPeer,
        _fd: RawFd,
        _digest: Option<&'life3 Digest>,
        _ctx: &'life4 mut Self::CTX,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        Self::CTX: Send + Sync,
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        'life4: 'async_trait,
        Self: Sync + 'async_trait,
    {
        ready(|| Ok(()))
    }

    /// Changes the copy of the request header that goes upstream. Called for each try, after
    /// hop-by-hop fields were removed; Host is checked afterwards.
    ///
    /// The default leaves it.
    fn upstream_request_filter<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _upstream_request: &'life2 mut RequestHeader,
        _ctx: &'life3 mut Self::CTX,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        Self::CTX: Send + Sync,
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: Sync + 'async_trait,
    {
        ready(|| Ok(()))
    }

    /// Sends messages of its own between the two sides of a custom protocol. The sender to the
    /// upstream is there only if the upstream speaks it. Called once for each try of which a side does, after
    /// [`upstream_request_filter`](Self::upstream_request_filter).
    ///
    /// Messages are sent once it has returned, and pass no filter; until then each sender holds 128 of them. Those to a
    /// side that speaks HTTP are dropped.
    ///
    /// The default sends none.
    fn custom_forwarding<'life0, 'life1, 'life2, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _ctx: &'life2 mut Self::CTX,
        _custom_message_to_upstream: Option<mpsc::Sender<Bytes>>,
        _custom_message_to_downstream: mpsc::Sender<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        Self::CTX: Send + Sync,
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        Self: Sync + 'async_trait,
    {
        ready(|| Ok(()))
    }

    /// Changes a chunk of the request body on its way upstream. Called for every chunk, for the
    /// replayed ones of a retry too, and with `None` and `end_of_stream` at an end that brings no
    /// bytes. The response may be under way already.
    ///
    /// The default leaves it.
    fn request_body_filter<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _body: &'life2 mut Option<Bytes>,
        _end_of_stream: bool,
        _ctx: &'life3 mut Self::CTX,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        Self::CTX: Send + Sync,
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: Sync + 'async_trait,
    {
        ready(|| Ok(()))
    }

    /// Changes or drops (`Ok(None)`) a message of a custom protocol that the client sent. With
    /// `final_hop` the other side does not speak it.
    ///
    /// The default passes it on.
    async fn downstream_custom_message_proxy_filter(
        &self,
        _session: &mut Session,
        custom_message: Bytes,
        _ctx: &mut Self::CTX,
        _final_hop: bool,
    ) -> Result<Option<Bytes>>
    where
        Self::CTX: Send + Sync,
    {
        Ok(Some(custom_message))
    }

    /// Changes or drops (`Ok(None)`) a message of a custom protocol that the upstream sent. With
    /// `final_hop` the other side does not speak it.
    ///
    /// The default passes it on.
    async fn upstream_custom_message_proxy_filter(
        &self,
        _session: &mut Session,
        custom_message: Bytes,
        _ctx: &mut Self::CTX,
        _final_hop: bool,
    ) -> Result<Option<Bytes>>
    where
        Self::CTX: Send + Sync,
    {
        Ok(Some(custom_message))
    }

    /// Sets up the upstream modules by what the response header says, before they see it. Called for
    /// each header, informational ones too.
    ///
    /// The default does nothing.
    #[cfg(feature = "upstream_modules")]
    fn adjust_upstream_modules<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _upstream_response: &'life2 ResponseHeader,
        _end_of_stream: bool,
        _ctx: &'life3 mut Self::CTX,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        Self::CTX: Send + Sync,
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: Sync + 'async_trait,
    {
        ready(|| Ok(()))
    }

    /// Changes a response header as the upstream sent it: what is stored is stored with the change.
    ///
    /// The default leaves it.
    fn upstream_response_filter<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _upstream_response: &'life2 mut ResponseHeader,
        _ctx: &'life3 mut Self::CTX,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        Self::CTX: Send + Sync,
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: Sync + 'async_trait,
    {
        ready(|| Ok(()))
    }

    /// Decides by the final response header of an upstream, after
    /// [`upstream_response_filter`](Self::upstream_response_filter), whether the client gets this response. Nothing of
    /// it was sent. An error turns it down:
    ///
    /// - one marked for retry (`e.set_retry(true)`) asks for another try in its place, for instance with another peer.
    ///   [`error_while_proxy`](Self::error_while_proxy) sees it, and may forbid it; its default does so for a request
    /// that
    ///   must not be sent twice, such as a POST. When there can be no other try, be it for that, or because none is
    /// left
    ///   or the request body is not kept, the client gets this response;
    /// - any other one ends the request, as an `Err` of another phase does.
    ///
    /// The default, `None`, accepts it.
    ///
    /// # Example
    ///
    /// ```
    /// use pingora_core::{Error, ErrorType};
    /// use pingora_http::ResponseHeader;
    ///
    /// /// For `upstream_response_decision`: another origin may be able to answer.
    /// fn decide(response: &ResponseHeader) -> Option<Box<Error>> {
    ///     let status = response.status.as_u16();
    ///     matches!(status, 502..=504).then(|| {
    ///         let mut e = Error::new_up(ErrorType::HTTPStatus(status));
    ///         e.set_retry(true);
    ///         e
    ///     })
    /// }
    /// # let unavailable = ResponseHeader::build(503, None).unwrap();
    /// # assert!(decide(&unavailable).is_some_and(|e| e.retry()));
    /// ```
    fn upstream_response_decision<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _upstream_response: &'life2 ResponseHeader,
        _ctx: &'life3 mut Self::CTX,
    ) -> Pin<Box<dyn Future<Output = Option<Box<Error>>> + Send + 'async_trait>>
    where
        Self::CTX: Send + Sync,
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: Sync + 'async_trait,
    {
        ready(|| None)
    }

    /// Changes a chunk of the body as the upstream sent it, before it is stored. `Ok(Some(delay))`
    /// holds the chunk back for so long.
    ///
    /// The default leaves it and does not wait.
    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        _end_of_stream: bool,
        _ctx: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        Ok(None)
    }

    /// Changes the trailers as the upstream sent them.
    ///
    /// The default leaves them.
    fn upstream_response_trailer_filter(
        &self,
        _session: &mut Session,
        _upstream_trailers: &mut HeaderMap,
        _ctx: &mut Self::CTX,
    ) -> Result<()> {
        Ok(())
    }

    /// Returns whether this response may be stored, and for how long. Called for final headers and 101, with
    /// the cache on.
    ///
    /// The default stores none.
    fn response_cache_filter(
        &self,
        _session: &Session,
        _resp: &ResponseHeader,
        _ctx: &mut Self::CTX,
    ) -> Result<RespCacheable> {
        Ok(RespCacheable::Uncacheable(NoCacheReason::Custom("default")))
    }

    /// Changes a response header on its way to the client, whether it comes from an upstream or from
    /// the cache.
    ///
    /// The default leaves it.
    fn response_filter<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _upstream_response: &'life2 mut ResponseHeader,
        _ctx: &'life3 mut Self::CTX,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        Self::CTX: Send + Sync,
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: Sync + 'async_trait,
    {
        ready(|| Ok(()))
    }

    /// Changes a chunk of the body on its way to the client. `Ok(Some(delay))` holds the chunk back
    /// for so long.
    ///
    /// The default leaves it and does not wait.
    fn response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        _end_of_stream: bool,
        _ctx: &mut Self::CTX,
    ) -> Result<Option<Duration>>
    where
        Self::CTX: Send + Sync,
    {
        Ok(None)
    }

    /// Changes the trailers on their way to the client. `Ok(Some(bytes))` ends the body with those
    /// bytes instead of the trailers.
    ///
    /// The default leaves them.
    ///
    /// # Errors
    ///
    /// An `Err` is logged, and the trailers are sent.
    fn response_trailer_filter<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _upstream_trailers: &'life2 mut HeaderMap,
        _ctx: &'life3 mut Self::CTX,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Bytes>>> + Send + 'async_trait>>
    where
        Self::CTX: Send + Sync,
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: Sync + 'async_trait,
    {
        ready(|| Ok(None))
    }

    /// Sees a failure on an established connection (`client_reused`: on one from the pool) and
    /// returns the error of this try, which says whether there is another.
    ///
    /// The default names the peer in the error and lets it be retried only if its own mark says so,
    /// what was read of the body can be sent again, and the method is idempotent (RFC 9110 section 9.2.2)
    /// or the upstream is known not to have processed the request (RFC 9113 section 8.7).
    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        e: Box<Error>,
        _ctx: &mut Self::CTX,
        client_reused: bool,
    ) -> Box<Error> {
        let mut e = e.more_context(format!("Peer: {peer}"));
        let untouched = e.esource() == &ErrorSource::Upstream && was_not_processed(&e);
        let again = untouched || session.req_header().method.is_idempotent();
        if again && !session.retry_buffer_truncated() {
            e.retry.decide_reuse(client_reused);
        } else {
            e.set_retry(false);
        }
        e
    }

    /// Returns whether to leave out a warning about something that the request survived.
    ///
    /// The default says no.
    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Self::CTX,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        false
    }

    /// The request in one line, for errors and warnings in the log.
    ///
    /// The default is the session's own summary.
    fn request_summary(&self, session: &Session, _ctx: &Self::CTX) -> String {
        session.request_summary()
    }

    /// Answers a request that failed for good.
    ///
    /// The default answers with the status that the error carries (`HTTPStatus`); else 504 if the
    /// upstream did not connect or answer in time and 502 if it failed otherwise; 408 if the client
    /// was too slow and 400 if its request is at fault; and 500 if the fault is ours. It writes
    /// nothing to a client that is gone, or that has the header of a response already, and does not
    /// keep the connection.
    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        e: &Error,
        _ctx: &mut Self::CTX,
    ) -> FailToProxy
    where
        Self::CTX: Send + Sync,
    {
        let status = error_status(e);
        if let Some(status) = status.filter(|_| awaits_response(session)) {
            session.set_keepalive(None);
            if let Err(e) = session.respond_error(status).await {
                debug!("failed to answer with {status}: {e}");
            }
        }
        FailToProxy {
            error_code: status.unwrap_or(0),
            can_reuse_downstream: false,
        }
    }

    /// Returns whether to leave out the log line about a request that failed.
    ///
    /// The default says no.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Self::CTX, _error: &Error) -> bool {
        false
    }

    /// Sees the end of the request, whatever the end was; `e` is the error that ended it. Called
    /// once for every request of which [`early_request_filter`](Self::early_request_filter) was.
    ///
    /// The default does nothing.
    fn logging<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        _session: &'life1 mut Session,
        _e: Option<&'life2 Error>,
        _ctx: &'life3 mut Self::CTX,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'async_trait>>
    where
        Self::CTX: Send + Sync,
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
        Self: Sync + 'async_trait,
    {
        ready(|| ())
    }

    /// Keeps something for [`on_connection_reuse`](Self::on_connection_reuse) at the next request of
    /// this HTTP/1 connection.
    ///
    /// The default keeps nothing.
    fn persist_connection_context(
        &self,
        _session: &Session,
        _ctx: &Self::CTX,
    ) -> Option<Box<dyn Any + Send + Sync>> {
        None
    }
}
