//! Listening sockets by bind string, and their way from an old process to a new one.

mod meeting;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::os::fd::RawFd;

use nix::NixPath;

pub(crate) use meeting::{Patience, Trust};

/// The listening sockets of a process, each under the bind string that its listener was added
/// with, such as `0.0.0.0:8080` or the path of a Unix socket.
///
/// Descriptors in the table are borrowed from the listeners that own them, except for inherited
/// ones that no listener has claimed.
#[derive(Debug, Default)]
pub struct Fds {
    by_bind: BTreeMap<String, RawFd>,
    /// Bind strings whose sockets a listener owns.
    owned: HashSet<String>,
    upgrade: bool,
}

impl Fds {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters a socket; one that was there under the same bind string is forgotten.
    pub fn add(&mut self, bind: String, fd: RawFd) {
        self.by_bind.insert(bind, fd);
    }

    /// The socket that was entered under this bind string.
    pub fn get(&self, bind: &str) -> Option<&RawFd> {
        self.by_bind.get(bind)
    }

    /// Whether the table has no sockets.
    pub fn is_empty(&self) -> bool {
        self.by_bind.is_empty()
    }

    /// Bind strings and sockets, in the same order.
    pub fn serialize(&self) -> (Vec<String>, Vec<RawFd>) {
        self.by_bind.iter().map(|(b, fd)| (b.clone(), *fd)).unzip()
    }

    /// Enters sockets under the bind strings in the same places.
    pub fn deserialize(&mut self, binds: Vec<String>, fds: Vec<RawFd>) {
        self.by_bind.extend(binds.into_iter().zip(fds));
    }

    /// Closes and forgets the sockets whose bind strings are not in `keep` and that no listener
    /// owns; returns those strings.
    ///
    /// Left open, such a socket would go on queueing connections that nobody accepts.
    pub fn close_unclaimed(&mut self, keep: &HashSet<String>) -> Vec<String> {
        let mut closed = Vec::new();
        self.by_bind.retain(|bind, fd| {
            let kept = keep.contains(bind) || self.owned.contains(bind);
            if !kept {
                if let Err(e) = nix::unistd::close(*fd) {
                    log::warn!("cannot close the inherited socket of {bind}: {e}");
                }
                closed.push(bind.clone());
            }
            kept
        });
        closed
    }

    /// Waits at `path` for the running process and takes over its sockets.
    ///
    /// Blocks for up to about 10 s. Only a process of the same user or of root is believed.
    ///
    /// # Errors
    /// `EAGAIN` when no process came in time, `ENOTSOCK` or `ELOOP` when something else than a
    /// socket is at `path`, or what the system says.
    pub fn get_from_sock<P>(&mut self, path: &P) -> Result<(), nix::Error>
    where
        P: ?Sized + NixPath + Display,
    {
        self.receive(path, &Patience::default(), &Trust::default())
    }

    /// Hands these sockets to the process that waits at `path`; returns the bytes of bind strings
    /// that were sent.
    ///
    /// Blocks for up to about 10 s. They are handed only to a process of the same user or of root.
    ///
    /// A bind string with a space in it cannot be passed on and is left out, with a warning. More
    /// than 32 sockets go in several messages, of which a process of the original implementation
    /// reads the first one only.
    ///
    /// # Errors
    /// `ENOENT` or `ECONNREFUSED` when no process waits there, `EPERM` when it is another user's,
    /// or what the system says.
    pub fn send_to_sock<P>(&self, path: &P) -> Result<usize, nix::Error>
    where
        P: ?Sized + NixPath + Display,
    {
        self.send(path, &Patience::default(), &Trust::default())
    }

    pub(crate) fn receive<P>(
        &mut self,
        path: &P,
        patience: &Patience,
        trust: &Trust,
    ) -> Result<(), nix::Error>
    where
        P: ?Sized + NixPath + Display,
    {
        let (binds, fds) = meeting::receive(&meeting::to_path(path)?, patience, trust)?;
        self.deserialize(binds, fds);
        Ok(())
    }

    pub(crate) fn send<P>(
        &self,
        path: &P,
        patience: &Patience,
        trust: &Trust,
    ) -> Result<usize, nix::Error>
    where
        P: ?Sized + NixPath + Display,
    {
        let (binds, fds) = self.serialize();
        meeting::send(&meeting::to_path(path)?, patience, trust, &binds, &fds)
    }

    /// Gives an inherited socket to the listener that owns it from now on; none when there is no
    /// such socket, or another listener has it.
    pub(crate) fn claim(&mut self, bind: &str) -> Option<RawFd> {
        let fd = *self.by_bind.get(bind)?;
        self.owned.insert(bind.to_owned()).then_some(fd)
    }

    /// Enters a socket that its listener owns. Of several under one bind string, the first is the
    /// one that is handed on.
    pub(crate) fn add_owned(&mut self, bind: &str, fd: RawFd) {
        if self.owned.insert(bind.to_owned()) {
            self.by_bind.insert(bind.to_owned(), fd);
        }
    }

    /// Forgets a socket that its listener is about to close.
    pub(crate) fn remove(&mut self, bind: &str, fd: RawFd) {
        if self.by_bind.get(bind) == Some(&fd) {
            self.by_bind.remove(bind);
            self.owned.remove(bind);
        }
    }

    /// Notes that an old process may still hold the addresses that this one wants.
    pub(crate) fn set_upgrade(&mut self) {
        self.upgrade = true;
    }

    /// Whether an old process may still hold the addresses that this one wants.
    pub(crate) fn is_upgrade(&self) -> bool {
        self.upgrade
    }
}
