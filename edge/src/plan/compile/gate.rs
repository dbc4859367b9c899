//! The rules of sites and routes.

use std::time::Duration;

use http::{HeaderValue, StatusCode};

use super::Compiler;
use crate::config::model;
use crate::config::values::Size;
use crate::config::At;
use crate::plan::client::Trusted;
use crate::plan::gate::{Access, Gate, HttpsRedirect, Maintenance};
use crate::plan::networks::Networks;
use crate::plan::pages::Escape;
use crate::plan::Site;

/// The shortest time that lists of HTTPS hosts take.
const PRELOAD: Duration = Duration::from_secs(31_536_000);

impl Compiler<'_> {
    pub(super) fn trusted(&mut self, root: &model::Root) -> Option<Trusted> {
        let trusted = root.trusted_proxies.as_ref()?;
        Some(Trusted {
            networks: Networks::new(trusted.networks.iter().map(|network| (network, true))),
            unix: trusted.unix,
            fields: trusted.fields,
        })
    }

    /// Makes the rules of the routes of a site. Where a route says nothing of a kind, its site's hold; of what is counted,
    /// both hold.
    pub(super) fn gates(&mut self, site: &model::Site, made: &mut Site) {
        let shared = self.counted(&made.name, &site.rate_limit, &site.concurrent_requests);
        for (made, route) in made.routes.iter_mut().zip(&site.routes) {
            let maintenance = route.maintenance.as_ref().or(site.maintenance.as_ref());
            let access = route.access.as_ref().or(site.access.as_ref());
            let basic = route.basic_auth.as_ref().or(site.basic_auth.as_ref());
            let forward = route.forward_auth.as_ref().or(site.forward_auth.as_ref());
            let cors = route.cors.as_ref().or(site.cors.as_ref());
            let place = format!("{} {}", shared.place, super::fits(route));
            let own = self.counted(&place, &route.rate_limit, &route.concurrent_requests);
            let size = |own: Option<Size>, shared: Option<Size>| own.or(shared).map(|size| size.0);
            let gate = Gate {
                maintenance: maintenance.and_then(|maintenance| self.maintenance(maintenance)),
                access: access.and_then(|access| self.access(access)),
                max_headers: (route.max_headers.or(site.max_headers)).map(|max| max as usize),
                max_header_size: size(route.max_header_size, site.max_header_size),
                max_body: size(route.max_body_size, site.max_body_size),
                buffer: route
                    .buffer_request
                    .as_ref()
                    .map(|buffer| self.buffer(buffer, route)),
                basic: basic.and_then(|basic| self.basic_auth(basic)),
                forward: forward.and_then(|auth| self.forward_auth(auth)),
                cors: cors.map(|cors| self.cors(cors)),
                rates: [&*shared.rates, &*own.rates].concat(),
                concurrent: [&*shared.concurrent, &*own.concurrent].concat(),
            };
            made.gate = (!gate.is_empty()).then(|| Box::new(gate));
        }
    }

    fn maintenance(&mut self, maintenance: &model::Maintenance) -> Option<Maintenance> {
        if let Some(body) = &maintenance.body {
            self.check_groups(body, 0);
        }
        if HeaderValue::from_str(&maintenance.content_type).is_err() {
            let message = "`content_type` holds what no header may";
            self.errors.at(maintenance.place, message);
        }
        maintenance.enabled.then(|| Maintenance {
            allow: Networks::new(maintenance.allow.iter().map(|network| (network, true))),
            retry_after: maintenance.retry_after.as_secs().max(1),
            body: maintenance.body.as_ref().map(|body| body.value.clone()),
            content_type: maintenance.content_type.clone(),
            escape: Escape::of(&maintenance.content_type),
        })
    }

    fn access(&mut self, access: &model::Access) -> Option<Access> {
        for allowed in &access.allow {
            if access
                .deny
                .iter()
                .any(|denied| denied.value == allowed.value)
            {
                let message = "this network stands in `deny` too";
                self.errors.at(allowed.place, message);
            }
        }
        if access.allow.is_empty() && access.deny.is_empty() {
            let message = "`access` says nothing; it has `allow` or `deny`";
            self.errors.at(access.place, message);
        }
        let allowed = access.allow.iter().map(|At { value, .. }| (value, true));
        let denied = access.deny.iter().map(|At { value, .. }| (value, false));
        Some(Access {
            networks: Networks::new(allowed.chain(denied)),
            otherwise: access.allow.is_empty(),
        })
    }

    pub(super) fn https_redirect(&mut self, site: &model::Site) -> Option<HttpsRedirect> {
        let redirect = site.https_redirect.as_ref()?;
        let status = redirect.status.as_ref();
        let status = status.map_or(StatusCode::PERMANENT_REDIRECT, |at| {
            self.redirect_status(at)
        });
        let port = redirect.port.as_ref().map(|At { place, value }| {
            let port = u16::try_from(*value).ok().filter(|port| *port > 0);
            if port.is_none() {
                let message = format!("`{value}` is no port; expected 1 to 65535");
                self.errors.at(*place, message);
            }
            port.unwrap_or(443)
        });
        redirect.enabled.then_some(HttpsRedirect {
            status,
            port: port.filter(|port| *port != 443),
        })
    }

    /// Returns the value of Strict-Transport-Security.
    pub(super) fn hsts(&mut self, site: &model::Site) -> Option<String> {
        let hsts = site.hsts.as_ref()?;
        if hsts.preload && (hsts.max_age < PRELOAD || !hsts.include_subdomains) {
            let message =
                "`preload` takes a `max_age` of 365d or more and `include_subdomains: true`";
            self.errors.at(hsts.place, message);
        }
        let mut value = format!("max-age={}", hsts.max_age.as_secs());
        if hsts.include_subdomains {
            value.push_str("; includeSubDomains");
        }
        if hsts.preload {
            value.push_str("; preload");
        }
        Some(value)
    }
}
