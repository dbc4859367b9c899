//! Which pages of other origins may read answers, by the Fetch standard.

use http::header::{
    HeaderName, HeaderValue, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::Method;

use super::request::Request;
use crate::config::values::WebOrigin;

/// Fields of an answer.
pub type Fields = Vec<(HeaderName, HeaderValue)>;

/// The rule of a route.
#[derive(Debug)]
pub struct Cors {
    pub(super) origins: Vec<WebOrigin>,
    /// Lists as they stand in fields; none is empty.
    pub(super) methods: Option<String>,
    pub(super) headers: Option<String>,
    pub(super) expose: Option<String>,
    pub(super) credentials: bool,
    /// In seconds.
    pub(super) max_age: Option<u64>,
}

impl Cors {
    /// Tells whether a request is a browser's question for the permission to send another one.
    pub fn is_preflight(request: &Request) -> bool {
        *request.method == Method::OPTIONS
            && request.headers.contains_key(ORIGIN)
            && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Returns the fields of the answer to such a question; `None` when there is no permission.
    pub fn preflight(&self, request: &Request) -> Option<Fields> {
        let mut fields = Fields::new();
        if !self.origin(request, &mut fields) {
            return None;
        }
        let max_age = self.max_age.map(|seconds| seconds.to_string());
        add(&mut fields, ACCESS_CONTROL_ALLOW_METHODS, &self.methods);
        add(&mut fields, ACCESS_CONTROL_ALLOW_HEADERS, &self.headers);
        add(&mut fields, ACCESS_CONTROL_MAX_AGE, &max_age);
        // It may differ by these for the next one.
        let vary = "Access-Control-Request-Method, Access-Control-Request-Headers";
        fields.push((VARY, HeaderValue::from_static(vary)));
        Some(fields)
    }

    /// Returns the fields of the answer to any other request.
    pub fn fields(&self, request: &Request) -> Fields {
        let mut fields = Fields::new();
        if self.origin(request, &mut fields) {
            add(&mut fields, ACCESS_CONTROL_EXPOSE_HEADERS, &self.expose);
        }
        fields
    }

    /// Adds what is said to the origin of a request, and tells whether it may read the answer.
    fn origin(&self, request: &Request, fields: &mut Fields) -> bool {
        let everybody = self.origins.contains(&WebOrigin::Any) && !self.credentials;
        if everybody {
            fields.push((ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")));
            return true;
        }
        // Also where there is none: who keeps the answer must not show it to another origin.
        fields.push((VARY, HeaderValue::from_static("Origin")));
        let mut named = request.headers.get_all(ORIGIN).iter();
        let (Some(origin), None) = (named.next(), named.next()) else {
            return false;
        };
        let allowed = |one: &WebOrigin| one.matches(origin.as_bytes());
        if !self.origins.iter().any(allowed) {
            return false;
        }
        // A copy, which counts no reference to the request that it came with.
        let origin = HeaderValue::from_bytes(origin.as_bytes());
        fields.extend(
            origin
                .ok()
                .map(|origin| (ACCESS_CONTROL_ALLOW_ORIGIN, origin)),
        );
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            fields.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, yes));
        }
        true
    }
}

fn add(fields: &mut Fields, name: HeaderName, value: &Option<String>) {
    let value = value
        .as_ref()
        .and_then(|value| HeaderValue::from_str(value).ok());
    fields.extend(value.map(|value| (name, value)));
}
