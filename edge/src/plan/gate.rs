//! The rules that a request has to pass before anything is done with it.
//!
//! They are asked in this order, and the first that refuses a request answers it:
//!
//! 1. `https_redirect` of the site, before a route is looked for;
//! 2. `maintenance`;
//! 3. `access` by address;
//! 4. `max_headers`, `max_header_size` and `max_body_size`, as far as the head tells;
//! 5. `rate_limit`, those of the site first;
//! 6. `cors`, which answers preflight requests: they bring no password;
//! 7. `basic_auth`;
//! 8. `concurrent_requests`, those of the site first;
//! 9. `forward_auth`.
//!
//! What counts or takes time is asked where the counts and passwords are.

use std::net::IpAddr;

use http::{header, StatusCode};

use super::cors::Cors;
use super::forward_auth::ForwardAuth;
use super::networks::Networks;
use super::pages::Escape;
use super::request::Request;
use crate::config::values::{RequestTarget, Template};

/// The rules of a route, its site's among them.
#[derive(Debug, Default)]
pub struct Gate {
    /// The time in which nobody is served.
    pub(super) maintenance: Option<Maintenance>,
    /// The addresses that may ask.
    pub(super) access: Option<Access>,
    /// The number of fields.
    pub(super) max_headers: Option<usize>,
    /// The bytes of names and values of fields.
    pub(super) max_header_size: Option<u64>,
    /// The bytes of a request body.
    pub max_body: Option<u64>,
    /// The bytes of a request body that is read whole before a server is chosen.
    pub buffer: Option<usize>,
    /// The index of the users in [`Plan::realms`](super::Plan::realms).
    pub basic: Option<usize>,
    /// The service that decides.
    pub forward: Option<ForwardAuth>,
    /// The pages of other origins that may read answers.
    pub cors: Option<Cors>,
    /// The indexes of rates in [`Plan::rates`](super::Plan::rates).
    pub rates: Vec<usize>,
    /// The indexes of limits in [`Plan::concurrent`](super::Plan::concurrent).
    pub concurrent: Vec<usize>,
}

/// The kinds of rules, for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `https_redirect`
    HttpsRedirect,
    /// `maintenance`
    Maintenance,
    /// `access`
    Access,
    /// `max_headers`
    MaxHeaders,
    /// `max_header_size`
    MaxHeaderSize,
    /// `max_body_size`
    MaxBodySize,
    /// `rate_limit`
    RateLimit,
    /// `cors`
    Cors,
    /// `basic_auth`
    BasicAuth,
    /// `concurrent_requests`
    ConcurrentRequests,
    /// `forward_auth`
    ForwardAuth,
}

impl Rule {
    /// Returns its key in the file.
    pub fn key(self) -> &'static str {
        match self {
            Self::HttpsRedirect => "https_redirect",
            Self::Maintenance => "maintenance",
            Self::Access => "access",
            Self::MaxHeaders => "max_headers",
            Self::MaxHeaderSize => "max_header_size",
            Self::MaxBodySize => "max_body_size",
            Self::RateLimit => "rate_limit",
            Self::Cors => "cors",
            Self::BasicAuth => "basic_auth",
            Self::ConcurrentRequests => "concurrent_requests",
            Self::ForwardAuth => "forward_auth",
        }
    }
}

/// The answer of a rule to a request that it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The rule.
    pub rule: Rule,
    /// The status.
    pub status: StatusCode,
    /// The seconds after which to try again.
    pub retry_after: Option<u64>,
    /// The body and its type. If unset, the status in words.
    pub body: Option<(Vec<u8>, String)>,
}

impl Refusal {
    /// Makes the answer of a rule that says no more than a status.
    pub fn of(rule: Rule, status: StatusCode) -> Self {
        Self {
            rule,
            status,
            retry_after: None,
            body: None,
        }
    }
}

/// A time in which nobody is served but some.
#[derive(Debug)]
pub(super) struct Maintenance {
    pub(super) allow: Networks,
    /// In seconds.
    pub(super) retry_after: u64,
    pub(super) body: Option<Template>,
    pub(super) content_type: String,
    pub(super) escape: Escape,
}

/// The addresses that may ask.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) networks: Networks,
    /// True if an address that stands nowhere may.
    pub(super) otherwise: bool,
}

impl Access {
    fn allows(&self, client: Option<IpAddr>) -> bool {
        let found = client.and_then(|ip| self.networks.find(ip));
        found.unwrap_or(self.otherwise)
    }
}

