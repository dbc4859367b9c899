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

/// The account that is in use.
#[derive(Default)]
pub(super) struct Accounts(Mutex<Option<Known>>);

struct Known {
    /// The settings that it was had by.
    acme: Acme,
    account: Account,
    /// The credentials that the storage did not take. Without the account each start makes another one, and authorities bound their number.
    unsaved: Option<Vec<u8>>,
}

impl Accounts {
    /// Returns the account of these settings: from the storage, or a new one.
    ///
    /// # Errors
    ///
    /// When the storage cannot be used, or the authority refuses.
    pub(super) async fn of(&self, acme: &Acme, storage: &Storage) -> Result<Account, Failure> {
        let mut all = self.0.lock().await;
        if let Some(known) = all.as_ref().filter(|known| same(&known.acme, acme)) {
            return Ok(known.account.clone());
        }
        let known = load_or_make(acme, storage).await?;
        Ok(all.insert(known).account.clone())
    }

    /// Writes the account again if the storage did not take it.
    pub(super) async fn save(&self, storage: &Storage) {
        let mut known = self.0.lock().await;
        let Some(known) = known.as_mut() else { return };
        let own = Storage::of(&known.acme);
        let Some(json) = known
            .unsaved
            .as_ref()
            .filter(|_| own.folder() == storage.folder())
        else {
            return;
        };
        // Another process may have made one meanwhile, which the next start takes.
        let there = matches!(storage.account(), Ok(Some(_)));
        if there || storage.write_account(json).is_ok() {
            known.unsaved = None;
            log::info!(
                "the account at {} is kept for another start now",
                known.acme.directory
            );
        }
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

async fn load_or_make(acme: &Acme, storage: &Storage) -> Result<Known, Failure> {
    let known = |account, unsaved| Known {
        acme: acme.clone(),
        account,
        unsaved,
    };
    // One of several processes makes it.
    let _held = held(storage).await?;
    let ca = acme.ca.clone();
    let http = aside(move || Https::new(ca.as_deref())).await?;
    let builder = Account::builder_with_http(Box::new(http.map_err(Failure::here)?));
    if let Some(json) = storage.account().map_err(Failure::storage)? {
        let stored: AccountCredentials = serde_json::from_slice(&json)
            .map_err(|e| Failure::here(format!("the account in the storage is malformed: {e}")))?;
        return Ok(known(builder.from_credentials(stored).await?, None));
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
    log::info!("an account was made at {}", acme.directory);
    let unsaved = storage.write_account(&json).err().map(|e| {
        let directory = &acme.directory;
        log::error!("the account at {directory} is lost with this process: {e}");
        json
    });
    Ok(known(account, unsaved))
}

/// Waits for the lock of the account; its holder makes one, which ends in time.
async fn held(storage: &Storage) -> Result<Locked, Failure> {
    loop {
        if let Some(held) = storage.lock(LOCK).map_err(Failure::storage)? {
            return Ok(held);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
