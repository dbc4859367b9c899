//! Certificates that the storage did not take: they serve, and are written again until it does.

use super::places::lock_of;
use super::storage::{identity, Storage};
use super::{lock, Automatic};

/// A certificate that is lost with this process.
pub(super) struct Unsaved {
    pub(super) storage: Storage,
    /// The key and the certificates.
    pub(super) pem: String,
    /// The error of the storage.
    pub(super) error: String,
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
        match unsaved {
            Some(unsaved) => all.insert(host.to_owned(), unsaved),
            None => all.remove(host),
        };
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
