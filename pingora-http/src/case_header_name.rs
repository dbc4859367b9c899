//! Field names that remember how they were spelled.

use bytes::Bytes;
use std::fmt;

/// Longest name that is stored in place.
///
/// With it a name takes 40 bytes, hardly more than the `Bytes` of a longer one, and copying a header
/// touches no reference count for the names that occur in practice.
const IN_PLACE: usize = 38;

/// A field name in the letter case it was given in.
///
/// Two names are equal when they are spelled alike, byte by byte; use
/// [`HeaderName`](http::header::HeaderName) to compare without regard to case.
#[derive(Clone)]
pub struct CaseHeaderName(Spelling);

#[derive(Clone)]
enum Spelling {
    InPlace { len: u8, bytes: [u8; IN_PLACE] },
    Shared(Bytes),
}

impl CaseHeaderName {
    /// The name as it was spelled.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Spelling::InPlace { len, bytes } => &bytes[..usize::from(*len)],
            Spelling::Shared(bytes) => bytes,
        }
    }

    /// Returns whether this is a spelling of `name`, itself in any letter case.
    pub(crate) fn spells(&self, name: &[u8]) -> bool {
        is_same_name(self.as_slice(), name)
    }

    /// The name for `spelling`, which must not be longer than what is stored in place.
    pub(crate) const fn in_place(spelling: &[u8]) -> Self {
        let mut bytes = [0; IN_PLACE];
        let mut i = 0;
        while i < spelling.len() {
            bytes[i] = spelling[i];
            i += 1;
        }
        CaseHeaderName(Spelling::InPlace {
            len: i as u8,
            bytes,
        })
    }
}

/// Returns whether two names differ in letter case at most.
///
/// Says what `eq_ignore_ascii_case` says, which goes byte by byte: this is done for each field of each head.
pub(crate) fn is_same_name(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    // The last eight bytes overlap those before them where the length is no multiple of eight.
    match (a.last_chunk(), b.last_chunk()) {
        (Some(a_end), Some(b_end)) => {
            let words = a.chunks_exact(8).zip(b.chunks_exact(8));
            lower(a_end) == lower(b_end)
                && words
                    .into_iter()
                    .all(|(a, b)| match (a.first_chunk(), b.first_chunk()) {
                        (Some(a), Some(b)) => lower(a) == lower(b),
                        _ => false,
                    })
        }
        _ => a.eq_ignore_ascii_case(b),
    }
}

/// Eight bytes with all capital letters made small.
fn lower(bytes: &[u8; 8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x80 * ONES;
    let word = u64::from_ne_bytes(*bytes);
    let low_bits = word & !TOPS;
    // Adding to seven bits carries into the eighth, and never into the next byte.
    let from_a = low_bits + (0x80 - b'A' as u64) * ONES;
    let after_z = low_bits + (0x7f - b'Z' as u64) * ONES;
    let capital = from_a & !after_z & !word & TOPS;
    word | (capital >> 2)
}

impl From<&[u8]> for CaseHeaderName {
    fn from(spelling: &[u8]) -> Self {
        if spelling.len() <= IN_PLACE {
            let mut bytes = [0; IN_PLACE];
            bytes[..spelling.len()].copy_from_slice(spelling);
            // The cast cannot cut: the length is at most 38.
            let len = spelling.len() as u8;
            CaseHeaderName(Spelling::InPlace { len, bytes })
        } else {
            CaseHeaderName(Spelling::Shared(Bytes::copy_from_slice(spelling)))
        }
    }
}

impl From<Bytes> for CaseHeaderName {
    fn from(spelling: Bytes) -> Self {
        if spelling.len() <= IN_PLACE {
            spelling[..].into()
        } else {
            CaseHeaderName(Spelling::Shared(spelling))
        }
    }
}

impl AsRef<[u8]> for CaseHeaderName {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for CaseHeaderName {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for CaseHeaderName {}

impl fmt::Debug for CaseHeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaseHeaderName(b\"{}\")", self.as_slice().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::into_case_header_name::IntoCaseHeaderName;
    use http::header::HeaderName;

    #[test]
    fn spelling_is_kept() {
        let long = "X-Long-".repeat(20);
        for spelling in ["", "a", "X-Foo", "content-TYPE", long.as_str()] {
            let bytes = Bytes::from(spelling.to_string());
            assert_eq!(
                bytes.clone().into_case_header_name().as_slice(),
                spelling.as_bytes()
            );
            assert_eq!(spelling.to_string().into_case_header_name(), bytes.into());
            assert_eq!(
                CaseHeaderName::from(spelling.as_bytes()).as_ref(),
                spelling.as_bytes()
            );
        }
    }

    #[test]
    fn the_length_in_place_has_no_gap() {
        for len in IN_PLACE - 1..=IN_PLACE + 1 {
            let spelling = vec![b'N'; len];
            assert_eq!(CaseHeaderName::from(&spelling[..]).as_slice(), spelling);
            assert_eq!(
                CaseHeaderName::from(Bytes::from(spelling.clone())).as_slice(),
                spelling
            );
        }
        assert_eq!(size_of::<CaseHeaderName>(), 40);
    }

    #[test]
    fn comparing_goes_by_ascii_case() {
        for len in [0, 1, 7, 8, 9, 15, 16, 17, 40] {
            let name = vec![b'x'; len];
            assert!(is_same_name(&name, &name));
            assert!(!is_same_name(&name, &vec![b'x'; len + 1]));
            for at in 0..len {
                for (a, b) in
                    (0..=u8::MAX).flat_map(|a| [0, 1, 0x20, 0x7f, 0x80, 0xa0].map(|b| (a, a ^ b)))
                {
                    let (mut left, mut right) = (name.clone(), name.to_ascii_uppercase());
                    (left[at], right[at]) = (a, b);
                    assert_eq!(
                        is_same_name(&left, &right),
                        a.eq_ignore_ascii_case(&b),
                        "{a:#x} {b:#x}"
                    );
                }
            }
        }
    }

    #[test]
    fn names_without_a_spelling_get_the_usual_one() {
        for (name, spelling) in [
            (http::header::ETAG, "ETag"),
            (http::header::CONTENT_TYPE, "Content-Type"),
            (HeaderName::from_static("x-foo"), "x-foo"),
        ] {
            assert_eq!(
                (&name).into_case_header_name().as_slice(),
                spelling.as_bytes()
            );
            assert_eq!(name.into_case_header_name().as_slice(), spelling.as_bytes());
        }
    }

    #[test]
    fn debug_takes_any_byte() {
        let name = CaseHeaderName::from(&b"a\xff\n"[..]);
        assert_eq!(format!("{name:?}"), r#"CaseHeaderName(b"a\xff\n")"#);
    }
}
