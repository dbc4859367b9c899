//! Pages of errors: the bodies of answers that tell of one.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::request::{asks_for_websocket, is_field_byte, Request};
use super::Plan;
use crate::config::section::Scalar;
use crate::config::values::{Part, StatusRange, Template, Variable};

/// A body of answers with some statuses.
#[derive(Debug)]
pub struct Page {
    pub(super) statuses: Vec<StatusRange>,
    pub(super) parts: Vec<Part>,
    /// The type of the body.
    pub content_type: HeaderValue,
    pub(super) escape: Escape,
    /// True if answers of servers get it.
    pub(super) intercepts: bool,
}

/// The way in which what variables bring in is written, so that it stays text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As references.
    Html,
    /// As `\u…`.
    Json,
    /// Without the bytes that may not stand in a field.
    None,
}

/// The pages of a route, a site or all, in the order in which they are asked for a status.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    pub(super) pages: Vec<Arc<Page>>,
    /// The variables that any of them has, without those of the answer.
    pub(super) variables: Vec<Variable>,
    pub(super) intercepts: bool,
}

/// The values of the variables of [`Pages`] for one request, in their order; none where there are no variables.
pub type PageValues = Vec<Vec<u8>>;

impl Pages {
    /// Returns the page of an answer that is given here.
    pub fn find(&self, status: u16) -> Option<&Page> {
        let mut pages = self.pages.iter();
        let has = |page: &&Arc<Page>| page.statuses.iter().any(|range| range.has(status));
        pages.find(has).map(|page| &**page)
    }

    /// Returns the page of an answer of a server, if it gets one.
    #[inline]
    pub fn intercept(&self, status: u16) -> Option<&Page> {
        if !self.intercepts || status < 400 {
            return None;
        }
        self.find(status).filter(|page| page.intercepts)
    }

    /// Tells whether any page has a variable of the request.
    #[inline]
    pub fn has_variables(&self) -> bool {
        !self.variables.is_empty()
    }

    /// Returns the values of variables, for bodies that are made when the request is not known any more as it was.
    pub fn values(&self, request: &Request<'_>) -> PageValues {
        let values = self.variables.iter();
        values
            .map(|name| request.value(name).into_owned())
            .collect()
    }

    /// Returns the values of variables for a request of which nothing is known but its id.
    pub fn values_of_bad(&self, id: &str) -> PageValues {
        let values = self.variables.iter();
        values
            .map(|name| match name {
                Variable::RequestId => id.into(),
                _ => Vec::new(),
            })
            .collect()
    }

    /// Makes the body of a page.
    pub fn body(&self, page: &Page, status: StatusCode, values: &PageValues) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &page.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(Variable::Status) => out.extend(status.as_str().bytes()),
                Part::Variable(Variable::Reason) => {
                    out.extend(status.canonical_reason().unwrap_or("Error").bytes());
                }
                Part::Variable(variable) => {
                    let index = self.variables.iter().position(|known| known == variable);
                    let value = index.and_then(|index| values.get(index));
                    page.escape
                        .write(value.map_or(&[], |value| value), &mut out);
                }
            }
        }
        out
    }

    /// Tells in words which statuses have a page.
    pub(super) fn show(&self) -> Vec<String> {
        let line = |page: &Arc<Page>| {
            let statuses: Vec<_> = page.statuses.iter().map(Scalar::show).collect();
            let of = if page.intercepts {
                ", also of servers"
            } else {
                ""
            };
            format!("errors has a page for {}{of}", statuses.join(", "))
        };
        self.pages.iter().map(line).collect()
    }
}

impl Plan {
    /// Returns the pages of a route, of a site without a route, or of a request without a site.
    pub fn pages(&self, site: Option<usize>, route: Option<usize>) -> Option<&Pages> {
        let site = site.and_then(|site| self.sites.get(site));
        let pages = match (site, route) {
            (None, _) => &self.errors,
            (Some(site), Some(route)) => &site.routes.get(route)?.errors,
            (Some(site), None) => &site.errors,
        };
        pages.as_deref()
    }
}

