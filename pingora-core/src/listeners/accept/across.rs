//! The part of the accept mutex that lies between processes: a lock on a file, which belongs to the open
//! file description, so that the kernel frees it with the last descriptor, at the latest when the process dies.
//!
//! The file is one in memory that travels with the sockets. Each process opens it anew: a description that two
//! of them had would be locked for both at once. Where there is no such file, it is one in the directory for
//! temporary files.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::word::Across;

/// A lock between the processes that have a file, or none where nobody else can have the sockets.
pub(super) struct FileLock(Option<File>);

impl FileLock {
    /// No lock: there is one process.
    pub(super) fn none() -> Self {
        FileLock(None)
    }

    /// A lock on the file that travels.
    ///
    /// # Errors
    /// The system's error; that there is no `/proc`, for one.
    pub(super) fn on(traveller: &OwnedFd) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{}", traveller.as_raw_fd());
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(FileLock(Some(file)))
    }

    /// A lock on a file in the directory for temporary files, of whose name processes of the same user that
    /// listen at the same address know.
    ///
    /// # Errors
    /// The system's error, or that another user has put something in its place.
    pub(super) fn by_name(bind: &str) -> io::Result<Self> {
        Self::at(&name(&std::env::temp_dir(), bind))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() || meta.uid() != nix::unistd::geteuid().as_raw() {
            let path = path.display();
            return Err(io::Error::other(format!("{path} is not ours")));
        }
        Ok(FileLock(Some(file)))
    }

    fn flock(&self, how: i32) -> io::Result<()> {
        let Some(file) = &self.0 else {
            return Ok(());
        };
        // SAFETY: flock takes two numbers and touches no memory of this process.
        match unsafe { libc::flock(file.as_raw_fd(), how) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn name(dir: &Path, bind: &str) -> PathBuf {
    // FNV-1a: the same in every process, whatever it was built with.
    let hash = bind.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let user = nix::unistd::geteuid();
    dir.join(format!("pingora-accept-{user}-{hash:016x}.lock"))
}

impl Across for FileLock {
    fn try_lock(&self) -> bool {
        match self.flock(libc::LOCK_EX | libc::LOCK_NB) {
            Ok(()) => true,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => false,
            // A lock that cannot be had must not keep everybody from accepting: without it two
            // processes wait at once, which costs a wake-up and nothing else.
            Err(e) => {
                log::debug!("no lock between processes: {e}");
                true
            }
        }
    }

    fn unlock(&self) {
        if let Err(e) = self.flock(libc::LOCK_UN) {
            log::debug!("no lock between processes: {e}");
        }
    }
}

/// A file in memory, to travel with the sockets.
#[cfg(target_os = "linux")]
pub(super) fn traveller() -> io::Result<OwnedFd> {
    use nix::sys::memfd::{memfd_create, MFdFlags};
    memfd_create(c"accept-mutex", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn traveller() -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Locks of one file exclude each other, and are free when their holder is gone.
    fn exclude(one: FileLock, two: FileLock) {
        assert!(one.try_lock());
        assert!(!two.try_lock());
        one.unlock();
        assert!(two.try_lock());
        assert!(!one.try_lock());
        drop(two);
        assert!(one.try_lock());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_in_memory() {
        let file = traveller().unwrap();
        exclude(FileLock::on(&file).unwrap(), FileLock::on(&file).unwrap());
        let other = traveller().unwrap();
        let (one, other) = (FileLock::on(&file).unwrap(), FileLock::on(&other).unwrap());
        assert!(one.try_lock() && other.try_lock());
    }

    #[test]
    fn a_file_by_name() {
        let dir = std::env::temp_dir().join(format!("accept-lock-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (path, other) = (name(&dir, "127.0.0.1:80"), name(&dir, "127.0.0.1:81"));
        assert_ne!(path, other);
        exclude(FileLock::at(&path).unwrap(), FileLock::at(&path).unwrap());
        std::os::unix::fs::symlink(&path, &other).unwrap();
        assert!(FileLock::at(&other).is_err());
        assert!(FileLock::at(&dir).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn no_lock_is_always_free() {
        let none = FileLock::none();
        assert!(none.try_lock() && none.try_lock());
        none.unlock();
    }
}
