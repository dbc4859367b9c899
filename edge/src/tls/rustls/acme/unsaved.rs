//! Certificates that the storage did not take: they serve, and are written again until it does.

use super::places::lock_of;
use super::storage::{identity, Reserved, Storage};
use super::{lock, Automatic};

/// A certificate that is lost with this process.
pub(super) struct Unsaved {
    pub(super) storage: Storage,
    /// The key and the certificates.
    pub(super) pem: String,
    /// The error of the storage.
    pub(super) error: String,
    /// The place of a name on demand, which is not counted by its certificate yet.
    pub(super) place: Option<Reserved>,
}

impl Unsaved {
    /// Writes it, unless another process works on it or the storage has one that lasts as long.
    fn write(&self, host: &str, on_demand: bool) -> Result<bool, String> {
        self.storage.prepare()?;
        let name = if on_demand {
            lock_of(host)
        } else {
            host.to_owned()
        };
        let Some(_held) = self.storage.lock(&name)? else {
            return Ok(false);
        };
        let end = |pem: &[u8]| identity(pem).map_or(0, |one| one.validity().1);
        let there = self.storage.certificate(host).ok().flatten();
        let there = there.map_or(0, |there| there.validity().1);
        if there < end(self.pem.as_bytes()) {
            self.storage.write_certificate(host, &self.pem)?;
        }
        Ok(true)
    }
}

impl Automatic {
    /// Takes note of whether the storage has the certificate of a host.
    pub(super) fn note_saved(&self, host: &str, unsaved: Option<Unsaved>) {
        let mut all = lock(&self.unsaved);
        let before = all.remove(host);
        if let Some(mut unsaved) = unsaved {
            // A name that is renewed goes on with the place that it has.
            let place = before.and_then(|before| before.place);
            unsaved.place = unsaved.place.or(place);
            all.insert(host.to_owned(), unsaved);
        }
    }

    /// Tells whether a certificate is lost with this process.
    pub(super) fn has_unsaved(&self) -> bool {
        !lock(&self.unsaved).is_empty()
    }

    /// Writes what the storage did not take. It blocks.
    pub(super) fn save(&self) {
        let all: Vec<_> = lock(&self.unsaved).drain().collect();
        for (host, unsaved) in all {
            let Some(on_demand) = self.is_on_demand(&host) else {
                // It is not used any more.
                continue;
            };
            if unsaved.write(&host, on_demand) == Ok(true) {
                log::info!("the certificate for {host} is kept for another start now");
                if let Some(course) = lock(&self.courses).get_mut(&host) {
                    if course.failures == 0 {
                        course.error = None;
                    }
                }
            } else {
                // A newer one may have come meanwhile.
                lock(&self.unsaved).entry(host).or_insert(unsaved);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::tests::acme;
    use super::*;

    #[test]
    fn a_name_on_demand_has_its_place_until_the_storage_has_its_certificate() {
        let dir = TempDir::new().unwrap();
        let (automatic, storage) = (Automatic::default(), Storage::of(&acme(dir.path())));
        storage.prepare().unwrap();
        let unsaved = |place| Unsaved {
            storage: storage.clone(),
            pem: String::new(),
            error: "no room".to_owned(),
            place,
        };
        let place = storage.reserve("a.test").unwrap();
        automatic.note_saved("a.test", Some(unsaved(place)));
        assert_eq!(storage.reserved().unwrap(), ["a.test"]);
        // It is renewed, and still not there.
        automatic.note_saved("a.test", Some(unsaved(None)));
        assert_eq!(storage.reserved().unwrap(), ["a.test"]);
        automatic.note_saved("a.test", None);
        assert!(storage.reserved().unwrap().is_empty());
    }
}
