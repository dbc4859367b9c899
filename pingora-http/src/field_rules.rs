//! The table of the fields that a proxy has rules for: one row a field, an attribute for each rule.
//!
//! Whatever treats fields by their names, in any of the crates, asks this table. What every message is asked for are
//! the sets of [`Names`](crate::Names), which are made from it when the crate is compiled.

use crate::names::{is_equal, Names};
use http::header::HeaderName;

/// The attributes of a field name. Most names have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldRules(u8);

impl FieldRules {
    /// Describes one connection, and is never forwarded as it is: RFC 9110 section 7.6.1, for TE section 10.1.4, for
    /// HTTP2-Settings RFC 7540 section 3.2.1.
    pub const HOP_BY_HOP: FieldRules = FieldRules(1);
    /// Makes a message of HTTP/2 malformed: RFC 9113 section 8.2.2.
    pub const NOT_IN_HTTP2: FieldRules = FieldRules(1 << 1);
    /// Is meant for the proxy that receives it, in a request: RFC 9110 section 11.7.2.
    pub const FOR_THIS_PROXY: FieldRules = FieldRules(1 << 2);
    /// Is of no use behind a body, as the message is framed, routed or its content read by it: RFC 9110 section 6.5.1.
    pub const NOT_IN_TRAILERS: FieldRules = FieldRules(1 << 3);
    /// Is of no use behind the body of a request: its controls, conditions and credentials (RFC 9110 section 6.5.1), and
    /// what proxies tell an origin, which would believe the client in their place if it merged trailers into the head.
    pub const NOT_IN_REQUEST_TRAILERS: FieldRules = FieldRules(1 << 4);
    /// Tells an origin how long a request is, which site it is for or who asks: no client may have it removed by naming
    /// it in Connection (RFC 9110 section 7.6.1: such a field is intended for all recipients).
    pub const PROTECTED: FieldRules = FieldRules(1 << 5);
    /// Belongs to the handshake of a WebSocket in HTTP/1.1 (RFC 6455 section 4.2), and not to that in HTTP/2 (RFC 8441
    /// section 5).
    pub const HTTP1_HANDSHAKE: FieldRules = FieldRules(1 << 6);

    /// The rules for a name in lower case.
    pub(crate) const fn of_lower(name: &str) -> FieldRules {
        let mut at = 0;
        while at < FIELDS.len() {
            if is_equal(FIELDS[at].0.as_bytes(), name.as_bytes()) {
                return FIELDS[at].1;
            }
            at += 1;
        }
        at = 0;
        while at < FAMILIES.len() {
            if begins_with(name.as_bytes(), FAMILIES[at].0.as_bytes()) {
                return FAMILIES[at].1;
            }
            at += 1;
        }
        FieldRules(0)
    }

    const fn or(self, other: FieldRules) -> FieldRules {
        FieldRules(self.0 | other.0)
    }

    /// Returns whether the sets have an attribute in common.
    pub const fn has_any(self, others: FieldRules) -> bool {
        self.0 & others.0 != 0
    }

    /// The fields that have one of these attributes, without those that have it as one of a family.
    pub fn fields(self) -> impl Iterator<Item = HeaderName> {
        let with = FIELDS.iter().filter(move |(_, rules)| rules.has_any(self));
        with.map(|(name, _)| HeaderName::from_static(name))
    }

    /// [`FieldRules::fields`] as a set.
    pub(crate) const fn names(self) -> Names {
        let mut names = Names::only_lower("");
        let mut at = 0;
        while at < FIELDS.len() {
            if FIELDS[at].1.has_any(self) {
                let name = Names::only_lower(FIELDS[at].0);
                assert!(name.has_any(name), "a message is not indexed by this name");
                names = names.or(name);
            }
            at += 1;
        }
        names
    }
}

const fn begins_with(name: &[u8], family: &[u8]) -> bool {
    name.len() >= family.len() && is_equal(name.split_at(family.len()).0, family)
}

const HOP: FieldRules = FieldRules::HOP_BY_HOP.or(FieldRules::NOT_IN_TRAILERS);
const HTTP1: FieldRules = HOP.or(FieldRules::NOT_IN_HTTP2);
const LATE: FieldRules = FieldRules::NOT_IN_TRAILERS;
const LATE_IN_REQUESTS: FieldRules = FieldRules::NOT_IN_REQUEST_TRAILERS;
const WHO_ASKS: FieldRules = LATE_IN_REQUESTS.or(FieldRules::PROTECTED);
const HANDSHAKE: FieldRules = LATE_IN_REQUESTS.or(FieldRules::HTTP1_HANDSHAKE);

const FIELDS: &[(&str, FieldRules)] = &[
    // The connection.
    ("connection", HTTP1),
    ("keep-alive", HTTP1),
    ("proxy-connection", HTTP1),
    ("transfer-encoding", HTTP1),
    ("upgrade", HTTP1),
    ("http2-settings", HOP),
    ("te", HOP),
    // Framing and routing.
    ("content-length", LATE.or(FieldRules::PROTECTED)),
    ("host", LATE.or(FieldRules::PROTECTED)),
    ("trailer", LATE),
    // The format of the content.
    ("content-encoding", LATE),
    ("content-range", LATE),
    ("content-type", LATE),
    ("content-location", LATE_IN_REQUESTS),
    // Controls of a request; its conditions are a family.
    ("cache-control", LATE_IN_REQUESTS),
    ("early-data", LATE_IN_REQUESTS),
    ("expect", LATE_IN_REQUESTS),
    ("max-forwards", LATE_IN_REQUESTS),
    ("pragma", LATE_IN_REQUESTS),
    ("priority", LATE_IN_REQUESTS),
    ("range", LATE_IN_REQUESTS),
    ("x-http-method", LATE_IN_REQUESTS),
    ("x-http-method-override", LATE_IN_REQUESTS),
    ("x-method-override", LATE_IN_REQUESTS),
    // Credentials, and where a request comes from.
    ("authorization", LATE_IN_REQUESTS),
    ("cookie", LATE_IN_REQUESTS),
    ("origin", LATE_IN_REQUESTS),
    (
        "proxy-authorization",
        LATE_IN_REQUESTS.or(FieldRules::FOR_THIS_PROXY),
    ),
    ("referer", LATE_IN_REQUESTS),
    // The handshake of a WebSocket.
    ("sec-websocket-accept", HANDSHAKE),
    ("sec-websocket-key", HANDSHAKE),
    // What proxies tell the origin: who asks, and for what.
    ("client-ip", WHO_ASKS),
    ("forwarded", WHO_ASKS),
    ("true-client-ip", WHO_ASKS),
    ("via", WHO_ASKS),
    ("x-client-ip", WHO_ASKS),
    ("x-original-url", WHO_ASKS),
    ("x-real-ip", WHO_ASKS),
    ("x-rewrite-url", WHO_ASKS),
];

/// Beginnings of names that all have the same rules, unless a name has a row of its own.
const FAMILIES: &[(&str, FieldRules)] = &[
    ("cf-", WHO_ASKS),
    ("if-", LATE_IN_REQUESTS),
    ("proxy-", LATE_IN_REQUESTS),
    ("sec-", LATE_IN_REQUESTS),
    ("x-forwarded-", WHO_ASKS),
];

#[cfg(test)]
mod tests;