impl Gate {
    /// Returns the answer to a request that a rule refuses.
    pub fn refuses(&self, request: &Request) -> Option<Refusal> {
        if let Some(maintenance) = &self.maintenance {
            let served = request.client.and_then(|ip| maintenance.allow.find(ip));
            if served != Some(true) {
                return Some(maintenance.refusal(request));
            }
        }
        if let Some(access) = &self.access {
            if !access.allows(request.client) {
                return Some(Refusal::of(Rule::Access, StatusCode::FORBIDDEN));
            }
        }
        self.too_large(request)
    }

    /// Returns the answer to a request that is larger than it may be, as far as its head tells.
    fn too_large(&self, request: &Request) -> Option<Refusal> {
        let headers = request.headers;
        let fields = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        if self.max_headers.is_some_and(|max| headers.len() > max) {
            return Some(Refusal::of(Rule::MaxHeaders, fields));
        }
        if let Some(max) = self.max_header_size {
            let sizes = headers.iter();
            let sizes = sizes.map(|(name, value)| (name.as_str().len() + value.len()) as u64);
            if sizes.sum::<u64>() > max {
                return Some(Refusal::of(Rule::MaxHeaderSize, fields));
            }
        }
        let max = match (self.max_body, self.buffer) {
            (Some(max), Some(buffer)) => max.min(buffer as u64),
            (Some(max), None) => max,
            (None, Some(buffer)) => buffer as u64,
            (None, None) => return None,
        };
        let length = headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        length
            .is_some_and(|length| length > max)
            .then(|| Refusal::of(Rule::MaxBodySize, StatusCode::PAYLOAD_TOO_LARGE))
    }

    /// Returns the rules that there are, in the order in which they are asked.
    fn rules(&self) -> impl Iterator<Item = Rule> {
        let set = [
            (Rule::Maintenance, self.maintenance.is_some()),
            (Rule::Access, self.access.is_some()),
            (Rule::MaxHeaders, self.max_headers.is_some()),
            (Rule::MaxHeaderSize, self.max_header_size.is_some()),
            (
                Rule::MaxBodySize,
                self.max_body.is_some() || self.buffer.is_some(),
            ),
            (Rule::RateLimit, !self.rates.is_empty()),
            (Rule::Cors, self.cors.is_some()),
            (Rule::BasicAuth, self.basic.is_some()),
            (Rule::ConcurrentRequests, !self.concurrent.is_empty()),
            (Rule::ForwardAuth, self.forward.is_some()),
        ];
        set.into_iter()
            .filter(|(_, set)| *set)
            .map(|(rule, _)| rule)
    }

    /// Tells whether it has no rule at all.
    pub(super) fn is_empty(&self) -> bool {
        self.rules().next().is_none()
    }

    /// Tells in words what it says of a request, in order. What is counted is not told.
    pub(super) fn show(&self, request: &Request) -> Vec<String> {
        let refused = self.refuses(request);
        let mut lines = Vec::new();
        for rule in self.rules() {
            if let Some(refusal) = refused.as_ref().filter(|refusal| refusal.rule == rule) {
                lines.push(format!(
                    "{} refuses it with {}",
                    rule.key(),
                    refusal.status.as_u16()
                ));
                break;
            }
            if rule == Rule::Cors && Cors::is_preflight(request) {
                lines.push("cors answers it".to_owned());
                break;
            }
            lines.push(match rule {
                Rule::BasicAuth => "basic_auth asks for a password".to_owned(),
                Rule::ForwardAuth => match &self.forward {
                    Some(auth) => {
                        let path = RequestTarget::visible(&auth.path);
                        format!("forward_auth asks {}{path}", auth.host)
                    }
                    None => continue,
                },
                Rule::RateLimit | Rule::ConcurrentRequests => format!("{} counts it", rule.key()),
                _ => format!("{} passes it", rule.key()),
            });
        }
        lines
    }
}

impl Maintenance {
    fn refusal(&self, request: &Request) -> Refusal {
        let body = self.body.as_ref();
        Refusal {
            retry_after: Some(self.retry_after),
            body: body.map(|body| {
                let body = self.escape.fill(body, request);
                (body, self.content_type.clone())
            }),
            ..Refusal::of(Rule::Maintenance, StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

/// A redirect to HTTPS.
#[derive(Debug)]
pub struct HttpsRedirect {
    pub(super) status: StatusCode,
    /// If it is not 443.
    pub(super) port: Option<u16>,
}

impl HttpsRedirect {
    /// Returns the status and the address for a request over HTTP.
    pub fn answer(&self, request: &Request) -> (StatusCode, String) {
        let port = self.port.map_or(String::new(), |port| format!(":{port}"));
        let target = request.target(request.path.as_str());
        (
            self.status,
            format!("https://{}{port}{target}", request.host),
        )
    }
}
