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

    /// Forgets the account `id`, which the authority does not know any more. One that was made since then stays: tries that
    /// were under way with the old one fail one after the other.
    pub(super) async fn forget(&self, id: &str, storage: &Storage) {
        let mut all = self.0.lock().await;
        if all.as_ref().is_some_and(|known| known.account.id() == id) {
            *all = None;
        }
        // Another process may be about to write another one.
        let Ok(_held) = held(storage).await else {
            return;
        };
        if storage.account_id().as_deref() == Some(id) {
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

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use base64::Engine;
    use rcgen::KeyPair;
    use tempfile::TempDir;

    use super::super::tests::{acme, pem};
    use super::*;

    /// Puts an account into the storage, with the addresses of its authority, so that nobody is asked for them.
    fn put(storage: &Storage, id: &str) {
        let key = KeyPair::generate().unwrap().serialize_der();
        let at = "https://127.0.0.1:9/";
        let json = serde_json::json!({
            "id": id,
            "key_pkcs8": URL_SAFE_NO_PAD.encode(key),
            "urls": {"newNonce": at, "newAccount": at, "newOrder": at},
        });
        storage.write_account(json.to_string().as_bytes()).unwrap();
    }

    #[tokio::test]
    async fn tries_with_an_account_that_is_unknown_forget_no_newer_one() {
        let dir = TempDir::new().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, pem("ca.test", 2090)).unwrap();
        let acme = Acme {
            ca: Some(ca),
            ..acme(dir.path())
        };
        let (accounts, storage) = (Accounts::default(), Storage::of(&acme));
        storage.prepare().unwrap();
        put(&storage, "old");
        // Two tries take it, and both fail.
        let old = accounts.of(&acme, &storage).await.unwrap();
        accounts.forget(old.id(), &storage).await;
        assert_eq!(storage.account().unwrap(), None);
        put(&storage, "new");
        let new = accounts.of(&acme, &storage).await.unwrap();
        accounts.forget(old.id(), &storage).await;
        assert_eq!(storage.account_id().as_deref(), Some("new"));
        std::fs::remove_file(storage.folder().join("account.json")).unwrap();
        let known = accounts.of(&acme, &storage).await.unwrap();
        assert_eq!((old.id(), new.id(), known.id()), ("old", "new", "new"));
        // Another process has put a newer one there.
        put(&storage, "newer");
        accounts.forget("new", &storage).await;
        let known = accounts.of(&acme, &storage).await.unwrap();
        assert_eq!(known.id(), "newer");
    }
}
