//! Settings and certificates for tests.

use std::path::Path;
use std::sync::{mpsc, Arc, Mutex};
use std::time::Duration;

use futures::poll;
use rcgen::{date_time_ymd, CertificateParams, KeyPair};

use super::{Automatic, READS};
use crate::config::model::Challenge;
use crate::config::section::Scalar;
use crate::config::values::HostPattern;
use crate::plan::acme::{Acme, OnDemandRules};

/// Settings with their storage in `dir`, which names of `a.test` and `b.test` have certificates on demand by.
pub(super) fn acme(dir: &Path) -> Acme {
    Acme {
        // Nobody listens there.
        directory: "https://127.0.0.1:9/dir".to_owned(),
        email: None,
        ca: None,
        eab: None,
        challenges: vec![Challenge::Http01],
        storage: Some(dir.to_owned()),
        renew_before: None,
        profile: None,
        hosts: Vec::new(),
        on_demand: Some(OnDemandRules {
            hosts: vec![HostPattern::Any],
            ask: None,
            allow: ["*.a.test", "*.b.test"]
                .map(|allowed| HostPattern::parse(allowed).unwrap())
                .to_vec(),
            wait: Duration::from_secs(1),
            max_names: 10,
        }),
    }
}

/// Returns the key and the certificate of a name, from 2000 to a year.
pub(super) fn pem(name: &str, until: i32) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    format!("{}{}", key.serialize_pem(), certificate.pem())
}

/// A handshake has a time limit, and may end while the disk is slow.
#[tokio::test]
async fn reads_that_nobody_waits_for_any_more_end() {
    let automatic = Automatic::default();
    let (slow, disk) = mpsc::channel::<()>();
    let disk = Arc::new(Mutex::new(disk));
    for _ in 0..READS {
        let disk = disk.clone();
        let read = automatic.read_aside(move || disk.lock().unwrap().recv().ok());
        let mut read = std::pin::pin!(read);
        assert!(poll!(read.as_mut()).is_pending());
    }
    assert_eq!(automatic.read_aside(|| Some(())).await, None, "too many");
    drop(slow);
    let again = async {
        while automatic.read_aside(|| Some(())).await.is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, again).await.unwrap();
}
