//! The context of a request, kept from its first phase to its last.

use http::{HeaderName, HeaderValue};
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::answer::Answer;
use super::cached::{Cached, Change};
use super::counting::Counting;
use super::decide::Proxied;
use super::gate::Passed;
use super::headers::{apply, clear_alike, keep, puts};
use super::mirror::Copied;
use super::observed::Observed;
use super::pages::Instead;
use super::queue::Turn;
use super::{compress, forward_auth, pages};
use crate::cluster::{HashBy, Tried};
use crate::live::{release, Lease, Live};
use crate::plan::compress::CompressRule;
use crate::plan::pages::PageValues;
use crate::plan::Values;

/// The context of a request.
pub struct Ctx {
    pub(super) running: Lease,
    /// The index of its cluster, once that is known.
    pub(super) cluster: usize,
    /// The index of its site, and that of its route there.
    pub(super) at: (usize, usize),
    pub(super) hash_by: HashBy,
    /// The values of changes to the response.
    pub(super) response: Values,
    /// The client speaks TLS.
    pub(super) secure: bool,
    /// The grants of the rules of its route.
    pub(super) passed: Option<Box<Passed>>,
    pub(super) tried: Tried,
    /// The last answer was turned down, in favour of another try.
    pub(super) turned_down: bool,
    /// Its turn among those that wait for a server, until it has a connection.
    pub(super) turn: Option<Box<Turn>>,
    /// No server had room for it.
    pub(super) found_no_room: bool,
    pub(super) counting: Counting,
    /// The part of the cache, where the route has one.
    pub(super) cached: Option<Box<Cached>>,
    /// The change that it may make to what is stored.
    pub(super) change: Option<Box<Change>>,
    /// The codings that the client accepts, where its request does not say so any more.
    pub(super) accepted: Option<Option<HeaderValue>>,
    pub(super) observed: Observed,
    /// The values of variables of its route's pages of errors.
    pub(super) page_values: PageValues,
    /// The copy for other servers.
    pub(super) copied: Option<Box<Copied>>,
    /// The page that goes to the client in place of the server's body.
    pub(super) instead: Option<Instead>,
}

impl Drop for Ctx {
    fn drop(&mut self) {
        if self.tried.is_open() {
            release(&mut self.tried);
        }
        self.end_turn();
        if let Some(passed) = &mut self.passed {
            passed.leave(&self.running);
        }
    }
}

impl Ctx {
    /// Sends an answer to a request that is still as it came, with its page if there is one.
    pub(super) async fn send(
        &mut self,
        live: &Live,
        session: &mut Session,
        answer: Answer,
    ) -> Result<bool> {
        let answer = if answer.wants_page() {
            pages::told(answer, live, &self.running, session, &mut self.observed)
        } else {
            answer
        };
        let sent = answer.send(session, self.compression());
        sent.await.map(|()| true)
    }

    /// Returns the rule of compression of its route.
    pub(super) fn compression(&self) -> Option<&CompressRule> {
        let (Some(site), Some(route)) = self.observed.at() else {
            return None;
        };
        let route = self.running.plan.sites.get(site)?.routes.get(route)?;
        route.compress.as_deref()
    }

    /// Takes the way of a request to a server, and makes the changes to its head. Returns the size up to which its body is
    /// to be read whole first.
    pub(super) fn take(
        &mut self,
        live: &Live,
        session: &mut Session,
        mut proxied: Proxied,
    ) -> Result<Option<usize>> {
        if let Some(cached) = &mut proxied.cached {
            cached.see_body(session);
        }
        self.cluster = proxied.cluster;
        self.at = proxied.at;
        self.hash_by = proxied.hash_by;
        self.response = proxied.response;
        self.secure = proxied.secure;
        let (site, route) = self.at;
        let route = &self.running.plan.sites[site].routes[route];
        let head = session.req_header_mut();
        if let Some(target) = proxied.target {
            head.set_raw_path(&target)?;
        }
        // Of what the client says, and of nothing that is said here.
        clear_alike(&route.request_headers, head);
        proxied.told.apply(head)?;
        self.observed.tell(live, &self.running, head)?;
        if let Some(auth) = route.gate.as_ref().and_then(|gate| gate.forward.as_ref()) {
            let passed = self.passed.as_mut();
            let granted = passed.map_or_else(Vec::new, |p| std::mem::take(&mut p.granted));
            forward_auth::grant(auth, granted, head)?;
        }
        apply(&route.request_headers, &proxied.request, head)?;
        let observe = &self.running.plan.observe;
        let told = observe.request_id.is_some() || observe.tracing.is_some();
        let auth = route.gate.as_ref().and_then(|gate| gate.forward.as_ref());
        if told || auth.is_some() || !route.request_headers.0.is_empty() {
            let ours = |name: &HeaderName| {
                puts(&route.request_headers, name)
                    || auth.is_some_and(|auth| auth.sets(name))
                    || Observed::tells(&self.running, name)
            };
            keep(ours, head)?;
        }
        let stored = (proxied.cached.as_ref()).is_some_and(|cached| cached.may_be_stored());
        if stored && route.compress.is_some() {
            self.accepted = Some(compress::ask_plainly(head)?);
        }
        self.cached = proxied.cached;
        self.change = proxied.change;
        let max = route.gate.as_ref().and_then(|gate| gate.buffer);
        if self.cached.is_some() || max.is_some() {
            self.counting.waits();
        }
        self.page_values = proxied.page_values;
        if let Some(mirror) = &route.mirror {
            self.copied = Copied::begin(mirror, live, session);
        }
        let limit = self.running.clusters[self.cluster].time_limit();
        if limit.is_some() {
            session.set_upstream_time_limit(limit);
        }
        Ok(max)
    }

    /// Makes the route's changes to the headers of the response.
    pub(super) fn edit(&mut self, head: &mut ResponseHeader) -> Result<()> {
        let (site, route) = self.at;
        let edits = &self.running.plan.sites[site].routes[route].response_headers;
        // Informational responses have none, and come before the one that has.
        if edits.0.is_empty() || head.status.is_informational() {
            return Ok(());
        }
        apply(edits, &self.response, head)
    }
}
