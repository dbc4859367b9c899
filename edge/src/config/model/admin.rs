//! The keys of `admin`.

use crate::config::section::{section, At};
use crate::config::values::{Address, HostPattern, Secret};

section! {
    /// The admin interface: health, metrics, status, reload and the dashboard.
    pub struct Admin("an admin interface", short: address) {
        /// The address, such as `127.0.0.1:9900` or `unix:/run/edge.sock`. One that other machines reach needs a `token`.
        address: At<Address>,
        /// The token that clients must know, of 16 characters or more. If unset, whoever reaches the address may do all.
        token: Option<At<Secret>> = None,
        /// The hosts by which a browser may ask, beside `localhost` and the address itself: names or IP addresses.
        allow_hosts: Vec<At<HostPattern>> = Vec::new(),
    }
}
