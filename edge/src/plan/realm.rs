//! Users and their passwords.

use crate::config::values::PasswordHash;

/// The users of a site or a route.
#[derive(Debug)]
pub struct Realm {
    /// The users in print: the same in two plans when nothing about them changed.
    pub key: String,
    /// The value of WWW-Authenticate.
    pub challenge: String,
    /// The names and the hashes of their passwords.
    pub users: Vec<(String, PasswordHash)>,
}
