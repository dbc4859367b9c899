//! A certificate that is exchanged while the program runs: whoever renews it replaces the files, and
//! connections from then on are served with the new one.
//!
//! ```no_run
//! # fn run() -> pingora_core::Result<()> {
//! use edge::certificates::Certificates;
//! use pingora_core::listeners::{ListenerConfig, Listeners};
//! use pingora_core::services::background::GenBackgroundService;
//!
//! let certificates = Certificates::load("cert.pem", "key.pem")?;
//! let mut settings = certificates.settings()?;
//! settings.enable_h2();
//! let mut listeners = Listeners::new();
//! listeners.add_listener(ListenerConfig::tcp("[::]:443").tls(settings));
//! // To be added to the server:
//! let watching = GenBackgroundService::new("certificates".into(), certificates);
//! # drop((listeners, watching));
//! # Ok(())
//! # }
//! ```

#[cfg_attr(feature = "rustls", path = "certificates/rustls.rs")]
#[cfg_attr(
    any(feature = "openssl", feature = "boringssl"),
    path = "certificates/openssl.rs"
)]
#[cfg_attr(
    not(any(feature = "rustls", feature = "openssl", feature = "boringssl")),
    path = "certificates/none.rs"
)]
mod backend;
#[cfg(all(
    test,
    any(feature = "rustls", feature = "openssl", feature = "boringssl")
))]
mod tests;
mod validity;

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use log::Level;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use pingora_core::{FileReadError, OrErr, Result};

use crate::calendar::unix_seconds;

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// How often it is said when the certificate expires.
const DAY: Duration = Duration::from_secs(24 * 3600);

pub use validity::Validity;

/// A certificate chain and its key in two PEM files, and what was last read from them.
pub struct Certificates {
    cert: String,
    key: String,
    /// Read once per handshake, and written when the files change.
    current: RwLock<Arc<backend::Pair>>,
    seen: Mutex<Seen>,
}

/// What tells one state of the files from another: when, how long, and which file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen([(i64, i64, u64, u64); 2]);

impl Seen {
    fn at(cert: &str, key: &str) -> io::Result<Self> {
        let look = |file: Metadata| (file.mtime(), file.mtime_nsec(), file.size(), file.ino());
        Ok(Seen([
            look(std::fs::metadata(cert)?),
            look(std::fs::metadata(key)?),
        ]))
    }
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be read, or do not belong together.
    pub fn load(cert: &str, key: &str) -> Result<Arc<Self>> {
        let seen = Seen::at(cert, key)
            .or_err_with(FileReadError, || format!("looking at {cert} and {key}"))?;
        let certificates = Certificates {
            cert: cert.to_owned(),
            key: key.to_owned(),
            current: RwLock::new(Arc::new(backend::load(cert, key)?)),
            seen: Mutex::new(seen),
        };
        certificates.tell();
        Ok(Arc::new(certificates))
    }

    /// When the certificate is valid.
    ///
    /// # Errors
    /// When that cannot be read from it.
    pub fn validity(&self) -> Result<Validity> {
        backend::validity(&self.current())
    }

    /// Until when the certificate is valid, in a sentence.
    pub fn state(&self) -> String {
        self.weighed().1
    }

    /// Logs until when the certificate is valid: as a warning if it is not, or not for long.
    fn tell(&self) {
        let (level, sentence) = self.weighed();
        log::log!(level, "{sentence}");
    }

    fn weighed(&self) -> (Level, String) {
        let now = unix_seconds(SystemTime::now());
        let (level, text) = match self.validity() {
            Ok(validity) => (validity.level(now), validity.text(now)),
            Err(e) => (Level::Warn, format!("cannot be read: {e}")),
        };
        (level, format!("the certificate in {} {text}", self.cert))
    }

    /// Settings that serve each connection with the certificate of the moment.
    ///
    /// # Errors
    /// When the TLS library refuses.
    pub fn settings(self: &Arc<Self>) -> Result<TlsSettings> {
        backend::settings(self.clone())
    }

    /// Reads the files again if they have changed, and returns whether they had. What cannot be used leaves the old
    /// certificate in place.
    ///
    /// # Errors
    /// As [`load`](Self::load); the same state of the files is not tried again.
    pub fn reload(&self) -> Result<bool> {
        let seen = Seen::at(&self.cert, &self.key).or_err_with(FileReadError, || {
            format!("looking at {} and {}", self.cert, self.key)
        })?;
        {
            let mut last = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *last == seen {
                return Ok(false);
            }
            *last = seen;
        }
        let new = Arc::new(backend::load(&self.cert, &self.key)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        self.tell();
        Ok(true)
    }

    fn current(&self) -> Arc<backend::Pair> {
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Returns how many certificates to trust are in a PEM file.
///
/// # Errors
/// When it cannot be read, or something else is in it.
pub fn authorities(file: &str) -> Result<usize> {
    backend::authorities(file)
}

#[async_trait]
impl BackgroundService for Certificates {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut told = false;
        let mut next_day = Instant::now() + DAY;
        while !*shutdown.borrow() {
            if Instant::now() >= next_day {
                self.tell();
                next_day = Instant::now() + DAY;
            }
            match self.reload() {
                Ok(true) => log::info!("the certificate in {} is in use now", self.cert),
                Ok(false) => told = false,
                // Files that are away for longer are told of once.
                Err(_) if told => {}
                Err(e) => {
                    log::warn!(
                        "the certificate in {} is not taken, the old one stays in use: {e}",
                        self.cert
                    );
                    told = true;
                }
            }
            // An error means that nobody is left to say so.
            let stopped = tokio::time::timeout(PERIOD, shutdown.changed()).await;
            if matches!(stopped, Ok(Err(_))) {
                return;
            }
        }
    }
}
