//! The new process of an upgrade, as the old one sees it.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use pingora_core::server::UpgradeCheck;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, Mutex};
use tokio::time::{sleep, timeout};

use super::parent::{GIVEN_UP, VARIABLE};

/// The time that the new process has to read its configuration, and to serve.
const START: Duration = Duration::from_secs(60);
/// The time for which both accept when the new process does not tell that it serves.
const OVERLAP: Duration = Duration::from_secs(5);
/// The time that the handing over of the sockets may take.
const HAND_OVER: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);
/// The reason for which there is none in a container: the kernel ends all processes of one with its first.
const FIRST: &str = "this process is the first one of its container, which would end with it; start a container of the new \
                     image in its place";

/// The new process of an upgrade.
pub(super) struct Successor {
    /// The socket at which it waits for the listening sockets.
    sockets: PathBuf,
    /// Held by an upgrade that is under way.
    one: Mutex<()>,
    pending: StdMutex<Option<Pending>>,
    taken_over: AtomicBool,
}

/// A new process that is to get the sockets.
struct Pending {
    lines: Told,
    outcome: oneshot::Sender<Served>,
}

/// The id of the process that serves; of a daemon, not that of the process that was started.
type Served = Result<String, String>;

/// Its words.
type Told = Lines<BufReader<UnixStream>>;

impl Successor {
    pub(super) fn new(sockets: PathBuf) -> Self {
        Self {
            sockets,
            one: Mutex::new(()),
            pending: StdMutex::default(),
            taken_over: AtomicBool::new(false),
        }
    }

    /// Returns whether a new process serves in the place of this one.
    pub(super) fn has_taken_over(&self) -> bool {
        self.taken_over.load(Ordering::Acquire)
    }

    /// Starts a new process with these arguments, or those of this one when there are none, and hands the listening
    /// sockets to it. Returns its id once it serves.
    ///
    /// # Errors
    ///
    /// The reason for which it does not. It is ended then.
    pub(super) async fn start(&self, binary: &OsStr, args: Vec<OsString>) -> Served {
        if std::process::id() == 1 {
            return Err(FIRST.to_owned());
        }
        let Ok(_one) = self.one.try_lock() else {
            return Err("another upgrade is under way".to_owned());
        };
        if self.has_taken_over() {
            return Err("a new process serves already".to_owned());
        }
        let args = if args.is_empty() {
            std::env::args_os().skip(1).collect()
        } else {
            args
        };
        // One that a killed process has left must not be taken for the new one's.
        let _ = std::fs::remove_file(&self.sockets);
        let (mut child, lines, mut words) = spawn(binary, &args)
            .map_err(|e| format!("cannot start {}: {e}", binary.to_string_lossy()))?;
        match self.hand_over(lines).await {
            Ok(pid) => Ok(pid),
            Err(why) => {
                // A daemon is not the process that was started. Either may have ended by itself.
                let _ = words.write_all(GIVEN_UP);
                let _ = child.kill();
                let ended = tokio::task::spawn_blocking(move || child.wait()).await;
                match ended {
                    Ok(Ok(status)) if status.code().is_some() => Err(format!("{why} ({status})")),
                    _ => Err(why),
                }
            }
        }
    }

    async fn hand_over(&self, mut lines: Told) -> Served {
        expect(&mut lines, "waiting").await?;
        let there = async {
            while !self.sockets.exists() {
                sleep(LOOK).await;
            }
        };
        let late = |_| "it does not wait for the listening sockets".to_owned();
        timeout(OVERLAP, there).await.map_err(late)?;
        let (outcome, mut told) = oneshot::channel();
        *self.pending() = Some(Pending { lines, outcome });
        let quit = kill(Pid::this(), Signal::SIGQUIT);
        quit.map_err(|e| format!("cannot begin the upgrade: {e}"))?;
        if let Ok(outcome) = timeout(HAND_OVER, &mut told).await {
            return outcome.unwrap_or_else(|_| Err("the upgrade was given up".to_owned()));
        }
        if self.pending().take().is_some() {
            return Err("the listening sockets were not handed over; the log says why".to_owned());
        }
        told.await
            .unwrap_or_else(|_| Err("the upgrade was given up".to_owned()))
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Option<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl UpgradeCheck for Successor {
    async fn serves(&self) -> Result<(), String> {
        let pending = self.pending().take();
        let Some(Pending { mut lines, outcome }) = pending else {
            // Somebody has started the new process by hand.
            sleep(OVERLAP).await;
            self.taken_over.store(true, Ordering::Release);
            return Ok(());
        };
        let served = expect(&mut lines, "ready ").await;
        if served.is_ok() {
            self.taken_over.store(true, Ordering::Release);
        }
        let _ = outcome.send(served.clone());
        served.map(drop)
    }
}

/// Waits for a line of the new process, and returns what follows the `wanted` words.
async fn expect(lines: &mut Told, wanted: &str) -> Served {
    match timeout(START, lines.next_line()).await {
        Ok(Ok(Some(line))) => {
            if let Some(rest) = line.strip_prefix(wanted) {
                return Ok(rest.to_owned());
            }
            let why = line.strip_prefix("failed ").unwrap_or(&line);
            Err(format!("the new process does not start: {why}"))
        }
        Ok(_) => Err("the new process ended before it served; its log says why".to_owned()),
        Err(_) => Err(format!(
            "the new process did not serve within {} s",
            START.as_secs()
        )),
    }
}

fn spawn(binary: &OsStr, args: &[OsString]) -> io::Result<(Child, Told, StdStream)> {
    let (own, its) = StdStream::pair()?;
    own.set_nonblocking(true)?;
    let mut command = Command::new(binary);
    command
        .args(args)
        .env(VARIABLE, "1")
        .stdin(Stdio::from(OwnedFd::from(its)));
    // They are about this process.
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    let child = command.spawn()?;
    // With it goes this process's copy of the other end: that ends with the new process.
    drop(command);
    let words = own.try_clone()?;
    let lines = BufReader::new(UnixStream::from_std(own)?).lines();
    Ok((child, lines, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_new_process_leaves_behind_is_told_that_it_is_given_up() {
        let dir = tempfile::TempDir::new().unwrap();
        let heard = dir.path().join("heard");
        // As a daemon, the one that hears it is not the one that was started.
        let script = "exec 3<&0; cat <&3 >\"$0\" & echo failed to start >&3";
        let args = ["-c".into(), script.into(), heard.clone().into()];
        let successor = Successor::new(dir.path().join("sockets"));
        let why = successor.start(OsStr::new("sh"), args.into()).await;
        assert!(why.unwrap_err().contains("to start"));
        let since = std::time::Instant::now();
        while std::fs::read(&heard).unwrap_or_default() != GIVEN_UP {
            assert!(since.elapsed() < Duration::from_secs(60));
            sleep(LOOK).await;
        }
    }
}
