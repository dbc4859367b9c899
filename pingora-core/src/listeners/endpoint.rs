//! Endpoints that listen.

use std::sync::Arc;

use socket2::Socket;

#[cfg(test)]
use super::accept;
use super::accept::{AcceptStrategy, Limits, Settings, WorkerPool};
use super::config::{Common, ListenerConfig};
use super::entrance::Entrance;
use super::l4::{self, Listening, Manner, ServerAddress};
use crate::listeners::fds::ListenFds;

/// An endpoint that listens.
pub(crate) struct Endpoint {
    pub(super) listening: Listening,
    pub(super) strategy: AcceptStrategy,
    pub(super) limits: Limits,
    pub(crate) entrance: Arc<Entrance>,
}

impl Endpoint {
    /// Listens where a configuration says: on the sockets in `fds` where they are, on new ones elsewhere, which are then
    /// added there. Each worker gets a socket where the strategy says so.
    ///
    /// # Errors
    /// One line that names the endpoint and what is in the way.
    pub(super) async fn open(
        mut config: ListenerConfig,
        common: &Common,
        fds: Option<&ListenFds>,
        (pool, settings): (&Arc<WorkerPool>, &Settings),
        at_once: bool,
    ) -> Result<Self, String> {
        let entrance = config.entrance(common, (pool, settings), None)?;
        let strategy = config.strategy(common, settings);
        let mut listening = l4::listen(&config.address, config.manner(at_once), fds).await?;
        if strategy == AcceptStrategy::Reuseport {
            listening.share(&config.address, pool.len())?;
        }
        Ok(Endpoint {
            listening,
            strategy,
            limits: config.limits(common, pool.len(), None),
            entrance,
        })
    }
}

/// What an endpoint that listens is to become.
pub(super) struct Successor {
    address: ServerAddress,
    manner: Manner,
    strategy: AcceptStrategy,
    limits: Limits,
    entrance: Arc<Entrance>,
}

impl Successor {
    /// Finds out whether all that a configuration says can be done at the address of `listening`.
    ///
    /// # Errors
    /// One line that names the endpoint and what is in the way.
    pub(super) fn of(
        mut config: ListenerConfig,
        common: &Common,
        (pool, settings): (&Arc<WorkerPool>, &Settings),
        (socket, limits, entrance): (&Socket, &Limits, &Entrance),
    ) -> Result<Self, String> {
        l4::try_options(&config.address, socket)?;
        Ok(Successor {
            entrance: config.entrance(common, (pool, settings), Some(entrance))?,
            manner: config.manner(true),
            strategy: config.strategy(common, settings),
            limits: config.limits(common, pool.len(), Some(limits)),
            address: config.address,
        })
    }

    /// Takes over the sockets.
    pub(super) fn take_over(self, mut listening: Listening, workers: usize) -> Endpoint {
        let Successor {
            address,
            manner,
            mut strategy,
            limits,
            entrance,
        } = self;
        let bind = address.as_ref();
        if let Err(e) = listening.alter(&address, manner) {
            log::warn!("{bind}: not all options could be set: {e}");
        }
        if strategy == AcceptStrategy::Reuseport {
            if let Err(e) = listening.share(&address, workers) {
                log::warn!("{e}; the workers share one socket");
                strategy = AcceptStrategy::Shared;
            }
        }
        Endpoint {
            listening,
            strategy,
            limits,
            entrance,
        }
    }
}

#[cfg(test)]
impl Endpoint {
    #[allow(dead_code)] // Not asked without a TLS backend.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        let address = self.listening.socket.local_addr().unwrap();
        address.as_socket().unwrap()
    }

    /// A connection that waits in the queue.
    #[allow(dead_code)] // As above.
    pub(crate) fn accept_one(&self) -> Option<accept::Accepted> {
        accept::accept(&self.listening.socket).ok()
    }
}
