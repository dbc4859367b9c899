//! The way of listening sockets from an old process to a new one.

#[cfg(test)]
mod tests;
mod upgrade_socket;
pub mod wire;

use std::collections::HashMap;
use std::fmt::Display;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::NixPath;

use crate::listeners::fds::{duplicate, Fds, ListenFds};
use wire::Message;

pub(crate) use upgrade_socket::{Patience, Trust};
pub(crate) use wire::Sent;

impl Fds {
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
    /// `ENOENT` or `ECONNREFUSED` when no process waits there, or when it refuses them, `EPERM` when it is another
    /// user's, `ETIMEDOUT` when it does not read them, `EINVAL` when none of them can be passed on, or what the system says.
    pub fn send_to_sock<P>(&self, path: &P) -> Result<usize, nix::Error>
    where
        P: ?Sized + NixPath + Display,
    {
        let sent = self.send(path, &Patience::default(), &Trust::default())?;
        Ok(sent.bytes)
    }

    /// As [`Fds::send_to_sock`], for a process that is about to end: notes what the new process has, and where that
    /// is one of several sockets that share an address, it gets all new connections.
    ///
    /// The table is not locked while the new process is waited for.
    pub(crate) fn hand_on<P>(
        fds: &ListenFds,
        path: &P,
        patience: &Patience,
        trust: &Trust,
    ) -> Result<(), nix::Error>
    where
        P: ?Sized + NixPath + Display,
    {
        let parcel = fds.lock().parcel()?;
        let taken = parcel.send(path, patience, trust)?.taken;
        fds.lock().set_handed_on(taken);
        Ok(())
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
        let path = upgrade_socket::to_path(path)?;
        let (binds, fds, giver) = upgrade_socket::receive(&path, patience, trust)?;
        self.enter_inherited(binds, fds, giver);
        Ok(())
    }

    pub(crate) fn send<P>(
        &self,
        path: &P,
        patience: &Patience,
        trust: &Trust,
    ) -> Result<Sent, nix::Error>
    where
        P: ?Sized + NixPath + Display,
    {
        self.parcel()?.send(path, patience, trust)
    }

    fn parcel(&self) -> Result<Parcel, nix::Error> {
        self.clear_given_up();
        let mut parcel = Parcel::default();
        parcel.pack(self.firsts())?;
        parcel.bytes = parcel.messages.iter().map(|(names, _)| names.len()).sum();
        parcel.pack(self.others())?;
        Ok(parcel)
    }

    /// Waits at `path` as the original implementation does: it reads one message.
    #[cfg(test)]
    pub(crate) fn receive_as_original(&mut self, path: &str) {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let (binds, fds) = wire::receive_one(&stream).unwrap().unwrap();
        self.enter_inherited(binds, fds, nix::unistd::Pid::this());
    }
}

/// Sockets on their way to a new process: duplicates, which stay open whatever becomes of those in the table.
#[derive(Default)]
struct Parcel {
    messages: Vec<Message>,
    /// Bytes of the bind strings, without those of what the original implementation knows nothing of.
    bytes: usize,
    /// The duplicates, and what each of them is one of, by number.
    sockets: HashMap<RawFd, (OwnedFd, RawFd)>,
}

impl Parcel {
    fn pack(&mut self, named: impl Iterator<Item = (String, RawFd)>) -> Result<(), nix::Error> {
        let (mut binds, mut fds) = (Vec::new(), Vec::new());
        for (bind, of) in named {
            let own = duplicate(&of).map_err(upgrade_socket::errno)?;
            binds.push(bind);
            fds.push(own.as_raw_fd());
            self.sockets.insert(own.as_raw_fd(), (own, of));
        }
        self.messages.extend(wire::messages(binds, fds));
        Ok(())
    }

    /// # Errors
    /// As [`Fds::send_to_sock`].
    fn send<P>(&self, path: &P, patience: &Patience, trust: &Trust) -> Result<Sent, nix::Error>
    where
        P: ?Sized + NixPath + Display,
    {
        if self.messages.is_empty() && !self.sockets.is_empty() {
            return Err(nix::Error::EINVAL);
        }
        let path = upgrade_socket::to_path(path)?;
        let sent = upgrade_socket::send(&path, patience, trust, &self.messages)?;
        let in_table = |fd: &RawFd| self.sockets.get(fd).map(|(_, of)| *of);
        Ok(Sent {
            // These were the first.
            bytes: sent.bytes.min(self.bytes),
            taken: sent.taken.iter().filter_map(in_table).collect(),
        })
    }
}
