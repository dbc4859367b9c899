//! Values of the cookie that keeps a client at its server.

use std::sync::OnceLock;

use blake2::digest::consts::{U16, U32};
use blake2::digest::{Digest, FixedOutput, KeyInit, Update};
use blake2::{Blake2s, Blake2sMac};

use crate::config::values::Address;
use crate::plan;

/// The cookie of a cluster.
pub(super) struct Sticky {
    name: String,
    attributes: String,
    secure: Option<bool>,
    key: [u8; 32],
}

impl Sticky {
    /// # Errors
    ///
    /// The system has no random numbers.
    pub(super) fn new(plan: &plan::Sticky) -> Result<Self, String> {
        let key = match &plan.secret {
            // A key is of 32 bytes, and a secret of any number.
            Some(secret) => Blake2s::<U32>::digest(secret.as_bytes()).into(),
            None => random_key()?,
        };
        Ok(Self {
            name: plan.name.clone(),
            attributes: plan.attributes.clone(),
            secure: plan.secure,
            key,
        })
    }

    /// Returns the value for a server, which tells nothing of it to who has no key.
    pub(super) fn value(&self, address: &Address) -> u128 {
        let mut mac = Blake2sMac::<U16>::new(&self.key.into());
        mac.update(address.to_string().as_bytes());
        u128::from_be_bytes(mac.finalize_fixed().into())
    }

    /// Returns the whole field for a value.
    pub(super) fn field(&self, value: u128, over_tls: bool) -> String {
        let (name, attributes) = (&self.name, &self.attributes);
        let secure = if self.secure.unwrap_or(over_tls) {
            "; Secure"
        } else {
            ""
        };
        format!("{name}={value:032x}{attributes}{secure}")
    }
}

/// Reads a value, as a client sends it.
pub(super) fn parse(text: &[u8]) -> Option<u128> {
    let digits = text.len() == 32 && text.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(text).ok().filter(|_| digits)?;
    u128::from_str_radix(text, 16).ok()
}

/// Returns the key of this process.
fn random_key() -> Result<[u8; 32], String> {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    if let Some(key) = KEY.get() {
        return Ok(*key);
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|e| format!("`sticky`: the system gives no key: {e}"))?;
    Ok(*KEY.get_or_init(|| key))
}
