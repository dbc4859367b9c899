//! Going to the background.
//!
//! The process that was started stays until the daemon is set up (or, with
//! `daemon_wait_for_ready`, until its services listen), over a socket pair: a zero byte says so,
//! text says what went wrong, the bare end that the daemon died.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::stat::{umask, Mode};
use nix::unistd::{self, ForkResult, Gid, User};
use parking_lot::Mutex;

use super::configuration::ServerConf;
use super::users;
use crate::limits::LIMITS;

/// The daemon's end of the socket pair, while the starting process waits.
static PARENT: Mutex<Option<UnixStream>> = Mutex::new(None);
/// The file that holds this process's id, and is locked for as long as it is open.
static PID_FILE: Mutex<Option<PidFile>> = Mutex::new(None);

/// Goes to the background: returns in the daemon only.
///
/// # Errors
/// One line that says what is in the way, in the process that was started.
pub(super) fn start(conf: &ServerConf, upgrade: bool) -> Result<(), String> {
    let setup = Setup::check(conf)?;
    let pid_file = PidFile::of(conf, upgrade)?;
    let (parent, daemon) = UnixStream::pair().map_err(|e| format!("no socket pair: {e}"))?;
    let timer = other_threads();
    if timer {
        log::warn!("threads were started before the server went to the background: they end here");
        pingora_timeout::fast_timeout::pause_for_fork();
    }
    // SAFETY: the child goes on as the only thread. Nothing of ours holds a lock here, the clock
    // thread of the timeouts was paused outside of its own, and libc prepares its own for a fork.
    let forked = unsafe { unistd::fork() };
    if timer {
        pingora_timeout::fast_timeout::unpause();
    }
    match forked.map_err(|e| format!("cannot start another process: {e}"))? {
        ForkResult::Parent { .. } => {
            drop(daemon);
            wait(parent, ready_timeout(conf))?;
            std::process::exit(0)
        }
        ForkResult::Child => {
            drop(parent);
            *PARENT.lock() = Some(daemon);
            setup.apply(pid_file)?;
            if !conf.daemon_wait_for_ready {
                tell_ready();
            }
            Ok(())
        }
    }
}

/// Finds out whether a daemon can be made of this process, as far as that changes nothing.
///
/// # Errors
/// As [`start`].
pub(super) fn check(conf: &ServerConf) -> Result<(), String> {
    Setup::check(conf)?;
    PidFile::check(conf)
}

/// Returns how long the starting process waits for the daemon.
fn ready_timeout(conf: &ServerConf) -> Duration {
    if conf.daemon_wait_for_ready {
        conf.daemon_ready_timeout_seconds
            .map_or(LIMITS.daemon_ready, |s| Duration::from_secs(s.get()))
    } else {
        LIMITS.daemon_setup
    }
}

/// Returns how long the daemon's services may take until they listen.
pub(super) fn notify_timeout(conf: &ServerConf) -> Duration {
    conf.daemon_notify_timeout_seconds
        .map_or(LIMITS.daemon_notify, |s| Duration::from_secs(s.get()))
}

/// Tells the process that was started that the daemon is.
pub(super) fn tell_ready() {
    tell(&[0]);
}

/// Tells the process that was started why the daemon is not.
pub(super) fn tell_failure(message: &str) {
    tell(message.as_bytes());
}

fn tell(message: &[u8]) {
    if let Some(mut parent) = PARENT.lock().take() {
        // An error says that it waits no longer.
        let _ = parent.write_all(message);
    }
}

