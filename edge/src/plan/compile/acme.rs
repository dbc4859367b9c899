//! Automatic certificates.

use std::net::IpAddr;
use std::path::PathBuf;

use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::DecodePaddingMode;
use base64::{alphabet, Engine};

use super::Compiler;
use crate::config::model::{self, Challenge};
use crate::config::section::Scalar;
use crate::config::values::{FilePath, HostPattern};
use crate::config::{At, Place};
use crate::plan::acme::{Acme, ExternalAccount};
use crate::plan::Listener;

/// The key of an external account: authorities show it with and without padding.
const KEY: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Compiler<'_> {
    /// Returns the automatic certificates; nothing when no site has any.
    pub(super) fn acme(&mut self, root: &model::Root, listeners: &[Listener]) -> Option<Box<Acme>> {
        let settings = root.acme.as_ref();
        let eab = settings
            .and_then(|acme| acme.eab.as_ref())
            .and_then(|eab| self.external_account(eab));
        let on_demand = settings.and_then(|acme| acme.on_demand.as_ref());
        let mut rules = on_demand.and_then(|rules| self.on_demand(rules));
        let mut hosts = Vec::new();
        let mut first = None;
        for site in &root.sites {
            if let Some(place) = site.tls.auto() {
                first = first.or(Some(place));
                let mut patterns = on_demand.map(|_| Vec::new());
                self.automatic_hosts(site, place, &mut hosts, patterns.as_mut());
                if let Some((rules, patterns)) = rules.as_mut().zip(patterns) {
                    rules.hosts.extend(patterns);
                }
            }
        }
        let wanted = settings.map_or(&[][..], |acme| &acme.challenges);
        let challenges = self.challenges(wanted, listeners, first?);
        let directory = settings.and_then(|acme| acme.directory.clone());
        Some(Box::new(Acme {
            directory: directory.unwrap_or_default().0,
            email: settings.and_then(|acme| Some(acme.email.as_ref()?.value.0.clone())),
            ca: path(settings.and_then(|acme| acme.ca.as_ref())),
            eab,
            challenges,
            storage: path(settings.and_then(|acme| acme.storage.as_ref())),
            renew_before: settings.and_then(|acme| acme.renew_before),
            profile: settings.and_then(|acme| acme.profile.clone()),
            hosts,
            on_demand: rules.filter(|rules| !rules.hosts.is_empty()),
        }))
    }

    fn external_account(&mut self, eab: &model::ExternalAccount) -> Option<ExternalAccount> {
        let At { place, value } = &eab.key;
        let key = KEY.decode(value.0.trim()).ok();
        if key.as_ref().is_none_or(Vec::is_empty) {
            self.errors.at(*place, "the `key` is not in base64url");
        }
        Some(ExternalAccount {
            kid: eab.kid.clone(),
            key: key?,
        })
    }

    /// Adds the hosts of a site that an authority issues certificates for, and its patterns to those `on_demand`; reports
    /// the others.
    fn automatic_hosts(
        &mut self,
        site: &model::Site,
        place: Place,
        hosts: &mut Vec<String>,
        mut on_demand: Option<&mut Vec<HostPattern>>,
    ) {
        if site.hosts.is_empty() {
            match &mut on_demand {
                Some(patterns) => patterns.push(HostPattern::Any),
                None => {
                    let message = "`tls: auto` needs the names of the site: no authority certifies every host; set \
                                   `hosts`, or `acme: {on_demand: ...}`";
                    self.errors.at(place, message);
                }
            }
        }
        for At { place, value } in &site.hosts {
            if let (Some(patterns), HostPattern::Below(_) | HostPattern::Any) =
                (&mut on_demand, value)
            {
                patterns.push(value.clone());
                continue;
            }
            let message = match value {
                HostPattern::Exact(name) if is_ip(name) => {
                    format!("`tls: auto` is for names, and `{name}` is an IP address; give the site a certificate of files")
                }
                HostPattern::Exact(name) => {
                    hosts.push(name.clone());
                    continue;
                }
                HostPattern::Below(_) => format!(
                    "`tls: auto` cannot have a certificate for `{value}`: that takes the challenge DNS-01, which is not \
                     built in; name the hosts, set `acme: {{on_demand: ...}}`, or give the site a certificate of files"
                ),
                HostPattern::Any => {
                    "`tls: auto` cannot have a certificate for every host; name the hosts, or set `acme: {on_demand: ...}`"
                        .to_owned()
                }
            };
            self.errors.at(*place, message);
        }
    }

    /// Returns the challenges that are wanted, or that a listener can answer.
    fn challenges(
        &mut self,
        wanted: &[At<Challenge>],
        listeners: &[Listener],
        first: Place,
    ) -> Vec<Challenge> {
        let answers = |challenge: Challenge| {
            let secure = challenge == Challenge::TlsAlpn01;
            listeners.iter().any(|listener| listener.tls == secure)
        };
        for At { place, value } in wanted {
            if !answers(*value) {
                let (name, lack) = (value.show(), lack(*value));
                let message =
                    format!("no listener can answer the challenge `{name}`: it takes {lack}");
                self.errors.at(*place, message);
            }
        }
        if !wanted.is_empty() {
            return self.unique(wanted);
        }
        let at = |port| move |of: &&Listener| of.address.port() == Some(port);
        let on_80 = listeners.iter().filter(at(80)).any(|of| !of.tls);
        let on_443 = listeners.iter().filter(at(443)).any(|of| of.tls);
        let mut all = vec![Challenge::Http01, Challenge::TlsAlpn01];
        // An authority asks at these two ports only.
        if on_443 && !on_80 {
            all.reverse();
        }
        all.retain(|challenge| answers(*challenge));
        if !listeners.iter().any(|listener| listener.tls) {
            let message = "`tls: auto` has no listener to show a certificate at: set `tls: true` at one, or listen on port 443";
            self.errors.at(first, message);
        }
        all
    }
}

fn lack(challenge: Challenge) -> &'static str {
    match challenge {
        Challenge::Http01 => "one without TLS, which clients reach on port 80",
        Challenge::TlsAlpn01 => "one with TLS, which clients reach on port 443",
    }
}

fn path(of: Option<&FilePath>) -> Option<PathBuf> {
    of.map(|file| file.to_path_buf())
}

fn is_ip(name: &str) -> bool {
    name.starts_with('[') || name.parse::<IpAddr>().is_ok()
}
