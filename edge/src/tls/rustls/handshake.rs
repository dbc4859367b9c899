//! The course of a handshake: which site it is for, and how it ended.

use std::any::Any;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::listeners::tls::{Choice, ChosenConfig, ConfigChooser};
use pingora_core::protocols::tls::TlsRef;
use pingora_core::tls::ClientHello;
use pingora_core::{Error, ErrorType};
use rustls::{AlertDescription, PeerIncompatible};
use tokio::sync::watch;

use super::acme::ALPN;
use super::client::facts;
use crate::config::values::HostPattern;
use crate::live::{Live, Running};
use crate::observe::{self, TlsVersion};
use crate::plan::acme::Acme;
use crate::plan::host;
use crate::tls::{Checked, Failure, Policy};

thread_local! {
    /// The generation that handshakes on this thread look at.
    static SEEN: RefCell<Option<Arc<Running>>> = const { RefCell::new(None) };
}

/// Chooses by the site of the name that a client asks for.
pub(super) struct BySite(pub(super) Arc<Live>);

impl BySite {
    /// Lends the generation that runs. It costs one load, unless there is a newer one.
    fn with<T>(&self, f: impl FnOnce(&Running) -> T) -> T {
        SEEN.with_borrow_mut(|seen| match seen {
            Some(running) if self.0.is_current(running) => f(running),
            _ => f(seen.insert(self.0.current())),
        })
    }
}

impl ConfigChooser for BySite {
    fn choose(&self, hello: &ClientHello<'_>) -> Choice {
        self.with(|running| {
            let name = hello.server_name().and_then(host::normalise);
            if let Some(acme) = running.plan.acme.as_ref().filter(|_| is_challenge(hello)) {
                let name = name.unwrap_or_default().into_owned();
                return prove(running, acme, name);
            }
            let site = name.as_ref().and_then(|name| running.plan.site(name));
            let (config, policy) = running.certificates.config(site);
            let note = policy.map(|policy| Arc::new(policy) as _);
            let chosen = ChosenConfig { config, note };
            match name.and_then(|name| demand(running, site?, &name)) {
                None => Choice::Now(chosen),
                Some(mut end) => Choice::Later(Box::pin(async move {
                    let wait = end.wait;
                    // Its sender is dropped at the end. Without a certificate by then, the handshake is refused.
                    let _ = tokio::time::timeout(wait, end.receiver.changed()).await;
                    chosen
                })),
            }
        })
    }

    fn complete(
        &self,
        chosen: &ChosenConfig,
        session: &TlsRef,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        let version = match session.version() {
            Some("TLSv1.2") => TlsVersion::V1_2,
            Some("TLSv1.3") => TlsVersion::V1_3,
            _ => TlsVersion::Other,
        };
        observe::handshake(version, session.is_resumed());
        let policy: &Policy = chosen.note.as_ref()?.downcast_ref()?;
        Some(Arc::new(Checked {
            policy: policy.id,
            client: session.peer_certificate_der().and_then(facts),
        }))
    }

    fn failed(&self, _: Option<SocketAddr>, error: &Error) {
        kind(error).count();
    }
}

/// Tells whether an authority looks for the answer to a challenge (RFC 8737 section 3).
fn is_challenge(hello: &ClientHello<'_>) -> bool {
    let Some(mut protocols) = hello.alpn() else {
        return false;
    };
    protocols.next() == Some(ALPN) && protocols.next().is_none()
}

/// The end of a try for a certificate.
struct End {
    receiver: watch::Receiver<()>,
    wait: Duration,
}

/// Has a certificate be had for a name of a site, if it has none and may have one on demand.
fn demand(running: &Running, site: usize, name: &str) -> Option<End> {
    let rules = running.plan.acme.as_ref()?.on_demand.as_ref()?;
    let site = &running.plan.sites[site];
    if !site.is_automatic {
        return None;
    }
    let exact = |host: &HostPattern| matches!(host, HostPattern::Exact(host) if host == name);
    if site.hosts.iter().any(exact) || !rules.may_have(name) {
        return None;
    }
    Some(End {
        receiver: running.certificates.automatic.demand(name)?,
        wait: rules.wait,
    })
}

/// Answers a challenge for a host, of this process or of another one with the same storage.
fn prove(running: &Running, acme: &Acme, host: String) -> Choice {
    let automatic = running.certificates.automatic();
    if let Some(config) = automatic.proof(&host) {
        return Choice::Now(config.into());
    }
    let none = running.certificates.refusing();
    // A name that is not ours is not looked for on the disk.
    let demanded = || {
        let rules = acme.on_demand.as_ref();
        rules.is_some_and(|rules| rules.may_have(&host))
    };
    if !acme.hosts.contains(&host) && !demanded() {
        return Choice::Now(none.into());
    }
    let acme = acme.clone();
    Choice::Later(Box::pin(async move {
        let found = automatic.proof_of_others(&acme, &host).await;
        found.unwrap_or(none).into()
    }))
}

/// Returns the kind of a failure.
fn kind(error: &Error) -> Failure {
    match error.etype() {
        ErrorType::TLSHandshakeTimedout => return Failure::Timeout,
        ErrorType::ConnectionClosed => return Failure::Closed,
        ErrorType::InvalidCert => return Failure::ClientCertificate,
        _ => {}
    }
    // Without a cause: it spoke plain HTTP.
    if error.cause.is_none() {
        return Failure::NotTls;
    }
    let io: Option<&std::io::Error> = error.root_cause().downcast_ref();
    let Some(tls) = io.and_then(|io| io.get_ref()?.downcast_ref()) else {
        return Failure::Closed;
    };
    match tls {
        rustls::Error::General(text) if text.contains("no server certificate chain") => {
            Failure::NoCertificate
        }
        rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_) => {
            Failure::ClientCertificate
        }
        rustls::Error::NoApplicationProtocol => Failure::Alpn,
        rustls::Error::InvalidMessage(_) => Failure::NotTls,
        rustls::Error::PeerIncompatible(e) => incompatible(e),
        rustls::Error::AlertReceived(alert) => refusal(*alert),
        _ => Failure::Other,
    }
}

fn incompatible(e: &PeerIncompatible) -> Failure {
    use PeerIncompatible::*;
    match e {
        Tls12NotOffered
        | Tls12NotOfferedOrEnabled
        | SupportedVersionsExtensionRequired
        | SignatureAlgorithmsExtensionRequired => Failure::Version,
        NoCipherSuitesInCommon
        | NoKxGroupsInCommon
        | NamedGroupsExtensionRequired
        | KeyShareExtensionRequired
        | NoSignatureSchemesInCommon => Failure::Parameters,
        _ => Failure::Other,
    }
}

fn refusal(alert: AlertDescription) -> Failure {
    use AlertDescription::*;
    match alert {
        UnknownCA
        | CertificateExpired
        | BadCertificate
        | UnsupportedCertificate
        | CertificateRevoked
        | CertificateUnknown
        | AccessDenied => Failure::Refused,
        NoApplicationProtocol => Failure::Alpn,
        ProtocolVersion => Failure::Version,
        HandshakeFailure | InsufficientSecurity => Failure::Parameters,
        _ => Failure::Alert,
    }
}
