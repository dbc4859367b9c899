//! TLS with clients over OpenSSL or BoringSSL: certificates by the name that a client asks for, on the terms of the library.

use std::any::Any;
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::listeners::TlsAccept;
use pingora_core::protocols::tls::TlsRef;
use pingora_core::tls::error::ErrorStack;
use pingora_core::tls::ext;
use pingora_core::tls::pkey::{PKey, Private};
use pingora_core::tls::ssl::NameType;
use pingora_core::tls::x509::X509;
use pingora_core::Result;

use super::without_acme::Automatic;
pub(crate) use super::without_acme::{is_token, orders, Ordering};
use super::{CertificateState, Policy, Source, Validity};
use crate::calendar::read_openssl_time;
use crate::live::{Live, Running};
use crate::observe::{self, TlsVersion};
use crate::plan::{self, host, Plan, TlsOptions};

pub(super) fn init() {}

pub(super) fn settings(live: Arc<Live>) -> Result<TlsSettings> {
    let mut settings = TlsSettings::with_callbacks(Box::new(BySite(live)))?;
    settings.enable_h2();
    Ok(settings)
}

/// The certificates of a plan.
pub(crate) struct Certificates {
    /// By the index of the site: its name, and its certificates.
    sites: Vec<(String, Vec<Identity>)>,
    /// The index of the site whose certificate is shown to those that ask for no name, or for an unknown one.
    default: Option<usize>,
}

/// A certificate with its key.
struct Identity {
    /// Its own certificate first.
    chain: Vec<X509>,
    key: PKey<Private>,
    validity: Validity,
    file: String,
}

impl Certificates {
    /// Reads the certificates of all sites. What cannot be used is added to `problems`.
    pub(crate) fn load(plan: &Plan, _: Option<&Self>, problems: &mut Vec<String>) -> Self {
        let usual = TlsOptions::default();
        let mut sites = Vec::new();
        for site in &plan.sites {
            let mut own = Vec::new();
            for files in &site.certificates {
                match Identity::load(files) {
                    Ok(identity) => own.push(identity),
                    Err(e) => problems.push(format!("the site `{}`: `tls`: {e}", site.name)),
                }
            }
            if site.is_automatic {
                let why = "automatic certificates take a program that was built with rustls";
                problems.push(format!("the site `{}`: `tls`: {why}", site.name));
            }
            if site.tls_options != usual {
                let why = "this program was built with OpenSSL, which has no options here; build it with --features rustls";
                problems.push(format!("the site `{}`: `tls_options`: {why}", site.name));
            }
            sites.push((site.name.clone(), own));
        }
        let default = sites.iter().position(|(_, own)| !own.is_empty());
        Self { sites, default }
    }

    /// Returns the automatic ones: none.
    pub(crate) fn automatic(&self) -> Arc<Automatic> {
        Arc::new(Automatic)
    }

    /// Returns the states of all certificates.
    pub(crate) fn states(&self, _: &Plan) -> Vec<CertificateState> {
        let states = self.sites.iter().flat_map(|(site, own)| {
            let identities = own.iter();
            identities.map(|identity| identity.state(site))
        });
        states.collect()
    }

    /// Returns what tells the check of client certificates of a site from others: there is none.
    #[inline]
    pub(crate) fn policy(&self, _: usize) -> Option<Policy> {
        None
    }

    /// Has the certificates of a site be shown, or those of the first that has any.
    fn show(&self, site: Option<usize>, ssl: &mut TlsRef) -> Result<(), ErrorStack> {
        let known = site.filter(|site| !self.sites[*site].1.is_empty());
        let Some(site) = known.or(self.default) else {
            return Ok(());
        };
        // Of those with the same kind of key the first one is shown.
        let mut all = self.sites[site].1.iter().rev();
        all.try_for_each(|identity| identity.show(ssl))
    }
}

