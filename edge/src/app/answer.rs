//! Answers that are given here.

use bytes::Bytes;
use http::{header, HeaderName, HeaderValue, Method, StatusCode};
use pingora_core::protocols::http::error_resp::gen_error_response;
use pingora_core::Result;
use pingora_proxy::Session;

use super::compress::prepare;
use super::gate::{put, Fields};
use super::headers::apply;
use crate::plan::compress::CompressRule;
use crate::plan::gate::{Refusal, Rule};
use crate::plan::pages::Page;
use crate::plan::{Action, HeaderEdits, Request, Route, Values};

/// An answer, ready to be sent.
pub(super) struct Answer {
    status: StatusCode,
    location: Option<HeaderValue>,
    content_type: Option<HeaderValue>,
    body: Bytes,
    /// The seconds after which to try again.
    retry_after: Option<u64>,
    /// It says no more than its status, so that a page of errors can stand in for its body.
    plain: bool,
    /// It is what a route says to good requests.
    of_route: bool,
    /// The rule that it is of.
    rule: Option<Rule>,
    /// Fields of another service's answer, in place of those of the same names.
    told: Fields,
    /// Further fields.
    fields: Fields,
    /// Changes to the headers, and their values.
    edits: Option<(HeaderEdits, Values)>,
}

impl Answer {
    /// Makes the answer to a request that is not served, with its status in words.
    pub(super) fn refusal(status: StatusCode) -> Self {
        let reason = status.canonical_reason().unwrap_or("");
        Self {
            status,
            location: None,
            content_type: Some(HeaderValue::from_static("text/plain; charset=utf-8")),
            body: format!("{} {reason}\n", status.as_str()).into(),
            retry_after: None,
            plain: true,
            of_route: false,
            rule: None,
            told: Vec::new(),
            fields: Vec::new(),
            edits: None,
        }
    }

    /// Makes an answer of a status and fields alone.
    pub(super) fn bare(status: StatusCode) -> Self {
        Self {
            body: Bytes::new(),
            ..Self::refusal(status)
        }
    }

    /// Makes the answer of a rule that refuses a request.
    pub(super) fn of_refusal(refusal: Refusal) -> Self {
        let plain = Self {
            retry_after: refusal.retry_after,
            rule: Some(refusal.rule),
            ..Self::refusal(refusal.status)
        };
        match refusal.body {
            Some((body, content_type)) => Self {
                body: body.into(),
                content_type: HeaderValue::try_from(content_type).ok(),
                plain: false,
                ..plain
            },
            None => plain,
        }
    }

    /// Tells the seconds after which to try again.
    pub(super) fn retry_after(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    /// Makes the answer that another service has given.
    pub(super) fn of_service(refusal: Refusal, told: Fields, body: Bytes) -> Self {
        Self {
            content_type: None,
            body,
            told,
            plain: false,
            ..Self::of_refusal(refusal)
        }
    }

    /// Makes a redirect.
    pub(super) fn redirect(status: StatusCode, to: HeaderValue) -> Self {
        Self {
            location: Some(to),
            ..Self::refusal(status)
        }
    }

    /// Makes an answer in plain text.
    pub(super) fn text(status: StatusCode, text: String) -> Self {
        Self {
            body: text.into(),
            plain: false,
            ..Self::refusal(status)
        }
    }

    /// Returns the rule that it is of.
    pub(super) fn rule(&self) -> Option<Rule> {
        self.rule
    }

    /// Returns its status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Tells whether it is of an error and says no more than a status.
    #[inline]
    pub(super) fn wants_page(&self) -> bool {
        self.plain && self.status.as_u16() >= 400
    }

    /// Puts a page in the place of its body.
    pub(super) fn page(self, page: &Page, body: Bytes) -> Self {
        Self {
            content_type: Some(page.content_type.clone()),
            body,
            ..self
        }
    }

    /// Adds fields.
    pub(super) fn with(
        mut self,
        fields: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
    ) -> Self {
        self.fields.extend(fields);
        self
    }

    /// Makes the answer of a route's action, which sends the client to `location` if there is one.
    pub(super) fn of(route: &Route, request: &Request<'_>, location: Option<String>) -> Self {
        let mut answer = Self::of_action(&route.action, request);
        answer.of_route = true;
        answer.location = location.and_then(|to| HeaderValue::try_from(to).ok());
        let edits = &route.response_headers;
        if !edits.0.is_empty() {
            answer.edits = Some((edits.clone(), edits.values(request)));
        }
        answer
    }

    fn of_action(action: &Action, request: &Request<'_>) -> Self {
        match action {
            Action::Redirect { status, .. } => Self {
                plain: false,
                ..Self::refusal(status.0)
            },
            Action::Respond {
                status,
                body,
                content_type,
                escape,
            } => Self {
                content_type: HeaderValue::try_from(content_type).ok(),
                body: body
                    .as_ref()
                    .map_or_else(Bytes::new, |body| escape.fill(body, request).into()),
                plain: body.is_none(),
                ..Self::refusal(status.0)
            },
            // It is asked for what answers here.
            Action::Proxy(_) => Self::refusal(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// Sends it, compressed by the rule of its route if there is one. The connection serves further requests, but
    /// for that of a bad one.
    ///
    /// # Errors
    ///
    /// Those of the writes.
    pub(super) async fn send(
        self,
        session: &mut Session,
        compress: Option<&CompressRule>,
    ) -> Result<()> {
        if self.plain && !self.of_route && self.status == StatusCode::BAD_REQUEST {
            // What follows may be no request either.
            session.set_keepalive(None);
        }
        let mut head = gen_error_response(self.status.as_u16());
        if !self.status.is_client_error() && !self.status.is_server_error() {
            head.remove_header(&header::CACHE_CONTROL);
        }
        let bodiless = matches!(
            self.status,
            StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
        );
        if self.status == StatusCode::NO_CONTENT || self.status == StatusCode::NOT_MODIFIED {
            // RFC 9110 8.6: none with a 204, and with a 304 only that of the 200 in its place.
            head.remove_header(&header::CONTENT_LENGTH);
        } else if !bodiless {
            head.insert_header(header::CONTENT_LENGTH, self.body.len())?;
        }
        if let Some(location) = self.location {
            head.insert_header(header::LOCATION, location)?;
        }
        let empty = bodiless || self.body.is_empty();
        if let Some(content_type) = self.content_type.filter(|_| !empty) {
            head.insert_header(header::CONTENT_TYPE, content_type)?;
        }
        if let Some(seconds) = self.retry_after {
            head.insert_header(header::RETRY_AFTER, seconds)?;
        }
        for (name, _) in &self.told {
            head.remove_header(name);
        }
        for (name, value) in self.told {
            head.append_header(name, value)?;
        }
        put(self.fields, &mut head)?;
        if let Some((edits, values)) = self.edits {
            apply(&edits, &values, &mut head)?;
        }
        if let Some(rule) = compress.filter(|_| !empty) {
            prepare(session, rule, &head, None)?;
        }
        let silent = empty || session.req_header().method == Method::HEAD;
        session
            .write_response_header(Box::new(head), silent)
            .await?;
        let body = (!silent).then_some(self.body);
        session.write_response_body(body, true).await
    }
}