/// Tells whether a request can make sense of a page: calls of gRPC read the status of trailers, and a tunnel, that of a
/// WebSocket among them, has no body.
pub fn takes_pages(method: &Method, headers: &HeaderMap) -> bool {
    let content_type = headers.get(http::header::CONTENT_TYPE);
    let grpc = content_type.is_some_and(|value| {
        let start = value.as_bytes().get(..16);
        start.is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"))
    });
    !grpc && !asks_for_websocket(headers) && *method != Method::CONNECT
}

impl Escape {
    /// Chooses by the type of the body.
    pub(super) fn of(content_type: &str) -> Self {
        let media = content_type.split(';').next().unwrap_or("").trim();
        let media = media.to_ascii_lowercase();
        match &*media {
            "text/html" | "text/xml" => Self::Html,
            media if media.ends_with("xml") => Self::Html,
            media if media.ends_with("json") => Self::Json,
            _ => Self::None,
        }
    }

    /// Fills in a template that is a body.
    pub(crate) fn fill(self, template: &Template, request: &Request<'_>) -> Vec<u8> {
        if self == Self::None {
            return request.fill(template);
        }
        let mut out = Vec::new();
        for part in template.parts() {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(variable) => self.write(&request.value(variable), &mut out),
            }
        }
        out
    }

    fn write(self, value: &[u8], out: &mut Vec<u8>) {
        if self == Self::None {
            out.extend(value.iter().filter(|b| is_field_byte(**b)));
            return;
        }
        // What is no UTF-8 could be read as the beginning of what follows.
        for c in String::from_utf8_lossy(value).chars() {
            match (self, c) {
                (Self::Html, '&') => out.extend_from_slice(b"&amp;"),
                (Self::Html, '<') => out.extend_from_slice(b"&lt;"),
                (Self::Html, '>') => out.extend_from_slice(b"&gt;"),
                (Self::Html, '"') => out.extend_from_slice(b"&quot;"),
                (Self::Html, '\'') => out.extend_from_slice(b"&#39;"),
                // The last four keep it inside of a script of a page.
                (Self::Json, '"' | '\\' | '<' | '>' | '&' | '\'') => {
                    out.extend(format!("\\u{:04x}", u32::from(c)).bytes());
                }
                (_, c) if c.is_control() => match self {
                    Self::Json => out.extend(format!("\\u{:04x}", u32::from(c)).bytes()),
                    _ => out.push(b' '),
                },
                (_, c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_variables_bring_in_stays_text() {
        let write = |escape: Escape, text: &[u8]| {
            let mut out = Vec::new();
            escape.write(text, &mut out);
            String::from_utf8(out).unwrap()
        };
        let html = write(
            Escape::of("text/HTML; charset=utf-8"),
            b"<a href='\"'>&\x01\xff",
        );
        assert_eq!(html, "&lt;a href=&#39;&quot;&#39;&gt;&amp; \u{fffd}");
        let json = write(Escape::of("application/problem+json"), b"a\"\\\n</\xc3\xa4");
        assert_eq!(json, "a\\u0022\\u005c\\u000a\\u003c/\u{e4}");
        assert_eq!(write(Escape::of("text/plain"), b"<\"'\0\n\x1b"), "<\"'");
    }

    #[test]
    fn calls_of_grpc_and_tunnels_take_no_page() {
        let takes = |method: Method, content_type: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", HeaderValue::from_static(content_type));
            takes_pages(&method, &headers)
        };
        assert!(takes(Method::POST, "application/json"));
        assert!(!takes(Method::POST, "application/grpc+proto"));
        assert!(!takes(Method::POST, "application/gRPC-web"));
        assert!(!takes(Method::CONNECT, "text/plain"));
        for (upgrade, takes) in [("WebSocket", false), ("h2c", true)] {
            let upgrade = HeaderValue::from_static(upgrade);
            let headers = HeaderMap::from_iter([(http::header::UPGRADE, upgrade)]);
            assert_eq!(takes_pages(&Method::GET, &headers), takes);
        }
    }
}
