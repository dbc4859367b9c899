//! Handshakes that failed, counted by kind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The kind of failure of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no certificate for the name that the client asked for.
    NoCertificate,
    /// The client showed no certificate, or one that is not valid.
    ClientCertificate,
    /// There is no common version of TLS.
    Version,
    /// There is no common cipher suite, signature scheme or key exchange group.
    Parameters,
    /// There is no common application protocol.
    Alpn,
    /// The client refuses the certificate that it was shown.
    Refused,
    /// The client ended the handshake with another alert.
    Alert,
    /// The client sent bytes that are not TLS.
    NotTls,
    /// The client did not end the handshake in time.
    Timeout,
    /// The client closed the connection.
    Closed,
    /// Anything else.
    Other,
}

const KINDS: [(Failure, &str); 11] = [
    (Failure::NoCertificate, "no_certificate"),
    (Failure::ClientCertificate, "client_certificate"),
    (Failure::Version, "version"),
    (Failure::Parameters, "parameters"),
    (Failure::Alpn, "alpn"),
    (Failure::Refused, "refused"),
    (Failure::Alert, "alert"),
    (Failure::NotTls, "not_tls"),
    (Failure::Timeout, "timeout"),
    (Failure::Closed, "closed"),
    (Failure::Other, "other"),
];

/// Written once for each handshake that fails, and never for a request.
static COUNTS: [AtomicU64; KINDS.len()] = [const { AtomicU64::new(0) }; KINDS.len()];

/// The shortest time between two lines of the log that sum failures up.
#[cfg_attr(
    not(feature = "rustls"),
    allow(dead_code, reason = "no handshake fails")
)]
const PERIOD: Duration = Duration::from_secs(60);

/// Returns the number of handshakes that failed since the start, by kind.
pub fn failures() -> impl Iterator<Item = (&'static str, u64)> {
    let counts = COUNTS.iter().map(|count| count.load(Ordering::Relaxed));
    KINDS.iter().map(|(_, name)| *name).zip(counts)
}

#[cfg_attr(
    not(feature = "rustls"),
    allow(dead_code, reason = "no handshake fails")
)]
impl Failure {
    /// Returns the name of the kind, as in logs and metrics.
    pub fn name(self) -> &'static str {
        KINDS[self as usize].1
    }

    /// Counts it, and sums up in the log once in a while.
    pub(super) fn count(self) {
        static REPORT: Mutex<Option<Report>> = Mutex::new(None);
        COUNTS[self as usize].fetch_add(1, Ordering::Relaxed);
        if self == Self::Closed {
            // So do those who only look whether somebody listens.
            return;
        }
        let mut report = REPORT.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if report.as_ref().is_some_and(|last| now < last.at + PERIOD) {
            return;
        }
        let counts: Vec<_> = failures().map(|(_, count)| count).collect();
        let before = report.as_ref().map_or(&[][..], |last| &last.counts);
        let new = |index: usize| counts[index] - before.get(index).copied().unwrap_or(0);
        let shown = KINDS
            .iter()
            .enumerate()
            .filter(|(index, _)| new(*index) > 0);
        let shown: Vec<_> = shown
            .map(|(index, (_, name))| format!("{} {name}", new(index)))
            .collect();
        log::warn!("TLS handshakes that failed: {}", shown.join(", "));
        *report = Some(Report { at: now, counts });
    }
}

/// The last report.
struct Report {
    at: Instant,
    counts: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_place() {
        for (index, (kind, name)) in KINDS.iter().enumerate() {
            assert_eq!((*kind as usize, kind.name()), (index, *name));
        }
    }
}
