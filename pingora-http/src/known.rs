//! Names that this crate knows: their spelling, and a way to them that parses and allocates nothing.

use crate::case_header_name::{is_same_name, CaseHeaderName};
use crate::field_rules::FieldRules;
use crate::names::{is_equal, Index, Names};
use http::header::{HeaderName, InvalidHeaderName};

/// A name this crate knows.
pub(crate) struct KnownName {
    pub(crate) name: HeaderName,
    lower: &'static str,
    /// The beginning of a field line when nobody gave the name a spelling: the usual one, colon and space.
    pub(crate) line: &'static str,
    /// The usual spelling as something that a header can lend.
    pub(crate) spelling: CaseHeaderName,
    /// The usual spelling as text.
    title: &'static str,
    /// The set of this name alone, if it belongs to those that proxies ask for.
    pub(crate) names: Names,
    /// The rules for it.
    pub(crate) rules: FieldRules,
    /// Its place in the table.
    pub(crate) number: u8,
}

/// Makes the table of known names from pairs of lower case and usual spelling.
macro_rules! known_names {
    ($(($lower:literal, $spelling:literal),)*) => {
        static KNOWN: [KnownName; SPELLINGS.len()] = [$(KnownName {
            name: HeaderName::from_static($lower),
            lower: $lower,
            line: concat!($spelling, ": "),
            spelling: CaseHeaderName::in_place($spelling.as_bytes()),
            title: $spelling,
            names: Names::only_lower($lower),
            rules: FieldRules::of_lower($lower),
            number: number_of($lower),
        }),*];
        const LOWER: &[&str] = &[$($lower),*];
        const SPELLINGS: &[&str] = &[$($spelling),*];
    };
}

known_names! {
    ("accept", "Accept"),
    ("accept-charset", "Accept-Charset"),
    ("accept-encoding", "Accept-Encoding"),
    ("accept-language", "Accept-Language"),
    ("accept-ranges", "Accept-Ranges"),
    ("access-control-allow-credentials", "Access-Control-Allow-Credentials"),
    ("access-control-allow-headers", "Access-Control-Allow-Headers"),
    ("access-control-allow-methods", "Access-Control-Allow-Methods"),
    ("access-control-allow-origin", "Access-Control-Allow-Origin"),
    ("access-control-expose-headers", "Access-Control-Expose-Headers"),
    ("access-control-max-age", "Access-Control-Max-Age"),
    ("access-control-request-headers", "Access-Control-Request-Headers"),
    ("access-control-request-method", "Access-Control-Request-Method"),
    ("age", "Age"),
    ("allow", "Allow"),
    ("alt-svc", "Alt-Svc"),
    ("authorization", "Authorization"),
    ("cache-control", "Cache-Control"),
    ("cache-status", "Cache-Status"),
    ("cdn-cache-control", "CDN-Cache-Control"),
    ("connection", "Connection"),
    ("content-disposition", "Content-Disposition"),
    ("content-encoding", "Content-Encoding"),
    ("content-language", "Content-Language"),
    ("content-length", "Content-Length"),
    ("content-location", "Content-Location"),
    ("content-range", "Content-Range"),
    ("content-security-policy", "Content-Security-Policy"),
    ("content-security-policy-report-only", "Content-Security-Policy-Report-Only"),
    ("content-type", "Content-Type"),
    ("cookie", "Cookie"),
    ("date", "Date"),
    ("dnt", "DNT"),
    ("etag", "ETag"),
    ("expect", "Expect"),
    ("expires", "Expires"),
    ("forwarded", "Forwarded"),
    ("from", "From"),
    ("host", "Host"),
    ("if-match", "If-Match"),
    ("if-modified-since", "If-Modified-Since"),
    ("if-none-match", "If-None-Match"),
    ("if-range", "If-Range"),
    ("if-unmodified-since", "If-Unmodified-Since"),
    ("last-modified", "Last-Modified"),
    ("link", "Link"),
    ("location", "Location"),
    ("max-forwards", "Max-Forwards"),
    ("origin", "Origin"),
    ("pragma", "Pragma"),
    ("proxy-authenticate", "Proxy-Authenticate"),
    ("proxy-authorization", "Proxy-Authorization"),
    ("public-key-pins", "Public-Key-Pins"),
    ("public-key-pins-report-only", "Public-Key-Pins-Report-Only"),
    ("range", "Range"),
    ("referer", "Referer"),
    ("referrer-policy", "Referrer-Policy"),
    ("refresh", "Refresh"),
    ("retry-after", "Retry-After"),
    ("sec-websocket-accept", "Sec-WebSocket-Accept"),
    ("sec-websocket-extensions", "Sec-WebSocket-Extensions"),
    ("sec-websocket-key", "Sec-WebSocket-Key"),
    ("sec-websocket-protocol", "Sec-WebSocket-Protocol"),
    ("sec-websocket-version", "Sec-WebSocket-Version"),
    ("server", "Server"),
    ("set-cookie", "Set-Cookie"),
    ("strict-transport-security", "Strict-Transport-Security"),
    ("te", "TE"),
    ("trailer", "Trailer"),
    ("transfer-encoding", "Transfer-Encoding"),
    ("upgrade", "Upgrade"),
    ("upgrade-insecure-requests", "Upgrade-Insecure-Requests"),
    ("user-agent", "User-Agent"),
    ("vary", "Vary"),
    ("via", "Via"),
    ("warning", "Warning"),
    ("www-authenticate", "WWW-Authenticate"),
    ("x-content-type-options", "X-Content-Type-Options"),
    ("x-dns-prefetch-control", "X-DNS-Prefetch-Control"),
    ("x-frame-options", "X-Frame-Options"),
    ("x-xss-protection", "X-XSS-Protection"),
    // Frequent names without a constant in `http`: known so that they need no allocation, and written
    // in lower case like every other name of that kind.
    ("cf-connecting-ip", "cf-connecting-ip"),
    ("cf-ipcountry", "cf-ipcountry"),
    ("cf-ray", "cf-ray"),
    ("cf-visitor", "cf-visitor"),
    ("http2-settings", "http2-settings"),
    ("keep-alive", "keep-alive"),
    ("priority", "priority"),
    ("proxy-connection", "proxy-connection"),
    ("sec-ch-ua", "sec-ch-ua"),
    ("sec-ch-ua-mobile", "sec-ch-ua-mobile"),
    ("sec-ch-ua-platform", "sec-ch-ua-platform"),
    ("sec-fetch-dest", "sec-fetch-dest"),
    ("sec-fetch-mode", "sec-fetch-mode"),
    ("sec-fetch-site", "sec-fetch-site"),
    ("sec-fetch-user", "sec-fetch-user"),
    ("sec-gpc", "sec-gpc"),
    ("traceparent", "traceparent"),
    ("tracestate", "tracestate"),
    ("true-client-ip", "true-client-ip"),
    ("x-cache", "x-cache"),
    ("x-correlation-id", "x-correlation-id"),
    ("x-forwarded-for", "x-forwarded-for"),
    ("x-forwarded-host", "x-forwarded-host"),
    ("x-forwarded-port", "x-forwarded-port"),
    ("x-forwarded-proto", "x-forwarded-proto"),
    ("x-powered-by", "x-powered-by"),
    ("x-real-ip", "x-real-ip"),
    ("x-request-id", "x-request-id"),
    ("x-requested-with", "x-requested-with"),
}

