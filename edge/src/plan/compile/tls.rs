//! TLS with clients.

use std::path::Path;

use super::Compiler;
use crate::config::model::{self, ClientAuthMode};
use crate::config::section::Scalar;
use crate::config::At;
use crate::plan::{Certificate, ClientAuth, TlsOptions};

impl Compiler<'_> {
    /// Returns the options of a site, which are those of the root where it has none.
    pub(super) fn tls_options(&mut self, site: &model::Site) -> TlsOptions {
        let mut made = self.root_tls.clone();
        if let Some(options) = &site.tls_options {
            self.add_tls_options(options, &mut made);
        }
        made
    }

    /// Puts options in the place of those in `made`.
    pub(super) fn add_tls_options(&mut self, options: &model::TlsOptions, made: &mut TlsOptions) {
        if let Some(version) = options.min_version {
            made.min_version = version;
        }
        if let Some(version) = options.max_version {
            made.max_version = version;
        }
        let versions = made.min_version as u8..=made.max_version as u8;
        if versions.is_empty() {
            let (min, max) = (made.min_version.show(), made.max_version.show());
            self.errors.at(
                options.place,
                format!("no version is left: `min_version` is {min}, and `max_version` is {max}"),
            );
        }
        if !options.ciphers.is_empty() {
            made.ciphers = self.unique(&options.ciphers);
        }
        let usable = |cipher: &model::Cipher| versions.contains(&(cipher.version() as u8));
        if !made.ciphers.is_empty() && !versions.is_empty() && !made.ciphers.iter().any(usable) {
            self.errors.at(
                options.place,
                "no cipher suite is left: those in `ciphers` are of another version of TLS",
            );
        }
        if !options.key_exchange.is_empty() {
            made.key_exchange = self.unique(&options.key_exchange);
        }
        if !options.alpn.is_empty() {
            made.alpn = self.unique(&options.alpn);
        }
        if let Some(auth) = &options.client_auth {
            made.client_auth = self.client_auth(auth);
        }
    }

    pub(super) fn unique<T: Scalar + PartialEq + Copy>(&mut self, all: &[At<T>]) -> Vec<T> {
        let mut made = Vec::new();
        for At { place, value } in all {
            if made.contains(value) {
                self.errors
                    .at(*place, format!("`{}` stands here twice", value.show()));
            }
            made.push(*value);
        }
        made
    }

    fn client_auth(&mut self, auth: &model::ClientAuth) -> Option<ClientAuth> {
        match (&auth.ca, auth.mode) {
            (_, ClientAuthMode::None) => None,
            (Some(ca), mode) => Some(ClientAuth {
                ca: ca.to_path_buf(),
                mode,
                crl: auth.crl.as_deref().map(Path::to_path_buf),
            }),
            (None, _) => {
                self.errors.at(
                    auth.place,
                    "`client_auth` needs `ca`, the file of those who issue the certificates of clients",
                );
                None
            }
        }
    }
}

pub(super) fn certificate(tls: &model::ServerCertificate) -> Certificate {
    Certificate {
        cert: tls.cert.to_path_buf(),
        key: tls.key.to_path_buf(),
        ocsp: tls.ocsp.as_deref().map(Path::to_path_buf),
    }
}
