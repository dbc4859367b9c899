//! An order for a certificate (RFC 8555 section 7.4).

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus,
    RetryPolicy,
};

use super::client::{plain, tell};
use super::proof::Proof;
use super::schedule::Fault;
use super::storage::Storage;
use super::window::identifier;
use super::Automatic;
use crate::config::model::Challenge;
use crate::config::section::Scalar;
use crate::plan::acme::Acme;
use crate::tls::backend::identity::Identity;

/// The time that the authority has for its checks, and again for the certificate.
const CHECKS: Duration = Duration::from_secs(120);

/// The reason for which there is no certificate.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: String,
    pub(super) fault: Fault,
    /// True if the authority does not know the account.
    pub(super) no_account: bool,
}

impl Failure {
    /// Makes one of which the authority knows nothing.
    pub(super) fn here(error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            fault: Fault::Unreachable,
            no_account: false,
        }
    }

    pub(super) fn refused(error: impl Into<String>) -> Self {
        Self::of(Fault::Refused, error)
    }

    /// Makes one of a name that may not have a certificate.
    pub(super) fn denied(error: impl Into<String>) -> Self {
        Self::of(Fault::Denied, error)
    }

    /// Makes one of a storage that cannot be used.
    pub(super) fn storage(error: impl Into<String>) -> Self {
        Self::of(Fault::Storage, error)
    }

    /// A question of the rule that has no answer.
    pub(super) fn unanswered(error: impl Into<String>) -> Self {
        Self::of(Fault::Unanswered, error)
    }

    fn of(fault: Fault, error: impl Into<String>) -> Self {
        Self {
            fault,
            ..Self::here(error)
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Api(problem) => problem.r#type.as_deref().unwrap_or("refused"),
            _ => "",
        };
        let kind = kind.rsplit(':').next().unwrap_or_default();
        Self {
            error: tell(&error),
            fault: match kind {
                "" => Fault::Unreachable,
                "rateLimited" => Fault::TooOften,
                _ => Fault::Refused,
            },
            no_account: kind == "accountDoesNotExist",
        }
    }
}

/// A host that is to have a certificate, and the way to prove that it is ours.
pub(super) struct Wanted<'a> {
    pub(super) automatic: &'a Automatic,
    pub(super) storage: &'a Storage,
    pub(super) acme: &'a Acme,
    pub(super) host: &'a str,
    pub(super) challenge: Challenge,
    /// The certificate that is renewed.
    pub(super) replaces: Option<Arc<Identity>>,
}

impl Wanted<'_> {
    /// Orders the certificate. Returns its key and the chain, in PEM.
    ///
    /// # Errors
    ///
    /// When the authority is not reached or refuses, or a challenge cannot be answered.
    ///
    /// # Cancel safety
    ///
    /// The answers to challenges are gone; the order ends at the authority by itself.
    pub(super) async fn order(&self, account: &Account) -> Result<String, Failure> {
        let identifiers = [Identifier::Dns(self.host.to_owned())];
        let new = || {
            let new = NewOrder::new(&identifiers);
            match &self.acme.profile {
                Some(profile) => new.profile(profile),
                None => new,
            }
        };
        let before = self.replaces.as_ref();
        let before = before.and_then(|before| identifier(before.leaf()?));
        let mut order = match before {
            None => account.new_order(&new()).await?,
            Some(before) => match account.new_order(&new().replaces(before)).await {
                Ok(order) => order,
                // It does not know such orders, or not the certificate (RFC 9773 section 5).
                Err(Error::Unsupported(_) | Error::Api(_) | Error::Other(_)) => {
                    account.new_order(&new()).await?
                }
                Err(e) => return Err(e.into()),
            },
        };
        let answers = self.prove(&mut order).await?;
        let retries = RetryPolicy::new().backoff(1.5).timeout(CHECKS);
        let state = order.poll_ready(&retries).await;
        drop(answers);
        match state {
            Ok(OrderStatus::Ready) => {}
            Ok(_) | Err(Error::Api(_)) => return Err(self.reason(&mut order).await),
            Err(e) => return Err(e.into()),
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&retries).await?;
        Ok(format!("{key}{chain}"))
    }

    /// Puts the answers to the challenges of an order out, and has the authority look at them.
    async fn prove(&self, order: &mut Order) -> Result<Vec<Proof<'_>>, Failure> {
        let mut answers = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                // It was proved for an earlier order.
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                _ => return Err(Failure::refused("the authority has no challenge for it")),
            }
            let kind = match self.challenge {
                Challenge::Http01 => ChallengeType::Http01,
                Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
            };
            let Some(mut challenge) = authorization.challenge(kind) else {
                let name = self.challenge.show();
                let why = format!("the authority does not offer the challenge `{name}`");
                return Err(Failure::refused(why));
            };
            let key = challenge.key_authorization();
            let proof = match self.challenge {
                Challenge::Http01 => Proof::by_token(self, &challenge.token, key.as_str()),
                Challenge::TlsAlpn01 => Proof::by_handshake(self, key.digest().as_ref()),
            };
            answers.push(proof.map_err(Failure::here)?);
            challenge.set_ready().await?;
        }
        Ok(answers)
    }

    /// Returns the reason for which the authority does not believe.
    async fn reason(&self, order: &mut Order) -> Failure {
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let Ok(state) = authorization.refresh().await else {
                continue;
            };
            let problem = state.challenges.iter().find_map(|one| one.error.as_ref());
            if let Some(problem) = problem {
                let detail = problem.detail.as_deref().unwrap_or("no reason given");
                let why = format!(
                    "the authority does not accept the challenge `{}`: {}",
                    self.challenge.show(),
                    plain(detail)
                );
                return Failure::refused(why);
            }
        }
        Failure::refused("the authority does not accept the order")
    }
}
