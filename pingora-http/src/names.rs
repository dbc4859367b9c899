//! The set of those of a few field names that a header has.

use crate::field_rules::FieldRules;
use crate::host::is_valid_host;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// A set of the field names that decide how a message is framed and forwarded, and how a cache answers it: a proxy
/// asks for each of them in each message, and most messages have few.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names(u16);

/// Makes the constants of [`Names`], and the table from a bit's place to the name.
macro_rules! names {
    ($($(#[$doc:meta])* $constant:ident = $bit:literal: $lower:literal,)*) => {
        impl Names {
            $($(#[$doc])* pub const $constant: Names = Names(1 << $bit);)*
        }
        static IN_ORDER: [HeaderName; [$($lower),*].len()] = [$(HeaderName::from_static($lower)),*];
        const LOWER: &[&str] = &[$($lower),*];
    };
}

names! {
    /// Connection.
    CONNECTION = 0: "connection",
    /// Content-Length.
    CONTENT_LENGTH = 1: "content-length",
    /// Transfer-Encoding.
    TRANSFER_ENCODING = 2: "transfer-encoding",
    /// Upgrade.
    UPGRADE = 3: "upgrade",
    /// Date.
    DATE = 4: "date",
    /// Keep-Alive.
    KEEP_ALIVE = 5: "keep-alive",
    /// Proxy-Connection.
    PROXY_CONNECTION = 6: "proxy-connection",
    /// Proxy-Authorization.
    PROXY_AUTHORIZATION = 7: "proxy-authorization",
    /// TE.
    TE = 8: "te",
    /// Host.
    HOST = 9: "host",
    /// Trailer.
    TRAILER = 10: "trailer",
    /// HTTP2-Settings.
    HTTP2_SETTINGS = 11: "http2-settings",
    /// If-None-Match.
    IF_NONE_MATCH = 12: "if-none-match",
    /// If-Modified-Since.
    IF_MODIFIED_SINCE = 13: "if-modified-since",
    /// Range.
    RANGE = 14: "range",
    /// Age.
    AGE = 15: "age",
}

impl Names {
    /// Those of a connection, which HTTP/2 has no place for: [`FieldRules::NOT_IN_HTTP2`].
    pub const OF_CONNECTION: Names = FieldRules::NOT_IN_HTTP2.names();

    /// Those that are never forwarded as they are: [`FieldRules::HOP_BY_HOP`].
    pub const HOP_BY_HOP: Names = FieldRules::HOP_BY_HOP.names();

    /// Those of a request that are meant for the proxy which receives it: [`FieldRules::FOR_THIS_PROXY`].
    pub const FOR_THIS_PROXY: Names = FieldRules::FOR_THIS_PROXY.names();

    /// Both sets.
    pub const fn or(self, other: Names) -> Names {
        Names(self.0 | other.0)
    }

    /// Returns whether the sets have a name in common.
    pub const fn has_any(self, others: Names) -> bool {
        self.0 & others.0 != 0
    }

    /// The names of this set that are also in the other.
    const fn among(self, others: Names) -> Names {
        Names(self.0 & others.0)
    }

    /// This set without the names of the other.
    pub const fn without(self, others: Names) -> Names {
        Names(self.0 & !others.0)
    }

    /// The set of a name in lower case: empty for most.
    pub(crate) const fn only_lower(name: &str) -> Names {
        let mut place = 0;
        while place < LOWER.len() {
            if is_equal(LOWER[place].as_bytes(), name.as_bytes()) {
                return Names(1 << place);
            }
            place += 1;
        }
        Names(0)
    }
}

/// `==`, which constants do not have yet.
pub(crate) const fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// An index of a header's fields, which saves look-ups.
#[derive(Clone, Copy, Debug, Default)]
pub struct Index {
    present: Names,
    /// Those that may have several members: in several fields, or in one with a comma.
    lists: Names,
    /// The option of the last Connection.
    connection: Option<ConnectionOption>,
    /// True if the last Content-Length was a number.
    is_number: bool,
    /// The name.
    length: u64,
    /// True if the last Host was well-formed.
    is_host: bool,
    /// The numbers of the first fields' names as they were received: where to look first, not what is there.
    places: [u8; 16],
}

/// The options of Connection that messages mostly have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionOption {
    /// `close`
    Close,
    /// `keep-alive`
    KeepAlive,
}

impl ConnectionOption {
    fn read(value: &[u8]) -> Option<Self> {
        match value {
            // As nearly all write them.
            b"keep-alive" => return Some(ConnectionOption::KeepAlive),
            b"close" => return Some(ConnectionOption::Close),
            _ => {}
        }
        if value.eq_ignore_ascii_case(b"keep-alive") {
            Some(ConnectionOption::KeepAlive)
        } else if value.eq_ignore_ascii_case(b"close") {
            Some(ConnectionOption::Close)
        } else {
            None
        }
    }
}

/// The number that a text of decimal digits stands for, as in Content-Length (RFC 9110 section 8.6): no sign, no
/// white space, at most 2^64 - 1.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    // Nineteen digits cannot overflow, and that is all there is in practice.
    let (safe, rest) = digits.split_at(digits.len().min(19));
    let mut n = 0;
    for b in safe {
        let d = b.wrapping_sub(b'0');
        if d > 9 {
            return None;
        }
        n = n * 10 + u64::from(d);
    }
    if digits.is_empty() {
        return None;
    }
    rest.iter().try_fold(n, |n, b| {
        let d = b.wrapping_sub(b'0');
        if d > 9 {
            return None;
        }
        n.checked_mul(10)?.checked_add(u64::from(d))
    })
}

impl Index {
    /// Returns whether one of these names is among the fields.
    pub fn has_any(&self, names: Names) -> bool {
        self.present.has_any(names)
    }

    /// Returns whether of the names `of` just `names` are among the fields.
    pub fn has_only(&self, names: Names, of: Names) -> bool {
        self.present.among(of) == names
    }

    /// Returns whether one of these names may have several members, in several fields or in one with commas.
    pub fn may_list(&self, names: Names) -> bool {
        self.lists.has_any(names)
    }

    /// The number in Content-Length, when there is one such field and it is plain.
    pub fn content_length(&self) -> Option<u64> {
        (self.plain(Names::CONTENT_LENGTH) && self.is_number).then_some(self.length)
    }

    /// The option in Connection, when there is one such field with only that.
    pub fn connection(&self) -> Option<ConnectionOption> {
        if self.plain(Names::CONNECTION) {
            self.connection
        } else {
            None
        }
    }

    /// Returns whether there is one Host, and it is well-formed.
    pub fn has_valid_host(&self) -> bool {
        self.plain(Names::HOST) && self.is_host
    }

    fn plain(&self, names: Names) -> bool {
        self.present.has_any(names) && !self.lists.has_any(names)
    }

    /// Notes at which place of the map a name was put, by its number in the table of known names.
    #[inline]
    pub(crate) fn place(&mut self, place: usize, number: u8) {
        if let Some(slot) = self.places.get_mut(place) {
            *slot = number;
        }
    }

    /// The number of the name that may have been put at this place.
    #[inline]
    pub(crate) fn number_at(&self, place: usize) -> Option<u8> {
        self.places.get(place).copied()
    }

    /// Notes a field that is added behind those of its name, the set of which this is.
    #[inline]
    pub(crate) fn append(&mut self, names: Names, value: &HeaderValue) {
        if names == Names::default() {
            return;
        }
        let mut lists = self.present.has_any(names);
        self.present = self.present.or(names);
        let value = value.as_bytes();
        match names {
            Names::CONTENT_LENGTH => {
                let length = decimal(value);
                self.is_number = length.is_some();
                self.length = length.unwrap_or(0);
                lists |= length.is_none() && value.contains(&b',');
            }
            Names::CONNECTION => {
                self.connection = ConnectionOption::read(value);
                lists |= self.connection.is_none() && value.contains(&b',');
            }
            Names::HOST => self.is_host = is_valid_host(value),
            Names::TRANSFER_ENCODING => lists |= value.contains(&b','),
            _ => {}
        }
        if lists {
            self.lists = self.lists.or(names);
        }
    }

    /// Notes a field that is set in place of those of its name.
    pub(crate) fn insert(&mut self, names: Names, value: &HeaderValue) {
        self.present = self.present.without(names);
        self.lists = self.lists.without(names);
        self.append(names, value);
    }

    /// Looks anew, after a removal of nobody knows which name.
    pub(crate) fn look(&mut self, headers: &HeaderMap) {
        if self.present != Names::default() {
            self.present = present(headers);
        }
    }

    /// Notes that fields of these names are gone.
    pub(crate) fn forget(&mut self, names: Names) {
        self.present = self.present.without(names);
        self.lists = self.lists.without(names);
    }

    /// Takes names out, and returns those that were there.
    pub(crate) fn take(&mut self, names: Names) -> impl Iterator<Item = &'static HeaderName> {
        let mut left = self.present.among(names);
        self.forget(names);
        std::iter::from_fn(move || {
            let name = IN_ORDER.get(left.0.trailing_zeros() as usize)?;
            left.0 &= left.0 - 1;
            Some(name)
        })
    }
}

fn present(headers: &HeaderMap) -> Names {
    let all = headers.keys().map(Names::only);
    all.fold(Names::default(), Names::or)
}

impl From<&HeaderMap> for Index {
    fn from(headers: &HeaderMap) -> Index {
        let present = present(headers);
        Index {
            present,
            lists: present,
            ..Index::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::internal::MessageHead;
    use crate::known::KnownName;
    use crate::{RequestHeader, ResponseHeader};

    #[test]
    fn every_way_to_add_a_field_is_noticed() {
        let mut header = RequestHeader::build("GET", b"/", None).unwrap();
        assert!(!header.may_have(Names::TE));
        header.append_header("TE", "trailers").unwrap();
        assert!(header.may_have(Names::TE));
        header.insert_header("connection", "TE").unwrap();
        assert!(header.may_have(Names::CONNECTION.or(Names::DATE)));
        let value = HeaderValue::from_static("3");
        header
            .raw_fields()
            .append(b"CONTENT-length", value)
            .unwrap();
        assert!(header.may_have(Names::CONTENT_LENGTH));
        assert!(!header.may_have(Names::TRANSFER_ENCODING));
        let parts: http::request::Parts = header.into();
        let header = RequestHeader::from(parts);
        assert!(header.may_have(Names::CONTENT_LENGTH));
        assert!(!header.may_have(Names::UPGRADE));
        assert!(header.clone().may_have(Names::TE));
    }

    #[test]
    fn every_way_to_remove_a_field_is_noticed() {
        let mut header = ResponseHeader::build(200, None).unwrap();
        for name in ["Connection", "TE", "Upgrade", "Date", "x"] {
            header.append_header(name, "a").unwrap();
            header.append_header(name, "b").unwrap();
        }
        let there = |header: &ResponseHeader| {
            LOWER
                .iter()
                .filter(|name| header.may_have(Names::only_lower(name)))
                .copied()
                .collect::<Vec<_>>()
        };
        assert_eq!(there(&header), ["connection", "upgrade", "date", "te"]);
        header.remove_header("upgrade");
        header.remove_header("x");
        assert_eq!(there(&header), ["connection", "date", "te"]);
        assert!(header
            .index()
            .has_only(Names::TE, Names::TE.or(Names::UPGRADE)));
        header.remove_any(Names::TE.or(Names::DATE).or(Names::HOST));
        assert_eq!(there(&header), ["connection"]);
        assert_eq!(header.headers.keys_len(), 1);
        assert_eq!(header.case_header_iter().count(), 2);
        assert!(header.index().may_list(Names::CONNECTION));
        header.remove_any(Names::CONNECTION);
        assert!(header.headers.is_empty());
        assert!(!header.index().may_list(Names::CONNECTION));
    }

    #[test]
    fn lists_are_noticed() {
        let mut header = RequestHeader::build("GET", b"/", None).unwrap();
        header.append_header("Connection", "close").unwrap();
        assert!(!header.index().may_list(Names::CONNECTION));
        header.append_header("Connection", "te").unwrap();
        assert!(header.index().may_list(Names::CONNECTION));
        header.append_header("Content-Length", "5, 5").unwrap();
        assert!(header.index().may_list(Names::CONTENT_LENGTH));
        assert_eq!(header.index().content_length(), None);
        assert_eq!(header.index().connection(), None);
        header.insert_header("Content-Length", "5").unwrap();
        header.insert_header("Connection", "Close").unwrap();
        assert!(!header
            .index()
            .may_list(Names::CONTENT_LENGTH.or(Names::CONNECTION)));
        assert_eq!(header.index().content_length(), Some(5));
        assert_eq!(header.index().connection(), Some(ConnectionOption::Close));
        header.remove_any(Names::CONTENT_LENGTH);
        header.remove_header("connection");
        assert_eq!(header.index().content_length(), None);
        assert_eq!(header.index().connection(), None);
    }

    #[test]
    fn one_host_is_noticed() {
        let mut header = RequestHeader::build("GET", b"/", None).unwrap();
        assert!(!header.index().has_valid_host());
        header.append_header("Host", "a:1").unwrap();
        assert!(header.index().has_valid_host());
        header.append_header("Host", "a:1").unwrap();
        assert!(!header.index().has_valid_host());
        for malformed in ["", "a:b", "a/"] {
            header.insert_header("host", malformed).unwrap();
            assert!(!header.index().has_valid_host(), "{malformed}");
        }
        header.insert_header("HOST", "b").unwrap();
        assert!(header.index().has_valid_host());
        // Of fields that were not added one by one, nobody knows.
        let parts: http::request::Parts = header.clone().into();
        assert!(!RequestHeader::from(parts).index().has_valid_host());
        header.remove_header("host");
        assert!(!header.index().has_valid_host());
    }

    /// A field at another place than it was put is looked up, and found.
    #[test]
    fn places_are_only_where_to_look_first() {
        let mut header = ResponseHeader::build(200, None).unwrap();
        let names: [&[u8]; 15] = [
            b"Server",
            b"Date",
            b"x-a",
            b"Content-Type",
            b"Vary",
            b"Via",
            b"Age",
            b"Allow",
            b"ETag",
            b"Expires",
            b"Link",
            b"Warning",
            b"Location",
            b"Connection",
            b"Accept-Ranges",
        ];
        for name in names {
            let value = HeaderValue::from_bytes(name).unwrap();
            header.raw_fields().append(name, value).unwrap();
        }
        header
            .raw_fields()
            .append(b"Via", HeaderValue::from_static("Via"))
            .unwrap();
        let written = |header: &ResponseHeader| {
            let mut wire = Vec::new();
            header.header_to_h1_wire(&mut wire);
            let text = String::from_utf8(wire).unwrap();
            let lines = text.lines().map(|line| {
                let (name, value) = line.split_once(": ").unwrap();
                assert_eq!(name, value, "the spelling that it came with");
            });
            lines.count()
        };
        assert_eq!(written(&header), 16);
        // The last one takes the place of one that goes.
        header.remove_any(Names::CONNECTION.or(Names::DATE));
        header.remove_header("Server");
        assert_eq!(written(&header), 13);
        header.insert_header("Date", "Date").unwrap();
        assert_eq!(written(&header), 14);
        assert_eq!(written(&header.clone()), 14);
    }

    #[test]
    fn decimals() {
        for (digits, number) in [
            ("0", Some(0)),
            ("0017", Some(17)),
            ("9999999999999999999", Some(9_999_999_999_999_999_999)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("99999999999999999999999", None),
            ("000000000000000000000000000000001", Some(1)),
            ("", None),
            ("+1", None),
            ("1 ", None),
            ("1x", None),
            ("12345678901234567890x", None),
        ] {
            assert_eq!(decimal(digits.as_bytes()), number, "{digits}");
        }
    }

    #[test]
    fn bits_and_names_agree() {
        for (place, lower) in LOWER.iter().enumerate() {
            assert_eq!(Names::only_lower(lower), Names(1 << place));
            assert_eq!(IN_ORDER[place].as_str(), *lower);
            assert_eq!(
                KnownName::of(&IN_ORDER[place]).unwrap().names,
                Names(1 << place)
            );
        }
        assert_eq!(Names::only_lower("x"), Names::default());
        assert_eq!(Names::only_lower(""), Names::default());
    }
}
