//! The account at an authority.

use std::time::Duration;

use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use tokio::sync::Mutex;

use super::attempt::aside;
use super::client::Https;
use super::order::Failure;
use super::storage::{Locked, Storage};
use crate::plan::acme::Acme;

/// The name of the lock of an account; no host begins so.
const LOCK: &str = ".account";
/// The time between two looks at a lock that another process holds.
const PAUSE: Duration = Duration::from_millis(200);

/// The account that is in use, with the settings that it was had by.
#[derive(Default)]
pub(super) struct Accounts(Mutex<Option<(Acme, Account)>>);

impl Accounts {
    /// Returns the account of these settings: from the storage, or a new one.
    ///
    /// # Errors
    ///
    /// When the storage cannot be used, or the authority refuses.
    pub(super) async fn of(&self, acme: &Acme, storage: &Storage) -> Result<Account, Failure> {
        let mut known = self.0.lock().await;
        if let Some((_, account)) = known.as_ref().filter(|(of, _)| same(of, acme)) {
            return Ok(account.clone());
        }
        let account = load_or_make(acme, storage).await?;
        *known = Some((acme.clone(), account.clone()));
        Ok(account)
    }

    /// Forgets an account that the authority does not know any more.
    pub(super) async fn forget(&self, storage: &Storage) {
        if self.0.lock().await.take().is_some() {
            storage.forget_account();
        }
    }
}

/// Tells whether settings are the same but for the hosts and the rules of names on demand.
pub(super) fn same(a: &Acme, b: &Acme) -> bool {
    let without = |acme: &Acme| Acme {
        hosts: Vec::new(),
        on_demand: None,
        ..acme.clone()
    };
    without(a) == without(b)
}

async fn load_or_make(acme: &Acme, storage: &Storage) -> Result<Account, Failure> {
    // One of several processes makes it.
    let _held = held(storage).await?;
    let ca = acme.ca.clone();
    let http = aside(move || Https::new(ca.as_deref())).await?;
    let builder = Account::builder_with_http(Box::new(http.map_err(Failure::here)?));
    if let Some(json) = storage.account().map_err(Failure::here)? {
        let known: AccountCredentials = serde_json::from_slice(&json)
            .map_err(|e| Failure::here(format!("the account in the storage is malformed: {e}")))?;
        return Ok(builder.from_credentials(known).await?);
    }
    let contact = acme.email.iter().map(|email| format!("mailto:{email}"));
    let contact: Vec<_> = contact.collect();
    let contact: Vec<_> = contact.iter().map(String::as_str).collect();
    let account = NewAccount {
        contact: &contact,
        // Who sets `tls: auto` agrees; the guide says so.
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let eab = acme.eab.as_ref();
    let eab = eab.map(|eab| ExternalAccountKey::new(eab.kid.clone(), &eab.key));
    let made = builder.create(&account, acme.directory.clone(), eab.as_ref());
    let (account, credentials) = made.await?;
    let json = serde_json::to_vec(&credentials).map_err(|e| Failure::here(e.to_string()))?;
    storage.write_account(&json).map_err(Failure::here)?;
    log::info!("an account was made at {}", acme.directory);
    Ok(account)
}

/// Waits for the lock of the account; its holder makes one, which ends in time.
async fn held(storage: &Storage) -> Result<Locked, Failure> {
    loop {
        if let Some(held) = storage.lock(LOCK).map_err(Failure::here)? {
            return Ok(held);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
