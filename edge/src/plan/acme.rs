//! Automatic certificates, as a plan has them.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::model::Challenge;

/// The automatic certificates of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The URL of the directory of the authority.
    pub directory: String,
    /// The mailbox to which the authority may write.
    pub email: Option<String>,
    /// The file of the certificates by which the directory is trusted; those of the system when unset.
    pub ca: Option<PathBuf>,
    /// The account at the authority.
    pub eab: Option<ExternalAccount>,
    /// The ways to prove that a host is ours, the preferred one first; never empty.
    pub challenges: Vec<Challenge>,
    /// The folder of the account, keys and certificates.
    pub storage: Option<PathBuf>,
    /// The time before its end at which a certificate is renewed.
    pub renew_before: Option<Duration>,
    /// The profile of certificates.
    pub profile: Option<String>,
    /// The hosts that have a certificate each, in the order of the file.
    pub hosts: Vec<String>,
}

/// An account at the authority.
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The identifier of its key.
    pub kid: String,
    /// The key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExternalAccount")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}
