//! The process that is to be exchanged, as the command finds it: by its control socket, in one of several folders.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Uid, User};

/// The bit of a folder's mode by which everybody may write to it.
const OTHERS_WRITE: u32 = 0o002;

/// A connection to a process.
pub(super) struct Peer {
    pub(super) stream: UnixStream,
    pub(super) pid: i32,
}

/// Connects to the first process that listens under `name` in one of `folders` and that `trusts` accepts, by its user and by
/// whether others may write to the folder.
///
/// # Errors
///
/// Says of each folder why not: a process that was killed leaves its socket, and anybody may put one into a shared folder.
pub(super) fn find(
    folders: &[PathBuf],
    name: &str,
    trusts: impl Fn(u32, bool) -> bool,
) -> Result<Peer, String> {
    let mut failures = Vec::new();
    for folder in folders {
        match connect(folder, name, &trusts) {
            Ok(peer) => return Ok(peer),
            Err(why) => failures.push(format!("{}: {why}", folder.join(name).display())),
        }
    }
    Err(failures.join("; "))
}

fn connect(folder: &Path, name: &str, trusts: impl Fn(u32, bool) -> bool) -> Result<Peer, String> {
    let stream = UnixStream::connect(folder.join(name)).map_err(|e| e.to_string())?;
    let peer = getsockopt(&stream, sockopt::PeerCredentials).map_err(|e| e.to_string())?;
    let mode = std::fs::metadata(folder).map_or(OTHERS_WRITE, |found| found.permissions().mode());
    if !trusts(peer.uid(), mode & OTHERS_WRITE != 0) {
        return Err(format!("a process of the user {} is there", peer.uid()));
    }
    Ok(Peer {
        stream,
        pid: peer.pid(),
    })
}

/// Tells whether the command of the user `own` believes a process of the user `peer`. Root believes whoever can listen in a
/// folder that others may not write to, and in any other one the user that the file has a `daemon` run as.
pub(super) fn trusts(own: u32, daemon: Option<u32>, peer: u32, others_write: bool) -> bool {
    peer == 0 || peer == own || (own == 0 && (!others_write || daemon == Some(peer)))
}

/// Looks a user up, by name or number.
pub(super) fn user(name: &str) -> Option<u32> {
    match User::from_name(name) {
        Ok(Some(user)) => Some(user.uid.as_raw()),
        _ => name
            .parse()
            .ok()
            .map(|number| Uid::from_raw(number).as_raw()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::net::UnixListener;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_socket_without_a_listener_hides_no_other_one() {
        let dirs = [(); 3].map(|()| TempDir::new().unwrap());
        let folders = dirs.each_ref().map(|dir| dir.path().to_owned());
        let all = |_: u32, _: bool| true;
        let why = find(&folders, "s", all).err().unwrap();
        assert_eq!(why.matches("/s: No such file").count(), 3, "{why}");
        drop(UnixListener::bind(folders[1].join("s")).unwrap());
        let live = UnixListener::bind(folders[2].join("s")).unwrap();
        let found = find(&folders, "s", all).unwrap();
        assert_eq!(found.pid, std::process::id() as i32);
        live.accept().unwrap();
    }

    #[test]
    fn a_listener_who_is_not_trusted_hides_no_other_one() {
        let dirs = [(); 2].map(|()| TempDir::new().unwrap());
        let folders = dirs.each_ref().map(|dir| dir.path().to_owned());
        std::fs::set_permissions(&folders[0], Permissions::from_mode(0o1777)).unwrap();
        let own = Uid::effective().as_raw();
        let not_shared = |peer: u32, others_write: bool| peer == own && !others_write;
        let shared = UnixListener::bind(folders[0].join("s")).unwrap();
        let why = find(&folders, "s", not_shared).err().unwrap();
        assert!(
            why.contains(&format!("a process of the user {own} is there; ")),
            "{why}"
        );
        shared.accept().unwrap();
        let live = UnixListener::bind(folders[1].join("s")).unwrap();
        find(&folders, "s", not_shared).unwrap();
        live.accept().unwrap();
    }

    #[test]
    fn root_believes_nobody_else_in_a_folder_that_all_write_to() {
        for (own, daemon, peer, others_write, is_trusted) in [
            (0, None, 0, true, true),
            (0, None, 33, true, false),
            (0, None, 33, false, true),
            (0, Some(33), 33, true, true),
            (0, Some(33), 34, true, false),
            (33, None, 33, true, true),
            (33, None, 0, true, true),
            (33, None, 34, true, false),
            (33, None, 34, false, false),
            (33, Some(34), 34, true, false),
        ] {
            let found = trusts(own, daemon, peer, others_write);
            assert_eq!(found, is_trusted, "{own} {daemon:?} {peer} {others_write}");
        }
    }
}
