//! The parts of a client's request that go on to an upstream.

/// The treatment of a request to leave HTTP/1.1 (`Upgrade`, RFC 9110 section 7.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum H1UpgradePolicy {
    /// It is passed on, whatever protocol it asks for.
    Preserve,
    /// It is passed on when it asks for WebSocket, and else made a plain request.
    WebSocketOnly,
    /// It is made a plain request.
    Deny,
}

/// The policy by which a client's request becomes one for an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpUpstreamRequestPolicy {
    /// Remove the fields that are for one hop only (RFC 9110 section 7.6.1).
    pub strip_hop_by_hop: bool,
    /// Remove the fields that `Connection` names.
    pub strip_connection_nominated: bool,
    /// Refuse a request whose `Connection` cannot be read.
    pub reject_malformed_connection_nominations: bool,
    /// The treatment of a request to leave HTTP/1.1.
    pub h1_upgrade: H1UpgradePolicy,
}

impl HttpUpstreamRequestPolicy {
    /// Returns what a proxy does: fields for one hop are removed, and WebSocket may be upgraded to.
    pub fn standard() -> Self {
        HttpUpstreamRequestPolicy {
            strip_hop_by_hop: true,
            strip_connection_nominated: true,
            reject_malformed_connection_nominations: true,
            h1_upgrade: H1UpgradePolicy::WebSocketOnly,
        }
    }

    /// The [standard](Self::standard) without upgrades.
    pub fn deny_upgrades() -> Self {
        HttpUpstreamRequestPolicy {
            h1_upgrade: H1UpgradePolicy::Deny,
            ..Self::standard()
        }
    }

    /// Everything is passed on.
    pub fn preserve() -> Self {
        HttpUpstreamRequestPolicy {
            strip_hop_by_hop: false,
            strip_connection_nominated: false,
            reject_malformed_connection_nominations: false,
            h1_upgrade: H1UpgradePolicy::Preserve,
        }
    }
}

impl Default for HttpUpstreamRequestPolicy {
    fn default() -> Self {
        Self::standard()
    }
}
