//! The way of listening sockets from an old process to a new one.

#[cfg(test)]
mod tests;
mod upgrade_socket;
pub mod wire;

use std::fmt::Display;

use nix::NixPath;

use crate::listeners::fds::Fds;

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
    /// user's, `ETIMEDOUT` when it does not read them, or what the system says.
    pub fn send_to_sock<P>(&self, path: &P) -> Result<usize, nix::Error>
    where
        P: ?Sized + NixPath + Display,
    {
        let sent = self.send(path, &Patience::default(), &Trust::default())?;
        Ok(sent.bytes)
    }

    /// As [`Fds::send_to_sock`], for a process that is about to end: notes what the new process has, and where that
    /// is one of several sockets that share an address, it gets all new connections.
    pub(crate) fn hand_on<P>(
        &mut self,
        path: &P,
        patience: &Patience,
        trust: &Trust,
    ) -> Result<(), nix::Error>
    where
        P: ?Sized + NixPath + Display,
    {
        let taken = self.send(path, patience, trust)?.taken;
        self.set_handed_on(taken);
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
        let (binds, fds) =
            upgrade_socket::receive(&upgrade_socket::to_path(path)?, patience, trust)?;
        self.deserialize(binds, fds);
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
        let (binds, fds) = self.firsts().unzip();
        let (more_binds, more_fds) = self.others().unzip();
        let mut messages = wire::messages(binds, fds);
        messages.extend(wire::messages(more_binds, more_fds));
        upgrade_socket::send(&upgrade_socket::to_path(path)?, patience, trust, &messages)
    }

    /// Waits at `path` as the original implementation does: it reads one message.
    #[cfg(test)]
    pub(crate) fn receive_as_original(&mut self, path: &str) {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let (binds, fds) = wire::receive_one(&stream).unwrap().unwrap();
        self.deserialize(binds, fds);
    }
}
