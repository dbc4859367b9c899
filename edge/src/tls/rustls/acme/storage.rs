//! The folder of accounts, keys and certificates, which several processes may share.
//!
//! ```text
//! STORAGE/DIRECTORY/             a folder for each directory: a certificate of staging is none for the public
//!   account.json                 the account, and its key
//!   certificates/HOST.pem        the key and the certificates
//!   courses/HOST.json            the tries that failed, and when the next one is
//!   challenges/TOKEN, HOST.pem   the answers to challenges that are under way
//!   locks/NAME                   who works on a host, on one of several names on demand, or on the account
//!   reserved/NAME                a name on demand that is ordered, which counts against the limit of such names
//! ```
//!
//! Folders are for their owner alone (0700), files too (0600). A file takes the place of another one at once.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

use super::schedule::Course;
use crate::plan::acme::Acme;
use crate::tls::backend::identity::Identity;

/// Bytes of a file.
const LARGEST: u64 = 256 << 10;
/// The storage where nothing names one.
const DEFAULT: &str = "/var/lib/reverse-proxy";

/// The folder of one directory.
#[derive(Clone, Debug)]
pub(super) struct Storage(PathBuf);

/// Work on something that no other process does at the same time.
pub(super) struct Locked {
    _file: Flock<File>,
}

/// A place among the certificates on demand, for a name that is ordered. A process that dies gives it back: its file is left,
/// but not locked.
pub(super) struct Reserved {
    path: PathBuf,
    _file: Flock<File>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // Before it is unlocked, so that no file is removed that another process has locked.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Storage {
    /// Returns that of a plan. It looks at no disk.
    pub(super) fn of(acme: &Acme) -> Self {
        let base = acme.storage.clone().unwrap_or_else(|| {
            // systemd names several with a colon between two.
            let state = std::env::var_os("STATE_DIRECTORY");
            let state = state.and_then(|all| std::env::split_paths(&all).next());
            let state = state.filter(|first| !first.as_os_str().is_empty());
            state.unwrap_or_else(|| DEFAULT.into()).join("acme")
        });
        Self(base.join(name_of(&acme.directory)))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    /// Makes the folders that are missing.
    ///
    /// # Errors
    ///
    /// Names the folder that cannot be made.
    pub(super) fn prepare(&self) -> Result<(), String> {
        for name in ["certificates", "courses", "challenges", "locks", "reserved"] {
            let folder = self.0.join(name);
            let made = DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder);
            made.map_err(|e| format!("cannot make the folder {}: {e}", folder.display()))?;
        }
        Ok(())
    }

    /// Begins work that one process does at a time; `None` while another one does it.
    ///
    /// # Errors
    ///
    /// Names the file that cannot be written.
    pub(super) fn lock(&self, name: &str) -> Result<Option<Locked>, String> {
        let held = locked(&self.0.join("locks").join(name))?;
        Ok(held.map(|file| Locked { _file: file }))
    }

    /// Reserves a place for a name; `None` when there is one already. The caller holds the lock of places.
    ///
    /// # Errors
    ///
    /// Names the file that cannot be written.
    pub(super) fn reserve(&self, name: &str) -> Result<Option<Reserved>, String> {
        let path = self.0.join("reserved").join(name);
        let held = locked(&path)?;
        Ok(held.map(|file| Reserved { path, _file: file }))
    }

