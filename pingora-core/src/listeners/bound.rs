//! The addresses that a service's endpoints got.

use tokio::sync::watch;

use crate::protocols::l4::socket::SocketAddr;

/// Tells the addresses that the endpoints of a service are bound to, once it listens: which port the system chose
/// for port 0, for one.
///
/// It is made by [`Listeners::bound_addresses`](super::Listeners::bound_addresses) or
/// [`Service::bound_addresses`](crate::services::listening::Service::bound_addresses) before the service starts, and
/// is asked from any thread, with or without a runtime.
#[derive(Clone, Debug)]
pub struct BoundAddresses(watch::Receiver<Addresses>);

type Addresses = Option<Vec<SocketAddr>>;

impl BoundAddresses {
    /// Returns the addresses in the order in which the endpoints were added, without those that were removed; `None`
    /// before the service listens at all that it starts with.
    pub fn get(&self) -> Option<Vec<SocketAddr>> {
        self.0.borrow().clone()
    }

    /// Waits until the service listens at all endpoints, and returns their addresses as
    /// [`get`](BoundAddresses::get) does; `None` when the service has ended without listening.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn wait(&mut self) -> Option<Vec<SocketAddr>> {
        // An error says that nobody will tell any more.
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// The sender of the addresses.
#[derive(Clone, Default)]
pub(super) struct Telling(watch::Sender<Addresses>);

impl Telling {
    pub(super) fn addresses(&self) -> BoundAddresses {
        BoundAddresses(self.0.subscribe())
    }

    pub(super) fn tell(&self, addresses: Vec<SocketAddr>) {
        self.0.send_replace(Some(addresses));
    }
}

#[cfg(test)]
mod tests;
