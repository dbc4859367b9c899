//! Users and groups of the system, by name or number.

use nix::unistd::{Group, User};

/// Looks a user up by name, or else by number.
///
/// # Errors
/// One line that names the user.
pub(super) fn user(name: &str) -> Result<User, String> {
    let found = match User::from_name(name) {
        Ok(None) => match name.parse() {
            Ok(number) => User::from_uid(nix::unistd::Uid::from_raw(number)),
            Err(_) => Ok(None),
        },
        other => other,
    };
    found
        .map_err(|e| format!("cannot look up the user {name}: {e}"))?
        .ok_or_else(|| format!("there is no user {name}"))
}

/// Looks a group up by name, or else by number.
///
/// # Errors
/// One line that names the group.
pub(super) fn group(name: &str) -> Result<Group, String> {
    let found = match Group::from_name(name) {
        Ok(None) => match name.parse() {
            Ok(number) => Group::from_gid(nix::unistd::Gid::from_raw(number)),
            Err(_) => Ok(None),
        },
        other => other,
    };
    found
        .map_err(|e| format!("cannot look up the group {name}: {e}"))?
        .ok_or_else(|| format!("there is no group {name}"))
}