const fn number_of(lower: &str) -> u8 {
    let mut number = 0;
    while !is_equal(LOWER[number].as_bytes(), lower.as_bytes()) {
        number += 1;
    }
    number as u8
}

/// Marks a free slot; the table of names is shorter than this.
const FREE: u8 = u8::MAX;

/// The place of each known name: an open-addressing table over [`slot_of`].
static SLOTS: [u8; 256] = {
    assert!(SPELLINGS.len() < FREE as usize / 2);
    let mut slots = [FREE; 256];
    let mut i = 0;
    while i < SPELLINGS.len() {
        let mut slot = slot_of(SPELLINGS[i].as_bytes());
        while slots[slot as usize] != FREE {
            slot = slot.wrapping_add(1);
        }
        slots[slot as usize] = i as u8;
        i += 1;
    }
    slots
};

/// A hash of a name that is the same for every letter case.
const fn slot_of(name: &[u8]) -> u8 {
    let len = name.len();
    if len == 0 {
        return 0;
    }
    // Bit 0x20 is what tells a lower case letter from its capital.
    let first = (name[0] | 0x20) as u32;
    let middle = (name[len / 2] | 0x20) as u32;
    let last = (name[len - 1] | 0x20) as u32;
    let mixed = first
        .wrapping_mul(0x9e37_79b1)
        .wrapping_add(middle.wrapping_mul(0x85eb_ca6b))
        .wrapping_add(last.wrapping_mul(0xc2b2_ae35))
        .wrapping_add((len as u32).wrapping_mul(0x27d4_eb2f));
    (mixed >> 24) as u8
}

impl KnownName {
    /// The known name that `raw` spells, and whether that is its usual spelling.
    #[inline]
    pub(crate) fn find(raw: &[u8]) -> Option<(&'static KnownName, bool)> {
        find_by(raw, |known| {
            // The usual spelling comes first: it is what arrives, and comparing bytes is quicker.
            if is_same(known.title.as_bytes(), raw) {
                return Some((known, true));
            }
            is_same_name(known.lower.as_bytes(), raw).then_some((known, false))
        })
    }

