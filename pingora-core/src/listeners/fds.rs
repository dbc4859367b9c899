//! Listening sockets by bind string, as they travel from an old process to a new one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use parking_lot::Mutex;

use super::accept::{steer, Steer};

/// The listening sockets of the process, shared by its services.
pub type ListenFds = Arc<Mutex<Fds>>;

/// Begins the name under which a file travels that belongs to the sockets of the bind string that follows. No
/// bind string has a NUL in it.
const TRAVELLER: &str = "\0with:";
/// Begins the name of a further duplicate of each socket that somebody keeps who is no old process.
const KEPT: &str = "\0kept:";

/// The listening sockets of a process, each under the bind string that its listener was added
/// with, such as `0.0.0.0:8080` or the path of a Unix socket.
///
/// Descriptors in the table are borrowed, from the listeners that own them or from who [added](Fds::add) them,
/// except for inherited ones that no listener has claimed.
#[derive(Debug, Default)]
pub struct Fds {
    /// The sockets of each address; of several, the first is the one that listened first.
    by_bind: BTreeMap<String, Vec<RawFd>>,
    /// Files that go where the sockets go, by bind string.
    travellers: BTreeMap<String, RawFd>,
    /// The sockets that a new process has too.
    handed_on: HashSet<RawFd>,
    /// Bind strings whose sockets a listener owns.
    owned: HashSet<String>,
    /// Bind strings whose sockets were lent within this process: who claims them gets duplicates.
    lent: HashSet<String>,
    /// The number of the first sockets of a bind string that came from somebody who keeps them, such as a service manager:
    /// connections that wait there are for the next process.
    kept: HashMap<String, usize>,
    /// The old process, which gave the sockets to this one.
    giver: Option<Pid>,
    upgrade: bool,
    /// Held by who hands the sockets to a new process, and by who opens and closes some while services run.
    gate: Arc<tokio::sync::Mutex<()>>,
}

impl Fds {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters a socket; one that was there under the same bind string is forgotten.
    ///
    /// The descriptor stays the caller's, who keeps it open while it is in the table and closes it: a listener
    /// with this bind string listens on a duplicate of it. To give a descriptor away, [`Fds::deserialize`] it. Connections
    /// that wait there when that listener ends stay, for whoever accepts them next.
    pub fn add(&mut self, bind: String, fd: RawFd) {
        self.owned.remove(&bind);
        self.lent.insert(bind.clone());
        self.kept.insert(bind.clone(), 1);
        self.by_bind.insert(bind, vec![fd]);
    }

    /// The socket that was entered under this bind string.
    pub fn get(&self, bind: &str) -> Option<&RawFd> {
        self.by_bind.get(bind)?.first()
    }

    /// Returns whether the table has no sockets.
    pub fn is_empty(&self) -> bool {
        self.by_bind.is_empty()
    }

    /// Bind strings and sockets, in the same order. Of several sockets that share an address it is the first.
    pub fn serialize(&self) -> (Vec<String>, Vec<RawFd>) {
        self.firsts().unzip()
    }

    /// Enters sockets under the bind strings in the same places; the sockets of a bind string that comes several
    /// times share an address.
    ///
    /// The descriptors are the table's from then on: they belong to nobody else, and who claims a bind string
    /// closes them. The sockets behind them are taken for those of somebody who keeps descriptors of his own, as a service
    /// manager does: connections that wait when the listener ends are left to the next process.
    pub fn deserialize(&mut self, binds: Vec<String>, fds: Vec<RawFd>) {
        for bind in self.enter(binds, fds) {
            let sockets = self.by_bind.get(&bind).map_or(0, Vec::len);
            self.kept.insert(bind, sockets);
        }
    }

    /// As [`Fds::deserialize`], for the sockets of an old process, which is about to end.
    pub(crate) fn enter_inherited(&mut self, binds: Vec<String>, fds: Vec<RawFd>, giver: Pid) {
        self.kept.retain(|bind, _| !binds.contains(bind));
        self.giver = Some(giver);
        self.enter(binds, fds);
    }

    /// Returns the bind strings of the sockets.
    fn enter(&mut self, binds: Vec<String>, fds: Vec<RawFd>) -> Vec<String> {
        let mut by_bind: BTreeMap<String, Vec<RawFd>> = BTreeMap::new();
        for (name, fd) in binds.into_iter().zip(fds) {
            if let Some(bind) = name.strip_prefix(TRAVELLER) {
                self.travellers.insert(bind.to_owned(), fd);
            } else if let Some(bind) = name.strip_prefix(KEPT) {
                *self.kept.entry(bind.to_owned()).or_default() += 1;
                close(bind, fd);
            } else {
                by_bind.entry(name).or_default().push(fd);
            }
        }
        self.lent.retain(|bind| !by_bind.contains_key(bind));
        let binds = by_bind.keys().cloned().collect();
        self.by_bind.extend(by_bind);
        binds
    }

