//! Words for systemd (`sd_notify(3)`): datagrams of `NAME=VALUE` lines. Without `NOTIFY_SOCKET` nobody is told anything.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use nix::time::{clock_gettime, ClockId};

/// The time between two looks at nothing, where there is no watchdog.
const NEVER: Duration = Duration::from_secs(3600);
/// The most that waits for room.
const MOST: usize = 64;
/// The longest time that the end of the process waits for room.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// The time between two looks whether there was some.
const LOOK: Duration = Duration::from_millis(10);

/// The service manager, where there is one.
pub(crate) struct Notifier {
    manager: Option<Arc<Manager>>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Finds the service manager by what it has put into the environment.
    pub(crate) fn from_environment() -> Self {
        // That of another process: the one whose place this one has taken, for one, whose it is now.
        let own =
            env::var("WATCHDOG_PID").map_or(true, |pid| pid.parse() == Ok(std::process::id()));
        let micros = env::var("WATCHDOG_USEC").ok();
        let micros = micros.and_then(|micros| micros.parse().ok());
        let watchdog = micros.filter(|micros| own && *micros > 0);
        Self::new(
            env::var_os("NOTIFY_SOCKET").as_deref(),
            watchdog.map(|micros| Duration::from_micros(micros) / 2),
        )
    }

    fn new(socket: Option<&OsStr>, watchdog: Option<Duration>) -> Self {
        let manager = socket.and_then(|name| {
            let refused =
                |e: io::Error| log::warn!("the service manager is not told: NOTIFY_SOCKET: {e}");
            Manager::at(name).map_err(refused).ok()
        });
        Self {
            manager: manager.map(Arc::new),
            watchdog,
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

    /// The process lives. It is not said again when it finds no room: the next time comes.
    pub(super) fn alive(&self) {
        if let (Some(_), Some(manager)) = (self.watchdog, &self.manager) {
            manager.try_send("WATCHDOG=1\n");
        }
    }

    /// Waits until the manager has taken what it was told, but not for long: a process ends, whoever listens.
    pub(super) async fn taken(&self) {
        let Some(manager) = &self.manager else {
            return;
        };
        let end = Instant::now() + LAST_WAIT;
        while !manager.waiting().is_empty() && Instant::now() < end {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn send(&self, lines: &str) {
        if let Some(manager) = &self.manager {
            manager.send(lines);
        }
    }
}

/// The way to the manager. Its socket takes few datagrams until they are read.
struct Manager {
    /// It does not block: a manager that does not read must not hold the process up.
    socket: UnixDatagram,
    address: SocketAddr,
    /// The datagrams that were not taken yet, the oldest first. While there is some, a thread waits for room.
    waiting: Mutex<VecDeque<String>>,
}

impl Manager {
    fn at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => abstract_name(name)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            address,
            waiting: Mutex::default(),
        })
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends lines in their order, now or when there is room.
    fn send(self: &Arc<Self>, lines: &str) {
        let mut waiting = self.waiting();
        if waiting.is_empty() && self.send_now(lines) {
            return;
        }
        waiting.push_back(lines.to_owned());
        if waiting.len() > 1 {
            if waiting.len() > MOST {
                // The first one is on its way. The newest tell the state.
                waiting.remove(1);
            }
            return;
        }
        let this = self.clone();
        let thread = Builder::new().name("notify".to_owned());
        if let Err(e) = thread.spawn(move || this.send_waiting()) {
            log::warn!("the service manager is not told: {e}");
            waiting.clear();
        }
    }

    /// Sends lines unless there is no room.
    fn try_send(&self, lines: &str) {
        if self.waiting().is_empty() {
            self.send_now(lines);
        }
    }

    /// Returns whether it is sent, or nobody is there to take it.
    fn send_now(&self, lines: &str) -> bool {
        match self.socket.send_to_addr(lines.as_bytes(), &self.address) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
            Err(e) => log::warn!("the service manager is not told: {e}"),
            Ok(_) => {}
        }
        true
    }

    /// Sends what waits, as there is room for it. It blocks.
    fn send_waiting(&self) {
        let blocking = UnixDatagram::unbound();
        loop {
            let Some(lines) = self.waiting().front().cloned() else {
                return;
            };
            let sent = match &blocking {
                Ok(socket) => socket
                    .send_to_addr(lines.as_bytes(), &self.address)
                    .map_err(|e| e.kind()),
                Err(e) => Err(e.kind()),
            };
            match sent {
                Err(io::ErrorKind::Interrupted) => continue,
                Err(e) => log::warn!("the service manager is not told: {e}"),
                Ok(_) => {}
            }
            let mut waiting = self.waiting();
            waiting.pop_front();
            // Under the lock: who adds one to none begins another thread.
            if waiting.is_empty() {
                return;
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager that has no room.
    fn full() -> (tempfile::TempDir, UnixDatagram, Notifier) {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let filler = UnixDatagram::unbound().unwrap();
        filler.set_nonblocking(true).unwrap();
        while filler.send_to(b"other", &path).is_ok() {}
        let watchdog = Some(Duration::from_secs(1));
        let notifier = Notifier::new(Some(path.as_os_str()), watchdog);
        (dir, manager, notifier)
    }

    /// Reads until a line is there, and returns what was no filler.
    fn read_until(manager: &UnixDatagram, wanted: &str) -> Vec<String> {
        let mut all = Vec::new();
        let mut bytes = [0; 1024];
        loop {
            let n = manager.recv(&mut bytes).unwrap();
            let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
            let first = text.lines().next().unwrap().to_owned();
            if first != "other" {
                all.push(first.clone());
            }
            if first == wanted {
                return all;
            }
        }
    }

    #[test]
    fn what_finds_no_room_is_told_later_in_its_order_but_for_the_watchdog() {
        let (_dir, manager, notifier) = full();
        notifier.ready();
        notifier.alive();
        notifier.reloading();
        notifier.ready_again(false);
        notifier.stopping();
        let told = read_until(&manager, "STOPPING=1");
        assert_eq!(told, ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]);
        let waiting = || notifier.manager.as_ref().unwrap().waiting().len();
        while waiting() > 0 {
            std::thread::yield_now();
        }
        notifier.alive();
        assert_eq!(read_until(&manager, "WATCHDOG=1"), ["WATCHDOG=1"]);
    }

    #[test]
    fn a_manager_that_never_reads_takes_no_memory_without_end() {
        let (_dir, manager, notifier) = full();
        for _ in 0..4 * MOST {
            notifier.ready_again(false);
        }
        notifier.stopping();
        let waiting = notifier.manager.as_ref().unwrap().waiting().len();
        assert_eq!(waiting, MOST);
        assert_eq!(read_until(&manager, "STOPPING=1").len(), MOST);
    }

    #[tokio::test]
    async fn the_end_waits_for_a_manager_that_reads() {
        let (_dir, manager, notifier) = full();
        notifier.stopping();
        let reads = std::thread::spawn(move || read_until(&manager, "STOPPING=1"));
        notifier.taken().await;
        assert_eq!(notifier.manager.as_ref().unwrap().waiting().len(), 0);
        assert_eq!(reads.join().unwrap(), ["STOPPING=1"]);
    }
}
