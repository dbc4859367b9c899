//! The keys of `acme`, and the certificates of a site.

use std::time::Duration;

use super::{OnDemand, ServerCertificate};
use crate::config::node::{Kind, Node};
use crate::config::section::{choice, section, At, Scalar, Schemas, Value};
use crate::config::values::{Directory, FilePath, Mailbox, Secret};
use crate::config::{Errors, Place};
use crate::data::Data;

section! {
    /// Automatic certificates (RFC 8555), for the sites with `tls: auto`.
    pub struct Acme("the settings of automatic certificates", short: email) {
        /// The mailbox to which the authority may write.
        email: Option<At<Mailbox>> = None,
        /// The directory of the authority: `letsencrypt`, `letsencrypt-staging`, or a URL. If unset, `letsencrypt`.
        directory: Option<Directory> = None,
        /// The file of the certificates (PEM) by which the directory itself is trusted. If unset, those of the system.
        ca: Option<FilePath> = None,
        /// The account at the authority to which the account of ACME is bound. If unset, none.
        eab: Option<ExternalAccount> = None,
        /// The ways to prove that a host is ours, the preferred one first. If unset, those for which there is a listener.
        challenges: Vec<At<Challenge>> = Vec::new(),
        /// The folder of the account, keys and certificates. If unset, `acme` in the `$STATE_DIRECTORY` that systemd gives,
        /// else `/var/lib/reverse-proxy/acme`.
        storage: Option<FilePath> = None,
        /// The time before its end at which a certificate is renewed, but not in the first half of its life. If unset, a
        /// third of its life.
        renew_before: Option<Duration> = None,
        /// The profile of certificates to ask for. If unset, that of the authority.
        profile: Option<String> = None,
        /// Certificates that are ordered when a client first asks for the name. If unset, there are none.
        on_demand: Option<OnDemand> = None,
    }
}

section! {
    /// An account at the authority (external account binding, RFC 8555 section 7.3.4).
    pub struct ExternalAccount("an account at the authority") {
        /// The identifier of its key.
        kid: String,
        /// The key, as the authority shows it: in base64url.
        key: At<Secret>,
    }
}

choice! {
    /// Ways to prove that a host is ours.
    pub enum Challenge("a challenge") {
        /// By an answer on port 80 (RFC 8555 section 8.3).
        Http01 = "http-01",
        /// By a handshake on port 443 (RFC 8737).
        TlsAlpn01 = "tls-alpn-01",
    }
}

choice! {
    /// The word for automatic certificates.
    pub enum Auto("a certificate") {
        /// A certificate that is had, and renewed, by ACME.
        Auto = "auto",
    }
}

/// The certificates of a site.
#[derive(Clone, Debug)]
pub enum SiteTls {
    /// Those of files.
    Files(Vec<ServerCertificate>),
    /// One that is had by ACME.
    Auto(Place),
}

impl SiteTls {
    /// Returns those of files.
    pub fn files(&self) -> &[ServerCertificate] {
        match self {
            Self::Files(files) => files,
            Self::Auto(_) => &[],
        }
    }

    /// Returns the place that asks for an automatic one.
    pub fn auto(&self) -> Option<Place> {
        match self {
            Self::Files(_) => None,
            Self::Auto(place) => Some(*place),
        }
    }

    /// Tells whether the site has none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Files(files) if files.is_empty())
    }
}

impl Value for SiteTls {
    fn decode(node: &Node, errors: &mut Errors) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { .. } => {
                <Auto as Value>::decode(node, errors).map(|_| Self::Auto(node.place))
            }
            _ => Value::decode(node, errors).map(Self::Files),
        }
    }

    fn schema(all: &mut Schemas) -> Data {
        let files = <Vec<ServerCertificate> as Value>::schema(all);
        Data::map([("anyOf", Data::List(vec![<Auto as Scalar>::schema(), files]))])
    }

    fn print(&self) -> Data {
        match self {
            Self::Files(files) => files.print(),
            Self::Auto(_) => Scalar::print(&Auto::Auto),
        }
    }
}
