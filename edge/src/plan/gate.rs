//! The rules that a request has to pass before anything is done with it.
//!
//! They are asked in this order, and the first that refuses a request answers it:
//!
//! 1. `https_redirect` of the site, before a route is looked for;
//! 2. `maintenance`;
//! 3. `access` by address.

use std::net::IpAddr;

use http::StatusCode;

use super::networks::Networks;
use super::request::Request;
use crate::config::values::Template;

/// The rules of a route, its site's among them.
#[derive(Debug, Default)]
pub struct Gate {
    /// The time in which nobody is served.
    pub(super) maintenance: Option<Maintenance>,
    /// The addresses that may ask.
    pub(super) access: Option<Access>,
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
}

impl Rule {
    /// Returns its key in the file.
    pub fn key(self) -> &'static str {
        match self {
            Self::HttpsRedirect => "https_redirect",
            Self::Maintenance => "maintenance",
            Self::Access => "access",
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
}

/// The addresses that may ask.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) networks: Networks,
    /// Whether an address that stands nowhere may.
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
        None
    }

    /// Tells whether it has no rule at all.
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            maintenance,
            access,
        } = self;
        maintenance.is_none() && access.is_none()
    }

    /// Tells in words what it says of a request, in order.
    pub(super) fn show(&self, request: &Request) -> Vec<String> {
        let mut lines = Vec::new();
        let refused = self.refuses(request);
        let said = |rule: Rule, lines: &mut Vec<String>| {
            let end = refused.as_ref().filter(|refusal| refusal.rule == rule);
            lines.push(match end {
                Some(refusal) => {
                    format!("{} refuses it with {}", rule.key(), refusal.status.as_u16())
                }
                None => format!("{} passes it", rule.key()),
            });
            end.is_some()
        };
        let rules = [
            (Rule::Maintenance, self.maintenance.is_some()),
            (Rule::Access, self.access.is_some()),
        ];
        for (rule, set) in rules {
            if set && said(rule, &mut lines) {
                break;
            }
        }
        lines
    }
}

impl Maintenance {
    fn refusal(&self, request: &Request) -> Refusal {
        let body = self.body.as_ref();
        Refusal {
            retry_after: Some(self.retry_after),
            body: body.map(|body| (request.fill(body), self.content_type.clone())),
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
