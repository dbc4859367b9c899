//! Pages of errors, in place of what is said otherwise.

use bytes::Bytes;
use http::{header, HeaderName, Method, StatusCode};
use pingora_core::protocols::http::ServerSession;
use pingora_core::{Error, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{error_status, FailToProxy, Session};

use super::answer::Answer;
use super::client_auth;
use super::facts::Facts;
use super::gate::{self, Fields};
use super::observed::Observed;
use super::queue::RETRY_AFTER;
use super::Ctx;
use crate::live::{Live, Running};
use crate::plan::pages::{takes_pages, Pages};

/// Bytes of a server's body that are read away behind a page; of a longer one the connection is closed.
const DRAINED: usize = 1 << 20;

/// Fields of a server's answer that tell of its body.
const OF_BODY: [HeaderName; 13] = [
    header::ACCEPT_RANGES,
    HeaderName::from_static("content-digest"),
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    HeaderName::from_static("content-md5"),
    header::CONTENT_RANGE,
    HeaderName::from_static("digest"),
    header::ETAG,
    header::LAST_MODIFIED,
    HeaderName::from_static("repr-digest"),
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

/// A page on its way in place of a server's body.
pub(super) struct Instead {
    /// The page, until it is sent.
    body: Option<Bytes>,
    /// The bytes of the server's body so far.
    drained: usize,
    /// True once the rest of the server's body is too long to be read away. The connection to the server is closed, which is
    /// no failure.
    cut: bool,
}

impl Instead {
    /// Puts the page in the place of a piece of the body, which is read to its end if a cache stores it.
    ///
    /// # Errors
    ///
    /// The body is too long to be read away.
    pub(super) fn replace(&mut self, piece: &mut Option<Bytes>, is_stored: bool) -> Result<()> {
        let bytes = piece.as_ref().map_or(0, Bytes::len);
        self.drained = self.drained.saturating_add(bytes);
        *piece = self.body.take();
        if piece.is_none() && self.drained > DRAINED && !is_stored {
            self.cut = true;
            let why = "a server's body behind an error page is too long to be read away";
            return Err(Error::explain(pingora_core::ErrorType::ReadError, why).into_up());
        }
        Ok(())
    }

    /// Takes the page, when nothing but trailers came.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.body.take()
    }
}

/// Puts a page into an answer that says no more than a status, and whose request is still as it came.
#[cold]
pub(super) fn told(
    answer: Answer,
    live: &Live,
    running: &Running,
    session: &Session,
    observed: &mut Observed,
) -> Answer {
    let head = session.req_header();
    let (site, route) = observed.at();
    let pages = running.plan.pages(site, route);
    let Some(pages) = pages.filter(|_| takes_pages(&head.method, &head.headers)) else {
        return answer;
    };
    let status = answer.status();
    let Some(page) = pages.find(status.as_u16()) else {
        return answer;
    };
    let values = if pages.has_variables() {
        let mut facts = Facts::of(&running.plan, session);
        if let (Some(facts), Some(site)) = (&mut facts, site) {
            if let Ok(client) = client_auth::client(running, site, session) {
                facts.tls_client = client;
            }
        }
        if observed.id().is_empty() {
            observed.identify(live, running, facts.as_ref(), true);
        }
        match facts {
            Some(facts) => pages.values(&facts.request(observed.id())),
            None => pages.values_of_bad(observed.id()),
        }
    } else {
        Vec::new()
    };
    answer.page(page, pages.body(page, status, &values).into())
}

impl Ctx {
    /// Returns the pages of its route.
    fn pages(&self) -> Option<&Pages> {
        let (site, route) = self.observed.at();
        self.running.plan.pages(site, route)
    }

    /// Puts a page in the place of a server's answer, if its status has one.
    ///
    /// # Errors
    ///
    /// Too many fields.
    pub(super) fn intercept(
        &mut self,
        session: &mut Session,
        head: &mut ResponseHeader,
    ) -> Result<()> {
        let Some(pages) = self.pages() else {
            return Ok(());
        };
        let Some(page) = pages.intercept(head.status.as_u16()) else {
            return Ok(());
        };
        let request = session.req_header();
        if !takes_pages(&request.method, &request.headers) {
            return Ok(());
        }
        let body = pages.body(page, head.status, &self.page_values);
        let is_head = request.method == Method::HEAD;
        let length = head.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > DRAINED) && !is_head && !session.cache.enabled() {
            // The connection ends with the page, and the client is told (RFC 9112 section 9.6).
            session.set_keepalive(None);
        }
        for name in &OF_BODY {
            head.remove_header(name);
        }
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
        head.insert_header(header::CONTENT_TYPE, page.content_type.clone())?;
        let body = (!is_head).then(|| body.into());
        self.instead = Some(Instead {
            body,
            drained: 0,
            cut: false,
        });
        Ok(())
    }

    /// Tells whether a request ended by what was read away behind a page: the client has all of the page.
    pub(super) fn is_cut_behind_page(&self) -> bool {
        self.instead.as_ref().is_some_and(|instead| instead.cut)
    }

    /// Answers a request that failed for good: by its page, or with the status alone. What its site and its rules tell the
    /// client with every answer, they tell with this one.
    pub(super) async fn fail(&mut self, session: &mut Session, e: &Error) -> FailToProxy {
        // Those behind it do not wait until the client has taken the answer.
        self.end_turn();
        let status = error_status(e);
        if let Some(code) = status.filter(|_| session.awaits_response()) {
            session.set_keepalive(None);
            let answer = self.failure(session, code).with(self.told_always());
            let sent = answer.send(session, self.compression()).await;
            if let Err(e) = sent {
                log::debug!("cannot answer with {code}: {e}");
            }
        }
        FailToProxy {
            error_code: status.unwrap_or(0),
            can_reuse_downstream: false,
        }
    }

    /// Takes the fields of its site and its rules.
    fn told_always(&mut self) -> Fields {
        let mut fields = gate::fields(&mut self.passed);
        let site = self.running.plan.sites.get(self.at.0);
        fields.extend(site.and_then(|site| gate::hsts(&site.hsts, self.secure)));
        fields
    }

    fn failure(&self, session: &ServerSession, code: u16) -> Answer {
        let head = session.req_header();
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let pages = self
            .pages()
            .filter(|_| takes_pages(&head.method, &head.headers));
        let found = pages.and_then(|pages| Some((pages, pages.find(code)?)));
        let answer = match found {
            Some((pages, page)) => {
                let body = pages.body(page, status, &self.page_values);
                Answer::refusal(status).page(page, body.into())
            }
            None if self.found_no_room => Answer::refusal(status),
            None => Answer::bare(status),
        };
        if self.found_no_room {
            answer.retry_after(RETRY_AFTER)
        } else {
            answer
        }
    }
}
