//! Facts that requests are counted by.

use super::{Part, Template, Variable};
use crate::config::section::Scalar;

/// The text that tells one client, path or token from another in a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitKey(Template);

impl LimitKey {
    /// Returns the template that makes it.
    pub fn template(&self) -> &Template {
        &self.0
    }

    /// Counts by the address of the client.
    pub fn client_ip() -> Self {
        Self(Template::of(vec![Part::Variable(Variable::ClientIp)]))
    }
}

impl Scalar for LimitKey {
    const WHAT: &'static str = "a key of a limit";
    const ALLOWED: &'static str =
        "`client_ip`, `path`, `header.NAME`, `cookie.NAME` or another variable, or a text \
         with variables such as `{client_ip} {host}`";

    fn parse(text: &str) -> Result<Self, String> {
        let template = if text.contains('{') {
            Template::parse(text)?
        } else {
            Template::parse(&format!("{{{text}}}"))?
        };
        let varies = |variable: &Variable| {
            use Variable::{Group, Reason, RequestId, Status};
            matches!(variable, Group(_) | RequestId | Status | Reason)
        };
        if template.variables().any(varies) {
            return Err("it differs for each request, or is none of a request".into());
        }
        Ok(Self(template))
    }

    fn show(&self) -> String {
        let text = self.0.show();
        match self.0.parts() {
            [Part::Variable(_)] => text[1..text.len() - 1].to_owned(),
            _ => text,
        }
    }
}