    pub(crate) fn firsts(&self) -> impl Iterator<Item = (String, RawFd)> + '_ {
        let first = |(bind, fds): (&String, &Vec<RawFd>)| Some((bind.clone(), *fds.first()?));
        self.by_bind.iter().filter_map(first)
    }

    /// Returns what a process of the original implementation knows nothing of: further sockets, the files, and which
    /// sockets are kept.
    pub(crate) fn others(&self) -> impl Iterator<Item = (String, RawFd)> + '_ {
        let sockets = self.by_bind.iter().flat_map(|(bind, fds)| {
            let further = fds.iter().skip(1);
            further.map(move |fd| (bind.clone(), *fd))
        });
        let files = self.travellers.iter();
        let files = files.map(|(bind, fd)| (format!("{TRAVELLER}{bind}"), *fd));
        // What was lent ends with this process.
        let kept = self
            .by_bind
            .iter()
            .filter(|(bind, _)| !self.lent.contains(*bind));
        let kept = kept.flat_map(|(bind, fds)| {
            let kept = fds.iter().take(self.kept(bind));
            kept.map(move |fd| (format!("{KEPT}{bind}"), *fd))
        });
        sockets.chain(files).chain(kept)
    }

    /// Takes over all that another table has.
    pub(crate) fn adopt(&mut self, other: Fds) {
        self.lent.retain(|bind| !other.by_bind.contains_key(bind));
        self.lent.extend(other.lent);
        self.kept
            .retain(|bind, _| !other.by_bind.contains_key(bind));
        self.kept.extend(other.kept);
        self.giver = other.giver.or(self.giver);
        self.by_bind.extend(other.by_bind);
        self.travellers.extend(other.travellers);
    }

    /// Closes and forgets the sockets whose bind strings are not in `keep` and that no listener
    /// owns; returns those strings. Those that were [added](Fds::add) are forgotten only.
    ///
    /// Left open, such a socket would go on queueing connections that nobody accepts. The process that handed it over
    /// sees that it was given up, and serves what waits there as it does with a socket of its own.
    pub fn close_unclaimed(&mut self, keep: &HashSet<String>) -> Vec<String> {
        let mut closed = Vec::new();
        let kept = |bind: &String| keep.contains(bind) || self.owned.contains(bind);
        self.by_bind.retain(|bind, fds| {
            let kept = kept(bind);
            if !kept {
                if !self.lent.remove(bind) {
                    fds.iter().for_each(|fd| {
                        mark(fd, true);
                        close(bind, *fd);
                    });
                }
                closed.push(bind.clone());
            }
            kept
        });
        self.travellers.retain(|bind, fd| {
            let kept = kept(bind);
            if !kept {
                close(bind, *fd);
            }
            kept
        });
        closed
    }

    #[cfg(test)]
    pub(crate) fn sockets(&self, bind: &str) -> &[RawFd] {
        self.by_bind.get(bind).map_or(&[], |fds| &fds[..])
    }

    #[cfg(test)]
    pub(crate) fn travellers(&self) -> usize {
        self.travellers.len()
    }

    /// Takes the mark off a socket by which an earlier new process has given it up.
    pub(crate) fn clear_given_up(&self) {
        for fd in self.by_bind.values().flatten().filter(|fd| **fd >= 0) {
            mark(fd, false);
        }
    }

    /// The number of the first sockets of a bind string that somebody keeps who is no old process.
    pub(crate) fn kept(&self, bind: &str) -> usize {
        self.kept.get(bind).copied().unwrap_or(0)
    }

    /// Returns whether the process that gave the sockets to this one runs, as far as can be told: it may serve on.
    pub(crate) fn is_giver_there(&self) -> bool {
        let Some(giver) = self.giver else {
            return false;
        };
        giver != Pid::this() && kill(giver, None) != Err(nix::Error::ESRCH)
    }

    #[cfg(test)]
    pub(crate) fn set_giver(&mut self, giver: Pid) {
        self.giver = Some(giver);
    }

    /// Notes what the new process has. Where that is one of several sockets that share an address, it gets all new
    /// connections.
    pub(crate) fn set_handed_on(&mut self, mut taken: HashSet<RawFd>) {
        // A listener that has failed meanwhile has closed its sockets.
        let there: HashSet<RawFd> = self.by_bind.values().flatten().copied().collect();
        taken.retain(|fd| there.contains(fd) || self.travellers.values().any(|file| file == fd));
        for (bind, fds) in &self.by_bind {
            match fds[..] {
                [first, next, ..] if taken.contains(&first) && !taken.contains(&next) => {
                    if let Err(e) = steer(socket(&first), Steer::First) {
                        log::warn!("{bind}: connections may be lost to sockets that close: {e}");
                    }
                }
                _ => {}
            }
        }
        self.handed_on = taken;
    }

    /// Gives inherited sockets to the listener that owns them from now on; none when there is no
    /// such socket, or another listener has it. Of those that are somebody else's it gets duplicates.
    ///
    /// # Errors
    /// The system's error, when they cannot be duplicated.
    #[allow(unsafe_code)] // The table has numbers.
    pub(crate) fn claim(&mut self, bind: &str) -> std::io::Result<Vec<OwnedFd>> {
        let Some(fds) = self.by_bind.get_mut(bind) else {
            return Ok(Vec::new());
        };
        if fds.is_empty() || self.owned.contains(bind) {
            return Ok(Vec::new());
        }
        let claimed = if self.lent.contains(bind) {
            let own = fds.iter().map(duplicate).collect::<Result<Vec<_>, _>>()?;
            *fds = own.iter().map(AsRawFd::as_raw_fd).collect();
            own
        } else {
            // SAFETY: inherited ones belong to the table, which gives each of them away once.
            let own = |fd: &RawFd| unsafe { OwnedFd::from_raw_fd(*fd) };
            fds.iter().map(own).collect()
        };
        self.owned.insert(bind.to_owned());
        Ok(claimed)
    }

    /// Gives the inherited file that goes with sockets to the listener that owns the first one. None to another listener
    /// that was added with the same bind string, as port 0 may be: the file in the table may be the first one's own.
    #[allow(unsafe_code)] // As above.
    pub(crate) fn claim_traveller(&mut self, bind: &str, first: RawFd) -> Option<OwnedFd> {
        if self.get(bind) != Some(&first) {
            return None;
        }
        let fd = self.travellers.remove(bind)?;
        // SAFETY: it was inherited, and is in the table no more.
        Some(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Enters a socket that its listener owns. Of several under one bind string, the first is the
    /// one that is handed on.
    pub(crate) fn add_owned(&mut self, bind: &str, fd: RawFd) {
        if self.owned.insert(bind.to_owned()) {
            self.lent.remove(bind);
            self.kept.remove(bind);
            self.by_bind.insert(bind.to_owned(), vec![fd]);
        }
    }

    /// Enters a further socket of the listener that owns the first one.
    pub(crate) fn add_more(&mut self, bind: &str, first: RawFd, fd: RawFd) {
        match self.by_bind.get_mut(bind) {
            Some(fds) if fds.first() == Some(&first) => fds.push(fd),
            _ => {}
        }
    }

    /// Enters a file that goes where the sockets go, of the listener that owns the first one.
    pub(crate) fn add_traveller(&mut self, bind: &str, first: RawFd, fd: RawFd) {
        if self.get(bind) == Some(&first) {
            self.travellers.insert(bind.to_owned(), fd);
        }
    }

    /// Returns whether a new process has this socket too, and has not given it up.
    pub(crate) fn was_handed_on(&self, fd: RawFd) -> bool {
        self.handed_on.contains(&fd) && !is_given_up(&fd)
    }

    /// Forgets the sockets of a listener that is about to close them, by the first.
    pub(crate) fn remove(&mut self, bind: &str, first: RawFd) {
        if self.get(bind) == Some(&first) {
            for fd in self.by_bind.remove(bind).unwrap_or_default() {
                self.handed_on.remove(&fd);
            }
            self.travellers.remove(bind);
            self.owned.remove(bind);
            self.lent.remove(bind);
            self.kept.remove(bind);
        }
    }

    /// Returns what keeps the sockets from being handed on and from being changed at the same time.
    pub(crate) fn gate(&self) -> Arc<tokio::sync::Mutex<()>> {
        self.gate.clone()
    }

    /// Notes that an old process may still hold the addresses that this one wants.
    pub(crate) fn set_upgrade(&mut self) {
        self.upgrade = true;
    }

    /// Returns whether an old process may still hold the addresses that this one wants.
    pub(crate) fn is_upgrade(&self) -> bool {
        self.upgrade
    }
}

/// A socket of the table.
#[allow(unsafe_code)] // The table has numbers.
fn socket(fd: &RawFd) -> BorrowedFd<'_> {
    // SAFETY: a listener takes its sockets out of the table before it closes them, and so does who adds them.
    unsafe { BorrowedFd::borrow_raw(*fd) }
}