    /// Returns the names that a place is reserved for, and gives those back whose process has died. The caller holds the lock
    /// of places.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub(super) fn reserved(&self) -> Result<Vec<String>, String> {
        let mut names = names(&self.0.join("reserved"))?;
        names.retain(|name| matches!(self.reserve(name), Ok(None)));
        Ok(names)
    }

    fn certificate_file(&self, host: &str) -> PathBuf {
        self.0.join("certificates").join(format!("{host}.pem"))
    }

    fn course_file(&self, host: &str) -> PathBuf {
        self.0.join("courses").join(format!("{host}.json"))
    }

    fn challenge_file(&self, name: &str) -> PathBuf {
        self.0.join("challenges").join(name)
    }

    /// Reads the certificate of a host; `None` when there is none.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is not what it should be.
    pub(super) fn certificate(&self, host: &str) -> Result<Option<Identity>, String> {
        let file = self.certificate_file(host);
        read(&file)?
            .map(|pem| identity(&pem).map_err(|e| format!("{}: {e}", file.display())))
            .transpose()
    }

    pub(super) fn write_certificate(&self, host: &str, pem: &str) -> Result<(), String> {
        write(&self.certificate_file(host), pem.as_bytes())
    }

    /// Returns the hosts that there is a certificate of, but for `others`.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub(super) fn certified(&self, others: &[String]) -> Result<Vec<String>, String> {
        let others: HashSet<&str> = others.iter().map(String::as_str).collect();
        let files = names(&self.0.join("certificates"))?;
        let hosts = files.iter().filter_map(|file| file.strip_suffix(".pem"));
        let hosts = hosts.filter(|host| !others.contains(host));
        Ok(hosts.map(str::to_owned).collect())
    }

    /// Removes the certificate of a host if it is not valid any more. The caller holds the lock of the host: another process
    /// could put a new one there meanwhile.
    pub(super) fn remove_expired(&self, host: &str, now: i64) {
        let found = self.certificate(host);
        if found.is_ok_and(|found| found.is_some_and(|found| found.validity().1 < now)) {
            let _ = std::fs::remove_file(self.certificate_file(host));
        }
    }

    /// Reads the account, if there is one.
    pub(super) fn account(&self) -> Result<Option<Vec<u8>>, String> {
        read(&self.0.join("account.json"))
    }

    /// Returns the id of that account.
    pub(super) fn account_id(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Named {
            id: String,
        }
        let json = self.account().ok().flatten()?;
        let named = serde_json::from_slice::<Named>(&json);
        named.ok().map(|named| named.id)
    }

    pub(super) fn write_account(&self, json: &[u8]) -> Result<(), String> {
        write(&self.0.join("account.json"), json)
    }

    /// Puts an account aside that the authority does not know any more.
    pub(super) fn forget_account(&self) {
        let account = self.0.join("account.json");
        if let Err(e) = std::fs::rename(&account, self.0.join("account.json.unknown")) {
            log::warn!("cannot put {} aside: {e}", account.display());
        }
    }

    /// Reads the tries for a host that have failed. What cannot be read counts as none, and so does a wait from a time at which
    /// the clock was ahead: it would last until that time, over restarts and in all processes.
    pub(super) fn course(&self, host: &str, now: i64) -> Option<Course> {
        let json = read(&self.course_file(host)).ok().flatten()?;
        let course: Course = serde_json::from_slice(&json).ok()?;
        Some(course).filter(|course| !course.is_of_a_later_clock(now))
    }

    /// Keeps the tries for a host. Without the file they begin anew after a restart: so it is no error.
    pub(super) fn write_course(&self, host: &str, course: &Course) {
        let file = self.course_file(host);
        if course.error.is_none() {
            let _ = std::fs::remove_file(file);
        } else if let Ok(json) = serde_json::to_vec(course) {
            let _ = write(&file, &json);
        }
    }

    /// Reads the answer to a challenge of HTTP-01.
    pub(super) fn token(&self, token: &str) -> Option<String> {
        String::from_utf8(read(&self.challenge_file(token)).ok()??).ok()
    }

    /// Reads the certificate that answers a challenge of TLS-ALPN-01, with its key.
    pub(super) fn proof(&self, host: &str) -> Option<Vec<u8>> {
        read(&self.challenge_file(&format!("{host}.pem"))).ok()?
    }

    /// Keeps the answer to a challenge: of a token, or of a host with `.pem`.
    pub(super) fn write_challenge(&self, name: &str, text: &str) -> Result<(), String> {
        write(&self.challenge_file(name), text.as_bytes())
    }

    pub(super) fn remove_challenge(&self, name: &str) {
        let _ = std::fs::remove_file(self.challenge_file(name));
    }
}

/// Makes the name of a folder of a URL: letters, digits, dots, and `-` for all else.
fn name_of(url: &str) -> String {
    let url = url.strip_prefix("https://").unwrap_or(url);
    let known = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let name: String = url
        .chars()
        .map(|c| if known(c) { c } else { '-' })
        .take(200)
        .collect();
    // `.` and `..` are no names.
    format!("{name}-").replace("..", "-")
}

