//! Checks of servers, and tries of requests.

use http::uri::Authority;
use http::HeaderValue;

use super::Compiler;
use crate::config::model::{self, CheckKind, Health};
use crate::config::section::Scalar;
use crate::config::{At, Place};

/// The most tries that the framework makes of a request.
const MOST_TRIES: u32 = 16;

impl Compiler<'_> {
    pub(super) fn check_health(&mut self, proxy: &model::Proxy) {
        let Some(health) = &proxy.health else { return };
        if health.kind != CheckKind::Http {
            for (key, place) in http_only(health) {
                let kind = health.kind.show();
                self.errors.at(
                    place,
                    format!("`{key}` is for `kind: http`, and not for `{kind}`"),
                );
            }
        }
        if let (Some(service), true) = (&health.service, health.kind != CheckKind::Grpc) {
            self.errors
                .at(service.place, "`service` is for `kind: grpc`");
        }
        if let Some(At { place, value }) = &health.host {
            if value.parse::<Authority>().is_err() {
                let message =
                    format!("`{value}` is not a host; expected one such as `example.org`");
                self.errors.at(*place, message);
            }
        }
        for (name, At { place, value }) in &health.headers.0 {
            self.check_header(name, *place);
            if HeaderValue::from_str(value).is_err() {
                let message = format!("the value of `{name}` holds what no header may");
                self.errors.at(*place, message);
            }
        }
        if let Some(At { place, value }) = &health.port {
            if !(1..=65535).contains(value) {
                let message = format!("`{value}` is not a port; expected 1 to 65535");
                self.errors.at(*place, message);
            }
        }
    }

    pub(super) fn check_retries(&mut self, proxy: &model::Proxy) {
        let attempts = proxy
            .retries
            .as_ref()
            .and_then(|retries| retries.attempts.as_ref());
        if let Some(At { place, value }) = attempts.filter(|at| at.value.0 > MOST_TRIES) {
            let message = format!(
                "{} tries are too many; expected up to {MOST_TRIES}",
                value.0
            );
            self.errors.at(*place, message);
        }
    }
}

/// Returns the keys that are set and only a check by HTTP has.
fn http_only(health: &Health) -> impl Iterator<Item = (&'static str, Place)> + use<> {
    let keys = [
        ("path", health.path.as_ref().map(|at| at.place)),
        ("method", health.method.as_ref().map(|at| at.place)),
        ("headers", health.headers.0.first().map(|(_, at)| at.place)),
        ("expect", health.expect.first().map(|at| at.place)),
        ("body", health.body.as_ref().map(|at| at.place)),
        (
            "host",
            health
                .host
                .as_ref()
                .map(|at| at.place)
                .filter(|_| health.kind == CheckKind::Tcp),
        ),
    ];
    keys.into_iter()
        .filter_map(|(key, place)| Some((key, place?)))
}