    /// The entry for an already parsed name.
    #[inline]
    pub(crate) fn of(name: &HeaderName) -> Option<&'static KnownName> {
        KnownName::of_text(name, name.as_str())
    }

    /// [`KnownName::of`] for who has the name as a text already.
    #[inline]
    pub(crate) fn of_text(name: &HeaderName, text: &str) -> Option<&'static KnownName> {
        // Standard names compare as numbers.
        find_by(text.as_bytes(), |known| {
            (known.name == *name).then_some(known)
        })
    }

    /// The name at a place of the table.
    #[inline]
    pub(crate) fn numbered(number: u8) -> Option<&'static KnownName> {
        KNOWN.get(usize::from(number))
    }

    /// Returns whether an [`Index`](crate::names::Index) notes the name.
    #[inline(always)]
    pub(crate) fn is_indexed(&self) -> bool {
        self.names != Names::default()
    }

    /// The usual spelling.
    pub(crate) fn title(&self) -> &'static str {
        self.title
    }
}

/// `==` for short texts, in place of a call that finds out how short they are.
#[inline(always)]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match a.len() {
        8..=16 => a.first_chunk::<8>() == b.first_chunk() && a.last_chunk::<8>() == b.last_chunk(),
        4..=7 => a.first_chunk::<4>() == b.first_chunk() && a.last_chunk::<4>() == b.last_chunk(),
        _ => a == b,
    }
}

#[inline]
fn find_by<T>(raw: &[u8], check: impl Fn(&'static KnownName) -> Option<T>) -> Option<T> {
    let mut slot = slot_of(raw);
    loop {
        // Ends: more than half of the slots are free, which the table asserts.
        let known = KNOWN.get(usize::from(SLOTS[usize::from(slot)]))?;
        let found = check(known);
        if found.is_some() {
            return found;
        }
        slot = slot.wrapping_add(1);
    }
}

impl Names {
    /// The set of this name alone: empty for most names.
    pub fn only(name: &HeaderName) -> Names {
        KnownName::of(name).map_or(Names::default(), |known| known.names)
    }
}

impl FieldRules {
    /// The rules for a name.
    pub fn of(name: &HeaderName) -> FieldRules {
        match KnownName::of(name) {
            Some(known) => known.rules,
            None => FieldRules::of_lower(name.as_str()),
        }
    }
}

impl Index {
    /// Returns what is known of a name that may have been put at this place. `None`: it has to be looked up.
    #[inline]
    pub(crate) fn known_at(&self, place: usize, name: &HeaderName) -> Option<&'static KnownName> {
        let known = KnownName::numbered(self.number_at(place)?)?;
        (known.name == *name).then_some(known)
    }
}

/// A parsed field name, and what is known about it.
pub struct Name {
    pub(crate) name: HeaderName,
    pub(crate) known: Option<&'static KnownName>,
    /// True if it was spelled the way a known name usually is.
    pub(crate) is_usual: bool,
}

impl Name {
    /// Parses a name, without an allocation when it is known.
    pub(crate) fn parse(raw: &[u8]) -> Result<Name, InvalidHeaderName> {
        Name::parse_with(raw, HeaderName::from_bytes)
    }

    /// Parses a name that lives as long as the program, without an allocation when it is known or in
    /// lower case.
    pub(crate) fn parse_static(raw: &'static str) -> Result<Name, InvalidHeaderName> {
        Name::parse_with(raw.as_bytes(), |bytes| match is_lower_token(raw) {
            // Cannot panic: these are the names that `from_static` takes, or fewer.
            true => Ok(HeaderName::from_static(raw)),
            false => HeaderName::from_bytes(bytes),
        })
    }

    fn parse_with(
        raw: &[u8],
        unknown: impl FnOnce(&[u8]) -> Result<HeaderName, InvalidHeaderName>,
    ) -> Result<Name, InvalidHeaderName> {
        Ok(match KnownName::find(raw) {
            Some((known, is_usual)) => Name {
                name: known.name.clone(),
                known: Some(known),
                is_usual,
            },
            None => Name {
                name: unknown(raw)?,
                known: None,
                is_usual: false,
            },
        })
    }
}

impl From<HeaderName> for Name {
    fn from(name: HeaderName) -> Name {
        let known = KnownName::of(&name);
        Name {
            name,
            known,
            is_usual: known.is_some(),
        }
    }
}

/// Returns whether a text is a token (RFC 9110 section 5.6.2) without capitals, and no longer than `http` allows.
fn is_lower_token(text: &str) -> bool {
    let is_lower_tchar =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=usize::from(u16::MAX)).contains(&text.len()) && text.bytes().all(is_lower_tchar)
}

