//! What systemd is told (`sd_notify(3)`): datagrams of `NAME=VALUE` lines. Without `NOTIFY_SOCKET` nobody is told anything.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{clock_gettime, ClockId};

/// The time between two looks at nothing, where there is no watchdog.
const NEVER: Duration = Duration::from_secs(3600);

/// The way to the service manager, where there is one.
pub(crate) struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Finds the service manager by what it has put into the environment.
    pub(crate) fn from_environment() -> Self {
        let socket = env::var_os("NOTIFY_SOCKET");
        let to = socket.and_then(|name| {
            let refused =
                |e: io::Error| log::warn!("the service manager is not told: NOTIFY_SOCKET: {e}");
            connect(&name).map_err(refused).ok()
        });
        // That of another process: the one whose place this one has taken, for one, whose it is now.
        let own =
            env::var("WATCHDOG_PID").map_or(true, |pid| pid.parse() == Ok(std::process::id()));
        let micros = env::var("WATCHDOG_USEC").ok();
        let micros = micros.and_then(|micros| micros.parse().ok());
        let watchdog = micros.filter(|micros| own && *micros > 0);
        Self {
            to,
            watchdog: watchdog.map(|micros| Duration::from_micros(micros) / 2),
        }
    }

    /// Returns how often the watchdog is to be told that the process lives.
    pub(super) fn watchdog(&self) -> Duration {
        let least = Duration::from_millis(1);
        self.watchdog.map_or(NEVER, |every| every.max(least))
    }

    /// The process serves: it is the service's main one from now on.
    pub(crate) fn ready(&self) {
        let pid = std::process::id();
        self.send(&format!("READY=1\nMAINPID={pid}\nSTATUS=Serving\n"));
    }

    /// The configuration is read again; [`Notifier::ready_again`] follows.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        let micros = now.as_micros();
        self.send(&format!(
            "RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=Reading the configuration\n"
        ));
    }

    /// The configuration was read, and is the one that is served unless it is `refused`.
    pub(crate) fn ready_again(&self, refused: bool) {
        let status = if refused {
            "Serving; the last configuration was refused, see the log"
        } else {
            "Serving"
        };
        self.send(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// The process finishes its requests and ends.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=Finishing requests\n");
    }

    /// The process lives.
    pub(super) fn alive(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1\n");
        }
    }

    fn send(&self, lines: &str) {
        if let Some((socket, to)) = &self.to {
            if let Err(e) = socket.send_to_addr(lines.as_bytes(), to) {
                log::warn!("the service manager is not told: {e}");
            }
        }
    }
}

fn connect(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let to = match name.as_bytes() {
        [b'@', name @ ..] => abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not hold the process up.
    socket.set_nonblocking(true)?;
    Ok((socket, to))
}

#[cfg(target_os = "linux")]
fn abstract_name(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_name(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}