/// Waits for what the daemon tells.
fn wait(mut daemon: UnixStream, timeout: Duration) -> Result<(), String> {
    let late = || format!("the daemon is not ready after {timeout:?}; it goes on starting");
    let deadline = Instant::now().checked_add(timeout);
    let mut message = Vec::new();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(late());
        }
        let mut part = [0; 512];
        let read = daemon
            .set_read_timeout(left)
            .and_then(|()| daemon.read(&mut part));
        match read {
            Ok(0) if message.is_empty() => {
                return Err("the daemon ended before it was ready".to_owned())
            }
            Ok(0) => return Err(String::from_utf8_lossy(&message).into_owned()),
            Ok(_) if part[0] == 0 && message.is_empty() => return Ok(()),
            Ok(n) => message.extend_from_slice(&part[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(late()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(format!("lost the daemon: {e}")),
        }
    }
}

/// The needs of a daemon, opened and looked up while its errors can still be seen.
struct Setup {
    output: File,
    errors: File,
    directory: PathBuf,
    user: Option<User>,
    group: Option<Gid>,
}

impl Setup {
    fn check(conf: &ServerConf) -> Result<Self, String> {
        let null = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map_err(|e| format!("cannot open /dev/null: {e}"))
        };
        let errors = match &conf.error_log {
            Some(path) => OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .map_err(|e| format!("cannot open the error log {path}: {e}"))?,
            None => null()?,
        };
        let directory = conf.working_directory.clone().unwrap_or_else(|| "/".into());
        if !directory.is_dir() {
            return Err(format!(
                "the working directory {} is not a directory",
                directory.display()
            ));
        }
        let user = conf.user.as_deref().map(users::user).transpose()?;
        let group = match &conf.group {
            Some(name) => Some(users::group(name)?.gid),
            None => user.as_ref().map(|user| user.gid),
        };
        Ok(Setup {
            output: null()?,
            errors,
            directory,
            user,
            group,
        })
    }

    /// Makes the calling process a daemon.
    fn apply(self, pid_file: PidFile) -> Result<(), String> {
        let failed = |what: &'static str| move |e: nix::Error| format!("cannot {what}: {e}");
        unistd::setsid().map_err(failed("leave the session"))?;
        // A process that leads no session can never get a terminal again.
        // SAFETY: this process has one thread, since it came from a fork itself.
        match unsafe { unistd::fork() }.map_err(failed("start another process"))? {
            // SAFETY: ends this process without running what the program left to do at its end,
            // which is for the daemon.
            ForkResult::Parent { .. } => unsafe { libc::_exit(0) },
            ForkResult::Child => {}
        }
        umask(Mode::from_bits_truncate(0o027));
        let path = pid_file.path.display();
        let written = pid_file.write();
        written.map_err(|e| format!("cannot write the pid file {path}: {e}"))?;
        *PID_FILE.lock() = Some(pid_file);
        unistd::chdir(&self.directory).map_err(failed("enter the working directory"))?;
        if let Some(gid) = self.group {
            unistd::setgid(gid).map_err(failed("become the group"))?;
        }
        if let Some(user) = &self.user {
            let name = CString::new(user.name.as_str()).map_err(|e| e.to_string())?;
            let gid = self.group.unwrap_or(user.gid);
            unistd::initgroups(&name, gid).map_err(failed("enter the groups of the user"))?;
            unistd::setuid(user.uid).map_err(failed("become the user"))?;
        }
        unistd::dup2_stdin(&self.output).map_err(failed("close the input"))?;
        unistd::dup2_stdout(&self.output).map_err(failed("close the output"))?;
        unistd::dup2_stderr(&self.errors).map_err(failed("redirect the errors"))?;
        Ok(())
    }
}

