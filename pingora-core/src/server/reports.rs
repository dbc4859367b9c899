//! Reports to Sentry.

use sentry::{ClientInitGuard, ClientOptions};

/// Starts the client, which lives as long as the guard; `None` in a build with debug assertions.
pub(super) fn begin(options: ClientOptions) -> Option<ClientInitGuard> {
    begin_unless(cfg!(debug_assertions), options)
}

fn begin_unless(debug_assertions: bool, options: ClientOptions) -> Option<ClientInitGuard> {
    if debug_assertions {
        log::info!("no reports to Sentry: this build has debug assertions");
        return None;
    }
    Some(sentry::init(options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use sentry::{Envelope, Transport};
    use std::sync::Arc;

    /// Keeps what would be sent.
    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl Transport for Kept {
        fn send_envelope(&self, envelope: Envelope) {
            let event = envelope.event().map(|event| {
                let panics = event.exception.iter().map(|e| e.value.clone());
                panics.flatten().collect::<String>()
            });
            self.0.lock().extend(event);
        }
    }

    #[test]
    fn a_panic_is_reported_by_a_release_build() {
        for (debug_assertions, expected) in [(true, &[][..]), (false, &["broken"])] {
            let kept = Arc::new(Kept::default());
            let options = ClientOptions {
                dsn: "http://key@127.0.0.1:9/1".parse().ok(),
                transport: Some(Arc::new(kept.clone())),
                ..ClientOptions::default()
            };
            let reports = begin_unless(debug_assertions, options);
            assert_eq!(reports.is_some(), !debug_assertions);
            let panicked = std::panic::catch_unwind(|| panic!("broken"));
            assert!(panicked.is_err());
            drop(reports);
            assert_eq!(*kept.0.lock(), expected);
        }
    }
}
