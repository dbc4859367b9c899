//! The time at which the authority wants a certificate to be renewed (RFC 9773).

use std::time::Duration;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use instant_acme::{CertificateIdentifier, Error};
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::ParsedExtension;

use super::attempt::{Attempt, Outcome};
use super::order::Failure;

/// The shortest and the longest time between two questions, in seconds.
const AGAIN: (u64, u64) = (60, 24 * 3600);

/// Returns the name of a certificate in questions about its renewal (section 4.1); `None` when its issuer gives none.
pub(super) fn identifier(leaf: &CertificateDer<'_>) -> Option<CertificateIdentifier<'static>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let mut extensions = parsed.extensions().iter();
    let authority = extensions.find_map(|one| match one.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(of) => of.key_identifier.as_ref(),
        _ => None,
    })?;
    Some(CertificateIdentifier {
        authority_key_identifier: URL_SAFE_NO_PAD.encode(authority.0).into(),
        serial: URL_SAFE_NO_PAD.encode(parsed.raw_serial()).into(),
    })
}

impl Attempt {
    /// Asks when the certificate is to be renewed.
    pub(super) async fn ask(self) -> Outcome {
        let unknown = |again| Outcome::Window {
            window: None,
            again,
        };
        let known = self.automatic.known(&self.host, &self.storage);
        let Some(name) = known.and_then(|known| identifier(known.leaf()?)) else {
            return unknown(Duration::from_secs(AGAIN.1));
        };
        let asked = async {
            self.storage.prepare().map_err(Failure::here)?;
            let account = self.accounts.of(&self.acme, &self.storage).await?;
            Ok::<_, Failure>(account.renewal_info(&name).await)
        };
        let patience = Duration::from_secs(60);
        let (least, most) = (Duration::from_secs(AGAIN.0), Duration::from_secs(AGAIN.1));
        match tokio::time::timeout(patience, asked).await {
            Ok(Ok(Ok((info, again)))) => {
                let of = info.suggested_window;
                Outcome::Window {
                    window: Some((of.start.unix_timestamp(), of.end.unix_timestamp())),
                    again: again.clamp(least, most),
                }
            }
            Ok(Ok(Err(Error::Unsupported(_)))) => unknown(most),
            // Its certificate is good all the same (section 4.3.3).
            _ => unknown(Duration::from_secs(6 * 3600)),
        }
    }
}
