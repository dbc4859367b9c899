//! Servers, listeners, connectors and HTTP/1.1: the machine under a proxy.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod features;

pub mod apps;
pub mod connectors;
#[doc(hidden)]
pub mod exchange;
mod free_list;
pub mod limits;
pub mod listeners;
pub mod modules;
pub mod protocols;
pub mod server;
pub mod services;
#[cfg(test)]
mod settings;
mod shutdown;
pub mod upstreams;
pub mod utils;
mod worker;

#[cfg(all(feature = "boringssl", not(feature = "openssl")))]
pub use pingora_boringssl as tls;
pub use pingora_error::{ErrorType::*, *};
#[cfg(feature = "openssl")]
pub use pingora_openssl as tls;
#[cfg(all(feature = "rustls", not(feature = "openssl_derived")))]
pub use pingora_rustls as tls;
#[cfg(not(any(feature = "rustls", feature = "openssl_derived")))]
pub use protocols::tls::noop_tls as tls;

/// The items that most programs import.
pub mod prelude {
    pub use crate::server::configuration::Opt;
    pub use crate::server::Server;
    pub use crate::services::background::background_service;
    pub use crate::upstreams::peer::HttpPeer;
    pub use pingora_error::{ErrorType::*, *};
}
