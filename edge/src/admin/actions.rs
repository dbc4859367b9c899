//! Actions that change the state of the process, and the answer to a question about a request.

use std::time::Duration;

use bytes::Bytes;
use http::{header, HeaderValue, Response, StatusCode};
use pingora_core::protocols::http::server::Session;
use serde_json::{json as value, Value};

use super::answer::{json, of, refuse};
use super::sessions::{COOKIE_NAME, LIFETIME};
use super::{access, status, Admin};
use crate::cache;
use crate::live::Busy;
use crate::logging::tail;
use crate::plan::Plan;
use crate::tools;

/// Bytes of the body of a request.
const LONGEST: usize = 64 << 10;
/// The time that a wrong token costs.
const WRONG: Duration = Duration::from_millis(300);

impl Admin {
    /// Does what a POST asks for.
    pub(super) async fn act(&self, path: &str, session: &mut Session) -> Response<Vec<u8>> {
        let body = match body(session).await {
            Ok(body) => body,
            Err(refused) => return refused,
        };
        match path {
            "/api/reload" => self.reload().await,
            "/api/endpoints/drain" => self.drain_endpoint(&body, true),
            "/api/endpoints/undrain" => self.drain_endpoint(&body, false),
            "/api/cache/purge" => self.purge(&body),
            "/api/drain" => self.drain(true),
            "/api/undrain" => self.drain(false),
            "/api/login" => self.login(&body).await,
            "/api/logout" => self.logout(session),
            _ => refuse(StatusCode::NOT_FOUND, "there is nothing to POST to here"),
        }
    }

    async fn reload(&self) -> Response<Vec<u8>> {
        match self.reloader.ask().await {
            Ok(reload) => {
                let status = if reload.outcome.is_taken() {
                    StatusCode::OK
                } else {
                    StatusCode::UNPROCESSABLE_ENTITY
                };
                json(status, &status::reload(&reload))
            }
            Err(Busy) => refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "others wait for a reload already, or the process ends",
            ),
        }
    }

    fn drain(&self, on: bool) -> Response<Vec<u8>> {
        self.live.drain(on);
        log::info!("admin: draining {}", if on { "begins" } else { "ends" });
        json(StatusCode::OK, &value!({ "draining": on }))
    }

    /// Has a server get no more requests, or get them again: `endpoint` is its address in the file, or one of those of its
    /// name; `cluster` the index or the name of a cluster, all unless it is given.
    fn drain_endpoint(&self, body: &Value, drained: bool) -> Response<Vec<u8>> {
        let Some(server) = body["endpoint"].as_str() else {
            return refuse(
                StatusCode::BAD_REQUEST,
                "`endpoint` is the address of a server",
            );
        };
        let running = self.live.current();
        let clusters = &running.plan.clusters;
        let cluster = match &body["cluster"] {
            Value::Null => None,
            Value::String(name) => clusters.iter().position(|one| one.name == *name),
            index => index.as_u64().and_then(|index| usize::try_from(index).ok()),
        };
        let known = body["cluster"].is_null() || cluster.is_some();
        let count = if known {
            running.drain(cluster, server, drained)
        } else {
            0
        };
        if count == 0 {
            return refuse(StatusCode::NOT_FOUND, "no cluster has such a server");
        }
        let what = if drained {
            "gets no new requests"
        } else {
            "gets requests again"
        };
        log::info!("admin: the server {server:?} {what}");
        json(
            StatusCode::OK,
            &value!({ "drained": drained, "endpoints": count }),
        )
    }

    /// Removes what is stored for a `url`, or for all addresses that begin with a `prefix`.
    fn purge(&self, body: &Value) -> Response<Vec<u8>> {
        let plan = &self.live.current().plan;
        let removed = match (body["url"].as_str(), body["prefix"].as_str()) {
            (Some(url), None) => cache::purge(plan, url),
            (None, Some(prefix)) => cache::purge_prefix(plan, prefix),
            _ => Err("give one of `url` and `prefix`".into()),
        };
        match removed {
            Ok(count) => {
                log::info!("admin: {count} stored responses are removed");
                json(StatusCode::OK, &value!({ "removed": count }))
            }
            Err(why) => refuse(StatusCode::BAD_REQUEST, &why),
        }
    }

    async fn login(&self, body: &Value) -> Response<Vec<u8>> {
        let running = self.live.current();
        let token = running
            .plan
            .admin
            .as_ref()
            .and_then(|admin| admin.token.as_ref());
        let Some(token) = token else {
            return refuse(StatusCode::CONFLICT, "there is no token to know");
        };
        let known = body["token"].as_str().unwrap_or_default();
        if !access::matches(known.as_bytes(), token) {
            log::warn!("admin: a wrong token was tried");
            tokio::time::sleep(WRONG).await;
            return refuse(StatusCode::UNAUTHORIZED, "the token is another one");
        }
        let Some(name) = self.sessions.begin(token) else {
            return refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the system gives no random numbers",
            );
        };
        with_cookie(
            json(StatusCode::OK, &value!({ "ok": true })),
            &name,
            LIFETIME,
        )
    }

    fn logout(&self, session: &Session) -> Response<Vec<u8>> {
        if let Some(name) = access::cookie(&session.req_header().headers) {
            self.sessions.end(name);
        }
        with_cookie(
            json(StatusCode::OK, &value!({ "ok": true })),
            "",
            Duration::ZERO,
        )
    }

    /// Returns the lines after the one with the number `after` of a query: of the log of errors, or of the access log with
    /// `of=requests`.
    pub(super) fn log(&self, query: Option<&str>) -> Response<Vec<u8>> {
        let (mut of, mut after) = (None, Ok(0));
        for (key, text) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*key {
                "of" => of = Some(text.into_owned()),
                "after" => after = text.parse(),
                _ => return refuse(StatusCode::BAD_REQUEST, "allowed are `of` and `after`"),
            }
        }
        let Ok(after) = after else {
            return refuse(StatusCode::BAD_REQUEST, "`after` is the number of a line");
        };
        let written = match of.as_deref() {
            None | Some("errors") => Some(tail::after(after)),
            Some("requests") => self.live.access_log(after),
            Some(_) => {
                return refuse(StatusCode::BAD_REQUEST, "`of` is `errors` or `requests`");
            }
        };
        let is_written = written.is_some();
        let (lines, last) = written.unwrap_or_default();
        let lines = lines.into_iter().map(|line| {
            value!({
                "number": line.number,
                "level": line.level(),
                "text": line.text,
            })
        });
        let lines = lines.collect::<Vec<_>>();
        let document = value!({ "lines": lines, "next": last, "is_written": is_written });
        json(StatusCode::OK, &document)
    }
}

