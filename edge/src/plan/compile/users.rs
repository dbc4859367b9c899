//! Users from a file in the format of htpasswd.

use std::collections::HashMap;

use super::Compiler;
use crate::config::model::BasicAuth;
use crate::config::section::Scalar;
use crate::config::values::{PasswordHash, ReadFile, UserName};

impl Compiler<'_> {
    /// Returns the users of the file and those of its file, with the hashes of their passwords.
    pub(super) fn users(&mut self, basic: &BasicAuth) -> Vec<(String, PasswordHash)> {
        let users = basic.users.0.iter();
        let mut users: Vec<_> = users
            .map(|(name, hash)| (name.0.clone(), hash.clone()))
            .collect();
        if let Some(file) = &basic.users_file {
            self.users_of(file, &mut users);
        }
        users
    }

    /// Adds the users of a file. What errors say holds no hash: it may be a password.
    fn users_of(&mut self, file: &ReadFile, users: &mut Vec<(String, PasswordHash)>) {
        let mut known: HashMap<String, Option<usize>> =
            users.iter().map(|(name, _)| (name.clone(), None)).collect();
        for (index, line) in file.text().lines().enumerate() {
            let number = index + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let problem = match user(line) {
                Ok((name, hash)) => match known.insert(name.clone(), Some(number)) {
                    None => {
                        users.push((name, hash));
                        continue;
                    }
                    Some(Some(first)) => format!("`{name}` stands in line {first} already"),
                    Some(None) => format!("`{name}` stands in `users` already"),
                },
                Err(why) => why,
            };
            let path = file.path().shown().display();
            self.errors.at(
                file.path().place,
                format!("`{path}`, line {number}: {problem}"),
            );
        }
    }
}

/// Reads a line. What follows a second colon is a comment, as for nginx.
fn user(line: &str) -> Result<(String, PasswordHash), String> {
    let (name, rest) = line
        .split_once(':')
        .ok_or("there is no `:` between a name and a hash")?;
    let name = UserName::parse(name).map_err(|_| "there is no name before the `:`")?;
    let hash = rest.split(':').next().unwrap_or("");
    if let Some(kind) = refused(hash) {
        return Err(format!(
            "the password of `{}` is {kind}; expected a hash by bcrypt (`htpasswd -B`) or argon2",
            name.0
        ));
    }
    match PasswordHash::parse(hash) {
        Ok(hash) => Ok((name.0, hash)),
        Err(why) if why.is_empty() => Err(format!(
            "the hash of the password of `{}` is broken",
            name.0
        )),
        Err(why) => Err(format!("the hash of the password of `{}`: {why}", name.0)),
    }
}

/// Names a kind of hash that is quickly tried out.
fn refused(hash: &str) -> Option<&'static str> {
    const KINDS: [(&str, &str); 7] = [
        ("$apr1$", "hashed by MD5 (`$apr1$`)"),
        ("$1$", "hashed by MD5 (`$1$`)"),
        ("$5$", "hashed by SHA-256 (`$5$`)"),
        ("$6$", "hashed by SHA-512 (`$6$`)"),
        ("{SHA}", "hashed by SHA-1 (`{SHA}`)"),
        ("{SSHA}", "hashed by SHA-1 (`{SSHA}`)"),
        ("{PLAIN}", "in the clear (`{PLAIN}`)"),
    ];
    if hash.starts_with("$2") || hash.starts_with("$argon2") {
        return None;
    }
    let known = KINDS.iter().find(|(start, _)| hash.starts_with(start));
    let crypt = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/');
    let kind = match known {
        Some((_, kind)) => kind,
        None if hash.is_empty() => "empty",
        None if hash.len() == 13 && hash.bytes().all(crypt) => "hashed by crypt",
        None if hash.starts_with(['$', '{']) => "hashed in a way that is not known here",
        None => "in the clear",
    };
    Some(kind)
}