fn close(bind: &str, fd: RawFd) {
    if let Err(e) = nix::unistd::close(fd) {
        log::warn!("cannot close what was inherited for {bind}: {e}");
    }
}

/// A descriptor of one's own for a socket or a file of the table.
pub(crate) fn duplicate(fd: &RawFd) -> std::io::Result<OwnedFd> {
    if *fd < 0 {
        return Err(nix::Error::EBADF.into());
    }
    socket(fd).try_clone_to_owned()
}

/// Tells the process that handed a socket over whether it was given up, by a flag of what both of their descriptors stand
/// for. It means nothing to a socket: what is written to one goes to its end anyway. All processes that have the socket
/// see it, and so will those that get it later: before a socket is handed on it is taken off.
fn mark(fd: &RawFd, given_up: bool) {
    let set = |flags: i32| {
        let mut flags = OFlag::from_bits_retain(flags);
        flags.set(GIVEN_UP, given_up);
        fcntl(socket(fd), FcntlArg::F_SETFL(flags))
    };
    if let Err(e) = fcntl(socket(fd), FcntlArg::F_GETFL).and_then(set) {
        log::debug!("whether a socket is wanted cannot be told to the other process: {e}");
    }
}

fn is_given_up(fd: &RawFd) -> bool {
    let flags = fcntl(socket(fd), FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
    flags.is_ok_and(|flags| flags.contains(GIVEN_UP))
}

const GIVEN_UP: OFlag = OFlag::O_APPEND;
