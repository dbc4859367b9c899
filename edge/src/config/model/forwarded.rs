//! The client behind other proxies, and what servers are told of it.

use crate::config::section::{choice, section};
use crate::config::values::Network;

section! {
    /// Proxies in front of this one. What they say of the client is believed, and what anybody else says is not.
    pub struct TrustedProxies("trusted proxies", short: networks) {
        /// Their addresses or networks.
        networks: Vec<Network>,
        /// True if those that connect over Unix sockets, who have no address, are proxies too.
        unix: bool = false,
        /// The fields in which they name the client. The others are not read, as a client may have sent them.
        fields: ForwardedFields = ForwardedFields::XForwarded,
    }
}

choice! {
    /// The fields in which a proxy names the client.
    pub enum ForwardedFields("the fields of a proxy") {
        /// X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host.
        XForwarded = "x-forwarded",
        /// Forwarded (RFC 7239).
        Forwarded = "forwarded",
    }
}

choice! {
    /// The ways to tell a server of the client.
    pub enum ForwardedMode("what a server is told of the client") {
        /// X-Forwarded-For is the client's address, X-Forwarded-Proto its scheme and X-Forwarded-Host its host, in place of
        /// all that the request brought.
        Replace = "replace",
        /// The word of a trusted proxy stays, and the proxy's own address is added. What anybody else said is replaced.
        Append = "append",
        /// The fields pass as they are, also those of clients, and none is added.
        Off = "off",
    }
}
