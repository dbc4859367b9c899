//! The life of the process beside serving: what systemd is told, the sockets that it was started with, and its exchange by
//! a new binary.
//!
//! ```text
//! reverse-proxy upgrade ---> control socket of the old process
//!                              | starts the new binary, which reads the configuration and says "waiting"
//!                              | SIGQUIT to itself: hands its listening sockets over
//!                              | the new process serves and says "ready"; both have accepted until then
//!                              v
//!                            the old process finishes its requests and ends; on any failure it serves on,
//!                              and says "given up" to whatever the new one has left running
//! ```

mod activation;
mod command;
mod control;
pub(crate) mod early;
mod notify;
mod parent;
mod peer;
mod successor;

use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use pingora_core::server::{Server, ShutdownWatch};
use pingora_core::services::background::BackgroundService;
use tokio::time::MissedTickBehavior;

pub use command::upgrade;
use control::Control;
pub use early::hold as hold_signals;
pub(crate) use notify::Notifier;
pub use parent::{is_there as is_upgrade, tell_failure};
use successor::Successor;

/// The service that looks after the life of the process.
pub(crate) struct Lifecycle {
    control: PathBuf,
    notifier: Arc<Notifier>,
    successor: Arc<Successor>,
}

impl Lifecycle {
    /// Makes that of a process that is known by `identity`, such as its file, and hands its sockets over at `upgrade_sock`.
    pub(crate) fn new(upgrade_sock: &str, identity: &Path) -> Self {
        Self {
            control: control_path(identity),
            notifier: Arc::new(Notifier::from_environment()),
            successor: Arc::new(Successor::new(upgrade_sock.into())),
        }
    }

    /// Gives the server the sockets that the process was started with, and has it wait for a new process to serve. Returns
    /// those of `addresses` that need not be bound.
    pub(crate) fn prepare(&self, server: &mut Server, addresses: &[String]) -> Vec<String> {
        server.set_upgrade_check(self.successor.clone());
        let (binds, fds): (Vec<_>, Vec<_>) = activation::sockets(addresses).into_iter().unzip();
        let fds = fds.into_iter().map(IntoRawFd::into_raw_fd).collect();
        server.listen_fds().lock().deserialize(binds.clone(), fds);
        binds
    }

    /// Returns what tells whether a new process serves in the place of this one.
    pub(crate) fn taken_over(&self) -> Box<dyn Fn() -> bool + Send + Sync> {
        let successor = self.successor.clone();
        Box::new(move || successor.has_taken_over())
    }

    pub(crate) fn notifier(&self) -> Arc<Notifier> {
        self.notifier.clone()
    }
}

/// Tells the old process that this one is about to wait for its sockets.
pub(crate) fn waiting() {
    parent::tell("waiting");
}

/// Returns the name of the socket by which the process that runs a file is asked for an upgrade.
fn control_name(file: &Path) -> String {
    let whole = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    // FNV-1a: the same in every build.
    let bytes = whole.as_os_str().as_encoded_bytes().iter();
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("reverse-proxy-{hash:016x}.sock")
}

/// The folder of that socket, where the process has none of its own.
const FOLDER: &str = "/tmp";
/// The one that it has as a service, as others name it.
const SERVICE_FOLDER: &str = "/run/reverse-proxy";

/// Returns the folder that the service manager gives to this process. A service often has no other place to write to that
/// others see.
fn own_folder() -> Option<PathBuf> {
    std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from)
}

/// Returns where this process is asked.
fn control_path(file: &Path) -> PathBuf {
    let folder = own_folder().unwrap_or_else(|| FOLDER.into());
    folder.join(control_name(file))
}

/// Returns the folders in which a process may be asked. The one that everybody may write to is the last.
fn folders() -> Vec<PathBuf> {
    let service = [SERVICE_FOLDER, FOLDER].map(PathBuf::from);
    own_folder().into_iter().chain(service).collect()
}

#[async_trait]
impl BackgroundService for Lifecycle {
    /// Begins when the process serves.
    async fn start(&self, mut shutdown: ShutdownWatch) {
        if parent::has_given_up() {
            log::error!("the old process has waited for too long and serves on: this one ends");
            if let Err(e) = kill(Pid::this(), Signal::SIGTERM) {
                log::error!("it cannot end: {e}");
            }
            return;
        }
        let control = Control::bind(&self.control);
        if !*shutdown.borrow() {
            // Not before: a process that is ready may be asked for the next upgrade.
            parent::tell(&format!("ready {}", std::process::id()));
            self.notifier.ready();
        }
        let mut watchdog = tokio::time::interval(self.notifier.watchdog());
        watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*shutdown.borrow() {
            tokio::select! {
                // An error means that nobody is left to say so.
                changed = shutdown.changed() => if changed.is_err() { break },
                _ = watchdog.tick() => self.notifier.alive(),
                stream = control.accept() => {
                    tokio::spawn(control::serve(stream, self.successor.clone()));
                }
            }
        }
        if !self.successor.has_taken_over() {
            self.notifier.stopping();
            control.remove();
            self.notifier.taken().await;
        }
    }
}
