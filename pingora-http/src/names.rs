//! Which of a few field names a header has had.

use http::header::HeaderMap;

/// A set of the field names that decide how a message is framed and forwarded: a proxy asks for each of them
/// in each message, and most messages have few.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names(u16);

impl Names {
    /// Connection.
    pub const CONNECTION: Names = Names(1);
    /// Content-Length.
    pub const CONTENT_LENGTH: Names = Names(1 << 1);
    /// Transfer-Encoding.
    pub const TRANSFER_ENCODING: Names = Names(1 << 2);
    /// Upgrade.
    pub const UPGRADE: Names = Names(1 << 3);
    /// Date.
    pub const DATE: Names = Names(1 << 4);
    /// Keep-Alive.
    pub const KEEP_ALIVE: Names = Names(1 << 5);
    /// Proxy-Connection.
    pub const PROXY_CONNECTION: Names = Names(1 << 6);
    /// Proxy-Authorization.
    pub const PROXY_AUTHORIZATION: Names = Names(1 << 7);
    /// TE.
    pub const TE: Names = Names(1 << 8);

    /// Both sets.
    pub const fn or(self, other: Names) -> Names {
        Names(self.0 | other.0)
    }

    /// Whether the sets have a name in common.
    pub const fn has_any(self, others: Names) -> bool {
        self.0 & others.0 != 0
    }

    /// The set of a name in lower case: empty for most.
    pub(crate) fn of(name: &str) -> Names {
        match name {
            "connection" => Names::CONNECTION,
            "content-length" => Names::CONTENT_LENGTH,
            "transfer-encoding" => Names::TRANSFER_ENCODING,
            "upgrade" => Names::UPGRADE,
            "date" => Names::DATE,
            "keep-alive" => Names::KEEP_ALIVE,
            "proxy-connection" => Names::PROXY_CONNECTION,
            "proxy-authorization" => Names::PROXY_AUTHORIZATION,
            "te" => Names::TE,
            _ => Names::default(),
        }
    }

    pub(crate) fn add(&mut self, name: &str) {
        *self = self.or(Names::of(name));
    }
}

impl From<&HeaderMap> for Names {
    fn from(headers: &HeaderMap) -> Names {
        headers.keys().fold(Names::default(), |names, name| {
            names.or(Names::of(name.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Names;
    use crate::RequestHeader;

    #[test]
    fn every_way_to_add_a_field_is_noticed() {
        let mut header = RequestHeader::build("GET", b"/", None).unwrap();
        assert!(!header.may_have(Names::TE));
        header.append_header("TE", "trailers").unwrap();
        assert!(header.may_have(Names::TE));
        header.insert_header("connection", "TE").unwrap();
        assert!(header.may_have(Names::CONNECTION.or(Names::DATE)));
        let value = http::HeaderValue::from_static("3");
        header.append_raw(b"CONTENT-length", value).unwrap();
        assert!(header.may_have(Names::CONTENT_LENGTH));
        assert!(!header.may_have(Names::TRANSFER_ENCODING));
        let parts: http::request::Parts = header.into();
        let header = RequestHeader::from(parts);
        assert!(header.may_have(Names::CONTENT_LENGTH));
        assert!(!header.may_have(Names::UPGRADE));
        assert!(header.clone().may_have(Names::TE));
    }
}