/// Makes an identity of a key and the certificates that follow it.
pub(super) fn identity(pem: &[u8]) -> Result<Identity, String> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|e| e.to_string())?;
    Identity::new(chain, key)
}

/// Opens a file and locks it, if nobody else has.
fn locked(path: &Path) -> Result<Option<Flock<File>>, String> {
    let open = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path);
    let file = open.map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => Ok(Some(file)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, e)) => Err(format!("cannot lock {}: {e}", path.display())),
    }
}

/// Returns the names of the files in a folder.
fn names(folder: &Path) -> Result<Vec<String>, String> {
    let failed = |e| format!("cannot read the folder {}: {e}", folder.display());
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder).map_err(failed)? {
        names.extend(file.map_err(failed)?.file_name().into_string());
    }
    Ok(names)
}

/// Reads a file; `None` when there is none.
fn read(file: &Path) -> Result<Option<Vec<u8>>, String> {
    let failed = |e| format!("cannot read {}: {e}", file.display());
    let open = match File::open(file) {
        Ok(open) => open,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let mut bytes = Vec::new();
    open.take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Puts a file in the place of another one, for its owner alone.
fn write(file: &Path, bytes: &[u8]) -> Result<(), String> {
    let failed = |e| format!("cannot write {}: {e}", file.display());
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| format!("no random numbers: {e}"))?;
    // Of the same folder, so that it can be renamed; no token and no host begins so.
    let name = format!(".{:016x}", u64::from_ne_bytes(random));
    let new = file.with_file_name(name);
    let written = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut open| {
            open.write_all(bytes)?;
            open.sync_all()
        })
        .and_then(|()| std::fs::rename(&new, file));
    written.map_err(|e| {
        let _ = std::fs::remove_file(&new);
        failed(e)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn storage(dir: &Path) -> Storage {
        Storage(dir.join(name_of("https://ca.test:14000/dir")))
    }

    #[test]
    fn the_folder_of_a_directory_stays_in_the_storage() {
        assert_eq!(name_of("https://ca.test:14000/dir"), "ca.test-14000-dir-");
        for url in ["https://../../x", "https://..", "https://", "https:///"] {
            let name = name_of(url);
            assert!(!name.contains('/') && !name.contains(".."), "{name}");
            assert!(!name.is_empty() && name != ".");
        }
    }

    #[test]
    fn files_are_for_their_owner_and_replaced_at_once() {
        let dir = tempfile::TempDir::new().unwrap();
        let storage = storage(dir.path());
        storage.prepare().unwrap();
        storage.write_account(b"one").unwrap();
        storage.write_account(b"two").unwrap();
        assert_eq!(storage.account().unwrap().as_deref(), Some(&b"two"[..]));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(storage.folder()), 0o700);
        assert_eq!(mode(&storage.folder().join("account.json")), 0o600);
        let files = std::fs::read_dir(storage.folder()).unwrap();
        assert_eq!(files.count(), 6, "nothing else is left");
    }

    #[test]
    fn one_at_a_time_holds_a_lock() {
        let dir = tempfile::TempDir::new().unwrap();
        let storage = storage(dir.path());
        storage.prepare().unwrap();
        let held = storage.lock("a.test").unwrap();
        assert!(held.is_some());
        assert!(storage.lock("a.test").unwrap().is_none());
        assert!(storage.lock("b.test").unwrap().is_some());
        drop(held);
        assert!(storage.lock("a.test").unwrap().is_some());
    }

    #[test]
    fn tries_are_kept_until_one_succeeds() {
        let dir = tempfile::TempDir::new().unwrap();
        let storage = storage(dir.path());
        storage.prepare().unwrap();
        let mut course = Course::default();
        course.failed(
            10,
            "no".to_owned(),
            super::super::schedule::Fault::Refused,
            0,
        );
        storage.write_course("a.test", &course);
        assert_eq!(storage.course("a.test", 10), Some(course.clone()));
        assert_eq!(storage.course("a.test", 10 - 86_400), None);
        course.succeeded(99);
        storage.write_course("a.test", &course);
        assert_eq!(storage.course("a.test", 10), None);
    }
}