/// Parses a received field name: like [`HeaderName::from_bytes`], but names that are common cost no
/// allocation, neither here nor when the header is copied.
///
/// # Errors
///
/// When `raw` is no token (RFC 9110 section 5.6.2) or longer than 65,535 bytes.
pub fn header_name_from_raw(raw: &[u8]) -> Result<HeaderName, InvalidHeaderName> {
    Name::parse(raw).map(|parsed| parsed.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for known in &KNOWN {
            assert_eq!(known.name.as_str(), known.lower);
            assert!(
                known.spelling.spells(known.lower.as_bytes()),
                "{}",
                known.lower
            );
            for raw in [known.lower.to_string(), known.lower.to_uppercase()] {
                let (found, is_usual) = KnownName::find(raw.as_bytes()).unwrap();
                assert_eq!(found.name, known.name, "{raw}");
                assert_eq!(is_usual, raw == known.title(), "{raw}");
            }
            assert_eq!(KnownName::of(&known.name).unwrap().lower, known.lower);
            assert_eq!(
                KnownName::numbered(known.number).unwrap().lower,
                known.lower
            );
        }
    }

    #[test]
    fn other_names_are_not_found() {
        for raw in [
            &b""[..],
            b"x",
            b"x-foo",
            b"hos",
            b"hostt",
            b"\xff",
            b"content-typ\x05",
            b"content\rtype",
        ] {
            assert!(KnownName::find(raw).is_none(), "{}", raw.escape_ascii());
        }
    }

    proptest::proptest! {
        #[test]
        fn short_texts_compare_as_slices_do(a in "[ab]{0,20}", b in "[ab]{0,20}", at: usize) {
            proptest::prop_assert_eq!(is_same(a.as_bytes(), b.as_bytes()), a == b);
            proptest::prop_assert!(is_same(a.as_bytes(), a.clone().as_bytes()));
            let mut other = a.clone().into_bytes();
            if let Some(at) = at.checked_rem(other.len()) {
                other[at] = b'c';
                proptest::prop_assert!(!is_same(a.as_bytes(), &other));
            }
        }
    }

    #[test]
    fn probing_is_short() {
        let probes: usize = KNOWN
            .iter()
            .enumerate()
            .map(|(i, known)| {
                let first = slot_of(known.lower.as_bytes());
                (0..=u8::MAX)
                    .position(|n| usize::from(SLOTS[usize::from(first.wrapping_add(n))]) == i)
                    .unwrap()
            })
            .sum();
        assert!(
            probes < KNOWN.len(),
            "{probes} extra probes for {} names",
            KNOWN.len()
        );
    }

    fn assert_parsed_as_by_http(raw: &[u8]) {
        let ours = Name::parse(raw).map(|parsed| parsed.name);
        let theirs = HeaderName::from_bytes(raw);
        assert_eq!(ours.ok(), theirs.ok(), "{}", raw.escape_ascii());
    }

    #[test]
    fn parsing_agrees_with_http() {
        for raw in [
            &b"Host"[..],
            b"x-foo",
            b"X-Foo",
            b"",
            b"a b",
            b"a:",
            b"\xc3\xa9",
            b"a\0",
        ] {
            assert_parsed_as_by_http(raw);
        }
        for byte in 0..=u8::MAX {
            assert_parsed_as_by_http(&[b'a', byte]);
        }
    }

    #[test]
    fn static_names_agree_with_others() {
        let long = |len| -> &'static str { "n".repeat(len).leak() };
        let ascii =
            (0..=127).map(|byte: u8| -> &'static str { char::from(byte).to_string().leak() });
        let others = [
            "",
            "x-foo",
            "X-Foo",
            "Host",
            "host",
            "x foo",
            "\u{e9}",
            long(65_535),
            long(65_536),
        ];
        for raw in ascii.chain(others) {
            let ours = Name::parse_static(raw).map(|parsed| parsed.name);
            let theirs = HeaderName::from_bytes(raw.as_bytes());
            assert_eq!(ours.ok(), theirs.ok(), "{raw}");
        }
    }

    #[test]
    fn parsing_tells_what_is_known() {
        for (raw, known) in [("Host", true), ("x-request-id", true), ("x-foo", false)] {
            assert_eq!(
                Name::parse(raw.as_bytes()).unwrap().known.is_some(),
                known,
                "{raw}"
            );
            assert_eq!(
                Name::parse_static(raw).unwrap().known.is_some(),
                known,
                "{raw}"
            );
            let name = HeaderName::from_static(raw.to_lowercase().leak());
            assert_eq!(Name::from(name).known.is_some(), known, "{raw}");
        }
    }
}