impl Identity {
    fn load(files: &plan::Certificate) -> Result<Self, String> {
        let (cert, key) = (files.cert.display(), files.key.display());
        if files.ocsp.is_some() {
            return Err("`ocsp` takes a program that was built with rustls".to_owned());
        }
        let read = |path: &Path| std::fs::read(path).map_err(|e| e.to_string());
        let chain = read(&files.cert)
            .and_then(|text| X509::stack_from_pem(&text).map_err(|e| e.to_string()))
            .map_err(|e| format!("cannot read the certificate in {cert}: {e}"))?;
        let private = read(&files.key)
            .and_then(|text| PKey::private_key_from_pem(&text).map_err(|e| e.to_string()))
            .map_err(|e| format!("cannot read the private key in {key}: {e}"))?;
        let failed = |why: &str| format!("cannot use {cert} with {key}: {why}");
        let leaf = chain
            .first()
            .ok_or_else(|| failed("no certificate is in it"))?;
        let public = leaf.public_key().map_err(|e| failed(&e.to_string()))?;
        if !public.public_eq(&private) {
            return Err(failed("the key is of another certificate"));
        }
        let unix = |time: String| {
            let seconds = read_openssl_time(&time);
            seconds.ok_or_else(|| failed(&format!("its validity has no time: {time}")))
        };
        let validity = Validity {
            not_before: unix(leaf.not_before().to_string())?,
            not_after: unix(leaf.not_after().to_string())?,
            // The library takes a CA's own for a server, and does not tell.
            of_authority: false,
        };
        let file = cert.to_string();
        validity.tell(&file);
        Ok(Self {
            chain,
            key: private,
            validity,
            file,
        })
    }

    fn show(&self, ssl: &mut TlsRef) -> Result<(), ErrorStack> {
        let Some((leaf, issuers)) = self.chain.split_first() else {
            return Ok(());
        };
        ext::ssl_use_certificate(ssl, leaf)?;
        ext::ssl_use_private_key(ssl, &self.key)?;
        let mut issuers = issuers.iter();
        issuers.try_for_each(|issuer| ext::ssl_add_chain_cert(ssl, issuer))
    }

    fn state(&self, site: &str) -> CertificateState {
        let leaf = self.chain.first();
        let names = leaf.and_then(|leaf| leaf.subject_alt_names());
        let names = names.iter().flatten();
        CertificateState {
            site: site.to_owned(),
            names: names
                .filter_map(|name| name.dnsname().map(str::to_owned))
                .collect(),
            source: Source::File,
            file: Some(self.file.clone()),
            key: None,
            issuer: None,
            fingerprint: None,
            not_before: Some(self.validity.not_before),
            not_after: Some(self.validity.not_after),
            ocsp: false,
            error: None,
            next_try: None,
        }
    }
}

thread_local! {
    /// The generation that handshakes on this thread look at.
    static SEEN: RefCell<Option<Arc<Running>>> = const { RefCell::new(None) };
}

/// Chooses by the site of the name that a client asks for.
struct BySite(Arc<Live>);

impl BySite {
    /// Lends the generation that runs. It costs one load, unless there is a newer one.
    fn with<T>(&self, f: impl FnOnce(&Running) -> T) -> T {
        SEEN.with_borrow_mut(|seen| match seen {
            Some(running) if self.0.is_current(running) => f(running),
            _ => f(seen.insert(self.0.current())),
        })
    }
}

#[async_trait]
impl TlsAccept for BySite {
    async fn certificate_callback(&self, ssl: &mut TlsRef) {
        let shown = self.with(|running| {
            let name = ssl
                .servername(NameType::HOST_NAME)
                .and_then(host::normalise);
            let site = name.and_then(|name| running.plan.site(&name));
            running.certificates.show(site, ssl)
        });
        if let Err(e) = shown {
            log::error!("a certificate cannot be used: {e}");
        }
    }

    async fn handshake_complete_callback(
        &self,
        ssl: &TlsRef,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        let version = match ssl.version_str() {
            "TLSv1.2" => TlsVersion::V1_2,
            "TLSv1.3" => TlsVersion::V1_3,
            _ => TlsVersion::Other,
        };
        observe::handshake(version, ssl.session_reused());
        None
    }
}
