//! Users, and hashes of their passwords.

use std::fmt;

use argon2::password_hash::phc::PasswordHash as Phc;

use crate::config::section::Scalar;
use crate::data::Data;

/// The name of a user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserName(pub String);

impl Scalar for UserName {
    const WHAT: &'static str = "a name of a user";
    const ALLOWED: &'static str = "a text without `:`";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains(':') || text.chars().any(char::is_control) {
            return Err(String::new());
        }
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// A hash of a password, by bcrypt or argon2.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PasswordHash(String);

/// The costs of bcrypt that are taken: less is quickly tried out, and more takes seconds.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=16;
/// KiB of memory that argon2 may take.
const ARGON2_MEMORY: u32 = 256 * 1024;
/// Passes of argon2 over the memory.
const ARGON2_PASSES: u32 = 32;

impl PasswordHash {
    /// Returns the hash as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether a password has this hash. It takes as long as the hash is meant to take.
    pub fn verify(&self, password: &[u8]) -> bool {
        use argon2::{Argon2, PasswordVerifier};
        if self.0.starts_with("$2") {
            return bcrypt::verify(password, &self.0).unwrap_or(false);
        }
        let hash = Phc::new(&self.0);
        hash.is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
    }
}

/// Shows nothing of the hash.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

impl Scalar for PasswordHash {
    const WHAT: &'static str = "a hash of a password";
    const ALLOWED: &'static str =
        "one by bcrypt (`$2y$12$…`, as `htpasswd -nB` prints it) or by argon2 (`$argon2id$…`)";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        let made = Self(text.to_owned());
        if text.starts_with("$2") {
            let parts: bcrypt::HashParts = text.parse().map_err(|_| String::new())?;
            let (least, most) = (BCRYPT_COSTS.start(), BCRYPT_COSTS.end());
            return match BCRYPT_COSTS.contains(&parts.get_cost()) {
                true => Ok(made),
                false => Err(format!("its cost is none of {least} to {most}")),
            };
        }
        let hash = Phc::new(text).map_err(|_| String::new())?;
        if !hash.algorithm.as_str().starts_with("argon2") {
            return Err(String::new());
        }
        let params = argon2::Params::try_from(&hash).map_err(|_| String::new())?;
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err("it has no salt or no hash".into());
        }
        if params.m_cost() > ARGON2_MEMORY || params.t_cost() > ARGON2_PASSES {
            return Err(format!(
                "it takes more than {ARGON2_MEMORY} KiB or {ARGON2_PASSES} passes"
            ));
        }
        Ok(made)
    }

    fn show(&self) -> String {
        self.0.clone()
    }

    fn print(&self) -> Data {
        Data::Secret(self.0.clone())
    }
}