/// The file that holds the id of a daemon.
struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    fn of(conf: &ServerConf, upgrade: bool) -> Result<Self, String> {
        let opened = Self::open(Path::new(&conf.pid_file), upgrade);
        opened.map_err(|e| Self::refused(conf, &e))
    }

    fn refused(conf: &ServerConf, e: &io::Error) -> String {
        format!("cannot write the pid file {}: {e}", conf.pid_file)
    }

    /// Finds out whether the pid file can be written, and leaves it as it is.
    fn check(conf: &ServerConf) -> Result<(), String> {
        let path = Path::new(&conf.pid_file);
        let there = path.symlink_metadata().is_ok();
        let checked = Self::open_file(path).and_then(|_| match there {
            true => Ok(()),
            false => std::fs::remove_file(path),
        });
        checked.map_err(|e| Self::refused(conf, &e))
    }

    /// Opens the file at a path, an empty one where there is none.
    ///
    /// # Errors
    /// When it cannot be written, is no ordinary file, or is a link.
    fn open_file(path: &Path) -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)?;
        let meta = file.metadata()?;
        if meta.is_file() && meta.nlink() == 1 {
            Ok(file)
        } else {
            Err(io::Error::other("not an ordinary file"))
        }
    }

    /// Opens the pid file, for its absolute path: the daemon runs in another directory. It is locked for as long as the
    /// daemon lives, so that a second process does not take the name of the first away from those who want to stop it. In
    /// an upgrade the two live at the same time, and the new one has a new file under the same name.
    ///
    /// # Errors
    /// When it cannot be written, is no ordinary file, is a link, or is that of a running process.
    fn open(path: &Path, upgrade: bool) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let mut file = Self::open_file(&path)?;
        if is_locked(&file) {
            if !upgrade {
                let mut pid = String::new();
                // What does not say a number says enough.
                let _ = (&file).take(32).read_to_string(&mut pid);
                let why = format!(
                    "process {} runs, and it is the file of that one",
                    pid.trim()
                );
                return Err(io::Error::other(why));
            }
            // Where that is not allowed, both write into the same file, and the new one last.
            if std::fs::remove_file(&path).is_ok() {
                file = Self::open_file(&path)?;
                // Nobody else knows the new file.
                is_locked(&file);
            }
        }
        Ok(PidFile { path, file })
    }

    fn write(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        (&self.file).rewind()?;
        writeln!(&self.file, "{}", std::process::id())
    }

    /// Returns whether this process is the one that its path names.
    fn names_this(&self) -> bool {
        std::fs::read_to_string(&self.path)
            .is_ok_and(|pid| pid.trim() == std::process::id().to_string())
    }

    /// Takes back what the new process of an upgrade has put its own file in the place of.
    ///
    /// # Errors
    /// When it cannot be written.
    fn restore(&mut self) -> io::Result<()> {
        // The new process may be about to remove its own.
        for _ in 0..RESTORE_TRIES {
            if self.names_this() {
                return Ok(());
            }
            if is_same(&self.path, &self.file) {
                self.write()?;
            } else {
                let new = Self::open(&self.path, true)?;
                new.write()?;
                *self = new;
            }
        }
        Err(io::Error::other("another process uses it"))
    }
}

/// The number of tries to take the pid file back.
const RESTORE_TRIES: usize = 3;

/// Returns whether a path leads to an open file.
fn is_same(path: &Path, file: &File) -> bool {
    let there = std::fs::symlink_metadata(path).and_then(|there| Ok((there, file.metadata()?)));
    there.is_ok_and(|(there, own)| (there.dev(), there.ino()) == (own.dev(), own.ino()))
}

/// Returns whether somebody else has locked a file; else this process has from now on, until the file is closed.
fn is_locked(file: &File) -> bool {
    // SAFETY: flock takes two numbers and touches no memory of this process.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    // File systems without locks fail otherwise.
    locked != 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}

/// Has the pid file name this daemon again, after an upgrade that failed.
pub(super) fn restore_pid_file() {
    if let Some(pid_file) = &mut *PID_FILE.lock() {
        if let Err(e) = pid_file.restore() {
            // Expected where the daemon's user may not write in the directory.
            let path = pid_file.path.display();
            log::warn!("the pid file {path} does not name this process any more: {e}");
        }
    }
}

/// Removes the pid file of this daemon, unless a newer one has put its id there.
pub(super) fn remove_pid_file() {
    let Some(pid_file) = PID_FILE.lock().take() else {
        return;
    };
    if pid_file.names_this() {
        if let Err(e) = std::fs::remove_file(&pid_file.path) {
            // Expected where the daemon's user may not write in the directory.
            log::debug!("the pid file {} stays: {e}", pid_file.path.display());
        }
    }
}

