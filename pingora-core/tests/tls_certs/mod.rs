//! Certificates for tests, made when they are wanted, in a directory of their own.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test program uses a part of it"
)]

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};
use tempfile::TempDir;

/// An authority, and the files that it has made.
pub struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// The files of a certificate and its key, in PEM.
#[derive(Clone)]
pub struct Pair {
    pub cert: String,
    pub key: String,
}

/// What a certificate says.
pub struct Leaf<'a> {
    pub names: &'a [&'a str],
    pub organization: Option<&'a str>,
    pub serial: u64,
    /// The first and the last year of its validity.
    pub years: (i32, i32),
}

impl Default for Leaf<'_> {
    fn default() -> Self {
        Leaf {
            names: &["name.example", "127.0.0.1"],
            organization: Some("Test Organization"),
            serial: 0x1A2B3C,
            years: (2020, 2099),
        }
    }
}

impl Authority {
    /// A new one, whom nobody knows.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        // A name of its own each: what another one with the same name had signed would look forged.
        let number = key.public_key_raw()[1..5].iter();
        let number: String = number.map(|byte| format!("{byte:02x}")).collect();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Test Authority {number}"));
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { dir, issuer }
    }

    /// The file of its own certificate.
    pub fn file(&self) -> String {
        self.path("ca.pem")
    }

    /// Its own certificate in DER.
    pub fn der(&self) -> Vec<u8> {
        self.issuer.der().to_vec()
    }

    /// The files of its own certificate and key.
    pub fn own(&self) -> Pair {
        let key = self.path("ca.key");
        std::fs::write(&key, self.issuer.key().serialize_pem()).unwrap();
        Pair {
            cert: self.file(),
            key,
        }
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> String {
        let path: PathBuf = self.dir.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    /// Issues a certificate into files that begin with `file`, in place of what was there.
    pub fn issue(&self, file: &str, leaf: &Leaf<'_>) -> Pair {
        let names: Vec<String> = leaf.names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = Default::default();
        params
            .distinguished_name
            .push(DnType::CommonName, leaf.names[0]);
        if let Some(organization) = leaf.organization {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organization);
        }
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from(leaf.serial));
        params.not_before = rcgen::date_time_ymd(leaf.years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(leaf.years.1, 1, 1);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let pair = Pair {
            cert: self.path(&format!("{file}.pem")),
            key: self.path(&format!("{file}.key")),
        };
        std::fs::write(&pair.cert, certificate.pem()).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    /// Makes a list of revoked certificates, by their serial numbers, which ends with a year.
    pub fn revoke(&self, file: &str, serials: &[u64], until: i32) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(until + 1, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap();
        let file = self.path(file);
        std::fs::write(&file, list.pem().unwrap()).unwrap();
        file
    }

    /// Issues an ordinary certificate for `name.example` and 127.0.0.1.
    pub fn ordinary(&self) -> Pair {
        self.issue("ordinary", &Leaf::default())
    }
}