fn with_cookie(
    mut response: Response<Vec<u8>>,
    name: &str,
    lifetime: Duration,
) -> Response<Vec<u8>> {
    let seconds = lifetime.as_secs();
    let cookie =
        format!("{COOKIE_NAME}={name}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}");
    // Hexadecimal digits and numbers are always a valid value.
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// Reads the body of a request: a JSON document, or nothing.
async fn body(session: &mut Session) -> Result<Value, Response<Vec<u8>>> {
    let mut bytes = Vec::new();
    loop {
        let part: Option<Bytes> = session
            .read_request_body()
            .await
            .map_err(|_| refuse(StatusCode::BAD_REQUEST, "the body did not come"))?;
        let Some(part) = part else { break };
        if bytes.len() + part.len() > LONGEST {
            return Err(refuse(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is too long",
            ));
        }
        bytes.extend_from_slice(&part);
    }
    if bytes.trim_ascii().is_empty() {
        return Ok(Value::Null);
    }
    let wrong = |e| {
        refuse(
            StatusCode::BAD_REQUEST,
            &format!("the body is no JSON: {e}"),
        )
    };
    serde_json::from_slice(&bytes).map_err(wrong)
}

/// Tells which site, route and servers a request would meet: `url`, `method`, `header` (several) and `client` of a query.
pub(super) fn explain(plan: &Plan, query: Option<&str>) -> Response<Vec<u8>> {
    let (mut method, mut url, mut headers, mut client) = ("GET".to_owned(), None, Vec::new(), None);
    for (key, text) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*key {
            "method" => method = text.into_owned(),
            "url" => url = Some(text.into_owned()),
            "header" => headers.push(text.into_owned()),
            "client" => client = Some(text.into_owned()),
            _ => {
                let why = "allowed are `method`, `url`, `header` and `client`";
                return refuse(StatusCode::BAD_REQUEST, why);
            }
        }
    }
    let Some(url) = url else {
        return refuse(StatusCode::BAD_REQUEST, "`url` is missing");
    };
    match tools::question(&method, &url, &headers, client.as_deref()) {
        Ok(question) => {
            let body = tools::explanation(plan, &question, true);
            of(StatusCode::OK, "application/json", body)
        }
        Err(why) => refuse(StatusCode::BAD_REQUEST, &why),
    }
}