/// Returns whether the process has another thread than the calling one, as far as the system tells.
fn other_threads() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn how_long_is_waited() {
        let seconds = std::num::NonZeroU64::new;
        let mut conf = ServerConf {
            daemon_ready_timeout_seconds: seconds(7),
            daemon_notify_timeout_seconds: seconds(8),
            ..ServerConf::default()
        };
        assert_eq!(ready_timeout(&conf), LIMITS.daemon_setup);
        assert_eq!(notify_timeout(&conf), Duration::from_secs(8));
        conf.daemon_wait_for_ready = true;
        assert_eq!(ready_timeout(&conf), Duration::from_secs(7));
        conf.daemon_ready_timeout_seconds = None;
        conf.daemon_notify_timeout_seconds = None;
        assert_eq!(ready_timeout(&conf), LIMITS.daemon_ready);
        assert_eq!(notify_timeout(&conf), LIMITS.daemon_notify);
    }

    #[test]
    fn the_starting_process_learns_how_it_went() {
        let told = |message: &[u8]| {
            let (parent, mut daemon) = UnixStream::pair().unwrap();
            daemon.write_all(message).unwrap();
            drop(daemon);
            wait(parent, LONG)
        };
        assert_eq!(told(&[0]), Ok(()));
        assert_eq!(told(b"no port"), Err("no port".to_owned()));
        assert!(told(b"").unwrap_err().contains("ended before"));
        let (parent, _daemon) = UnixStream::pair().unwrap();
        let late = wait(parent, Duration::from_millis(1)).unwrap_err();
        assert!(late.contains("not ready after 1ms"), "{late}");
    }

    #[test]
    fn what_a_daemon_lacks_is_named() {
        let dir = tempdir("setup");
        let good = || ServerConf {
            pid_file: format!("{}/pid", dir.display()),
            ..Default::default()
        };
        assert!(Setup::check(&good()).is_ok());
        let refused = |conf: ServerConf| Setup::check(&conf).err().unwrap();
        let conf = ServerConf {
            pid_file: "/nonexistent/pid".into(),
            ..good()
        };
        let text = PidFile::of(&conf, false).err().unwrap();
        assert!(
            text.starts_with("cannot write the pid file /nonexistent/pid:"),
            "{text}"
        );
        let text = refused(ServerConf {
            user: Some("no-such-user".into()),
            ..good()
        });
        assert_eq!(text, "there is no user no-such-user");
        let text = refused(ServerConf {
            group: Some("no-such-group".into()),
            ..good()
        });
        assert_eq!(text, "there is no group no-such-group");
        let text = refused(ServerConf {
            error_log: Some("/nonexistent/log".into()),
            ..good()
        });
        assert!(
            text.starts_with("cannot open the error log /nonexistent/log:"),
            "{text}"
        );
        let text = refused(ServerConf {
            working_directory: Some("/nonexistent".into()),
            ..good()
        });
        assert_eq!(
            text,
            "the working directory /nonexistent is not a directory"
        );
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_pid_file_is_no_link() {
        let dir = tempdir("link");
        std::fs::write(dir.join("victim"), "x").unwrap();
        std::os::unix::fs::symlink(dir.join("victim"), dir.join("soft")).unwrap();
        std::fs::hard_link(dir.join("victim"), dir.join("hard")).unwrap();
        assert!(PidFile::open(&dir.join("soft"), false).is_err());
        assert!(PidFile::open(&dir.join("hard"), false).is_err());
        assert!(PidFile::open(&dir, false).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_pid_file_is_its_processs_until_that_ends() {
        let dir = tempdir("taken");
        let path = dir.join("pid");
        let open = |upgrade| PidFile::open(&path, upgrade);
        let first = open(false).unwrap();
        writeln!(&first.file, "12345").unwrap();
        let e = open(false).err().unwrap().to_string();
        assert!(e.contains("process 12345 runs"), "{e}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "12345\n");
        // The new one of an upgrade keeps its name when the old one ends.
        let second = open(true).unwrap();
        drop(first);
        assert!(open(false).is_err());
        drop(second);
        assert!(open(false).is_ok());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_pid_file_that_a_failed_upgrade_took_is_taken_back() {
        let dir = tempdir("back");
        let path = dir.join("pid");
        let mut old = PidFile::open(&path, false).unwrap();
        old.write().unwrap();
        let take = || {
            let new = PidFile::open(&path, true).unwrap();
            writeln!(&new.file, "12345").unwrap();
            new
        };
        let own = format!("{}\n", std::process::id());
        for ended in [false, true] {
            let new = Some(take());
            // It removes its file when it ends by itself.
            let new = new.filter(|_| !ended);
            if ended {
                std::fs::remove_file(&path).unwrap();
            }
            old.restore().unwrap();
            drop(new);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), own);
            let e = PidFile::open(&path, false).err().unwrap().to_string();
            assert!(e.contains("it is the file of that one"), "{e}");
        }
        // Both have the file where nobody may remove it.
        std::fs::write(&path, "12345678901\n").unwrap();
        old.restore().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), own);
        assert!(PidFile::open(&path, false).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }

    fn tempdir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("daemon-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }
}
