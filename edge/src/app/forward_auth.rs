//! Another service that decides about a request.

use bytes::Bytes;
use http::header::{FORWARDED, HOST};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use pingora_core::connectors::http::Connector;
use pingora_core::{InternalError, OrErr, Result};
use pingora_http::RequestHeader;
use pingora_proxy::error_status;

use super::answer::Answer;
use super::exchange::Exchange;
use super::facts::Facts;
use super::gate::Fields;
use super::headers::{join_cookies, Head};
use crate::live::{Live, Running};
use crate::plan::client;
use crate::plan::field_name::{begins_like, is_like};
use crate::plan::forward_auth::ForwardAuth;
use crate::plan::gate::{Refusal, Rule};

const METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// Bytes of the body of an answer of the service.
const BODY: usize = 1 << 20;

/// Makes the request that asks the service.
///
/// # Errors
///
/// Too many fields.
pub(super) fn question(auth: &ForwardAuth, facts: &Facts<'_>) -> Result<RequestHeader> {
    let mut head = RequestHeader::build(Method::GET, auth.path.as_bytes(), None)?;
    let value = |text: String| HeaderValue::try_from(text).or_err(InternalError, "a bad value");
    head.insert_header(HOST, value(auth.host.clone())?)?;
    for (name, value) in &facts.head.headers {
        if !auth.tells(name)
            || is_told_here(name)
            || (tells_what_is_asked(name) && !auth.names(name))
        {
            continue;
        }
        head.append_header(name.clone(), value.clone())?;
    }
    join_cookies(&mut head)?;
    head.insert_header(METHOD, value(facts.head.method.as_str().to_owned())?)?;
    // What the routes and rules have seen, so that the service decides about the same.
    let target = HeaderValue::from_maybe_shared(Bytes::from(facts.target()));
    head.insert_header(URI, target.or_err(InternalError, "a bad target")?)?;
    let scheme = if facts.client.secure { "https" } else { "http" };
    head.insert_header(client::PROTO, HeaderValue::from_static(scheme))?;
    if let Some(ip) = facts.client.ip {
        head.insert_header(client::FOR, value(ip.to_string())?)?;
    }
    let host = match (facts.client.host, facts.head.headers.get(HOST)) {
        (Some(host), _) => HeaderValue::from_str(host).ok(),
        (None, Some(host)) => Some(host.clone()),
        (None, None) => HeaderValue::from_str(&facts.host).ok(),
    };
    if let Some(host) = host {
        head.insert_header(client::HOST, host)?;
    }
    Ok(head)
}

/// Tells whether a field is told of the client here, whatever the client says.
fn is_told_here(name: &HeaderName) -> bool {
    begins_like(name, "x-forwarded") || *name == FORWARDED || is_like(name, "x-real-ip")
}

/// Tells whether a field is one by which other proxies say who asks for what, and a service may believe it.
fn tells_what_is_asked(name: &HeaderName) -> bool {
    const FAMILIES: [&str; 2] = ["x-original-", "x-auth-request-"];
    const NAMES: [&str; 6] = [
        "cf-connecting-ip",
        "client-ip",
        "true-client-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-rewrite-url",
    ];
    FAMILIES.iter().any(|start| begins_like(name, start))
        || NAMES.iter().any(|other| is_like(name, other))
}

/// Asks the service, and returns the fields for the server.
///
/// # Errors
///
/// The answer to a request that the service refuses, or about which it says nothing.
pub(super) async fn ask(
    auth: &ForwardAuth,
    question: &RequestHeader,
    live: &Live,
    running: &Running,
    connector: &Connector,
) -> Result<Fields, Box<Answer>> {
    let asked = Exchange::new(live, running, auth.cluster);
    let asked = asked.ask(connector, question, None, BODY, auth.timeout);
    let (head, body) = match asked.await {
        Ok(answered) => answered,
        Err(e) => {
            log::error!("forward_auth: {e}");
            let status = match error_status(&e) {
                Some(504) => StatusCode::GATEWAY_TIMEOUT,
                _ => StatusCode::BAD_GATEWAY,
            };
            return Err(refused(status));
        }
    };
    let Some(body) = body else {
        log::error!("forward_auth: an answer with a body of more than {BODY} bytes");
        return Err(refused(StatusCode::BAD_GATEWAY));
    };
    if head.status.is_success() {
        let fields = auth.upstream.iter().flat_map(|name| {
            let values = head.headers.get_all(name).iter();
            values.map(|value| (name.clone(), value.clone()))
        });
        return Ok(fields.collect());
    }
    if head.status.is_server_error() || head.status == StatusCode::NOT_MODIFIED {
        log::error!("forward_auth: the service answered {}", head.status);
        return Err(refused(StatusCode::BAD_GATEWAY));
    }
    let told = auth.refusal(&head.headers);
    let told = told.map(|(name, value)| (name.clone(), value.clone()));
    let refusal = Refusal::of(Rule::ForwardAuth, head.status);
    Err(Box::new(Answer::of_service(refusal, told.collect(), body)))
}

fn refused(status: StatusCode) -> Box<Answer> {
    Box::new(Answer::of_refusal(Refusal::of(Rule::ForwardAuth, status)))
}

/// Tells the server what the service has said, and nothing that a client says in its place.
///
/// # Errors
///
/// Too many fields.
pub(super) fn grant(auth: &ForwardAuth, granted: Fields, head: &mut RequestHeader) -> Result<()> {
    let names = head.headers.keys().filter(|name| auth.sets(name));
    for name in names.cloned().collect::<Vec<_>>() {
        head.remove(&name);
    }
    for (name, value) in granted {
        head.add(&name, value.as_bytes())?;
    }
    Ok(())
}
