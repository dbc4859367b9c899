//! Field values from bytes that nobody checked.

use bytes::Bytes;
use http::HeaderValue;

/// Makes a field value of received bytes, without a copy when they are a valid value.
///
/// Line folding (a line break, with the spaces and tabs around it; RFC 9112 section 5.2) becomes one space,
/// and none at the beginning or end. Each other control character except tab, CR and NUL among them (RFC 9110
/// section 5.5), becomes a space. So whatever the bytes are, the value cannot end its field line.
pub fn header_value_from_raw(raw: impl Into<Bytes>) -> HeaderValue {
    let raw = raw.into();
    if has_refused(&raw) {
        return cleaned(&raw);
    }
    HeaderValue::from_maybe_shared(raw).unwrap_or_else(|_| empty())
}

/// Makes a field value like [`header_value_from_raw`], by a copy of the bytes.
pub fn header_value_from_slice(raw: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(raw).unwrap_or_else(|_| cleaned(raw))
}

/// Makes a copy of a field value that shares no memory with it.
///
/// A value of a received head is a slice of the buffer that the head was read into, and so is its clone: who keeps one
/// keeps all of the buffer, which is 4 KiB or more. What is kept for longer than the request is copied by this.
///
/// ```
/// use pingora_http::{detach, RequestHeader};
///
/// let mut request = RequestHeader::build("GET", b"/", None)?;
/// request.insert_header("User-Agent", "curl")?;
/// let kept = detach(&request.headers["user-agent"]);
/// assert_eq!(kept, "curl");
/// # Ok::<(), Box<pingora_error::Error>>(())
/// ```
pub fn detach(value: &HeaderValue) -> HeaderValue {
    let bytes = Bytes::copy_from_slice(value.as_bytes());
    let mut copy = HeaderValue::from_maybe_shared(bytes).unwrap_or_else(|_| empty());
    copy.set_sensitive(value.is_sensitive());
    copy
}

/// Returns what is returned for bytes that a value refuses after they were found, or made, acceptable: it does not
/// happen, and would do no harm.
fn empty() -> HeaderValue {
    HeaderValue::from_static("")
}

/// Returns whether a value cannot have this byte.
fn is_refused(byte: &u8) -> bool {
    *byte != b'\t' && byte.is_ascii_control()
}

/// Returns whether a value cannot have these bytes; eight at a time, because this is asked of each received field.
pub(crate) fn has_refused(raw: &[u8]) -> bool {
    let is_suspect = match raw.last_chunk() {
        // The last eight may overlap those before them.
        Some(end) => {
            let mut words = raw.chunks_exact(8).filter_map(|word| word.first_chunk());
            has_control(end) || words.any(has_control)
        }
        None => true,
    };
    is_suspect && raw.iter().any(is_refused)
}

/// Returns whether there is a control character, tab included, among eight bytes.
fn has_control(bytes: &[u8; 8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x80 * ONES;
    let word = u64::from_ne_bytes(*bytes);
    // The lowest byte below the one taken away borrows, and so gets its top bit set.
    let below = |word: u64, least: u64| word.wrapping_sub(least * ONES) & !word & TOPS;
    below(word, 0x20) | below(word ^ (0x7f * ONES), 1) != 0
}

fn cleaned(raw: &[u8]) -> HeaderValue {
    let mut value = Vec::with_capacity(raw.len());
    let mut folded = false;
    let mut rest = raw;
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            b'\n' => {
                trim_end(&mut value);
                rest = trim_start(rest);
                folded = true;
            }
            // The first half of a line break goes with it; elsewhere CR is like any other.
            b'\r' if rest.starts_with(b"\n") => {}
            byte => {
                if std::mem::take(&mut folded) && !value.is_empty() {
                    value.push(b' ');
                }
                value.push(if is_refused(byte) { b' ' } else { *byte });
            }
        }
    }
    HeaderValue::from_maybe_shared(Bytes::from(value)).unwrap_or_else(|_| empty())
}

fn trim_end(value: &mut Vec<u8>) {
    while let Some(b' ' | b'\t') = value.last() {
        value.pop();
    }
}

fn trim_start(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for (raw, expected) in [
            (&b""[..], &b""[..]),
            (b"ab", b"ab"),
            (b"  a\tb ", b"  a\tb "),
            (b"\xff\x80", b"\xff\x80"),
            (b"a\r\n b", b"a b"),
            (b"a\r\nb", b"a b"),
            (b"a\nb", b"a b"),
            (b"a \t\r\n\t  b", b"a b"),
            (b"a\r\n\r\n \r\nb", b"a b"),
            (b"\r\n a", b"a"),
            (b"a\r\n", b"a"),
            (b"a\rb", b"a b"),
            (b"\0x", b" x"),
            (b"a\x01b\x1f\x7f", b"a b  "),
            (b"a\r\nSet-Cookie: x\r\n\r\n", b"a Set-Cookie: x"),
        ] {
            let name = raw.escape_ascii();
            assert_eq!(header_value_from_slice(raw).as_bytes(), expected, "{name}");
            assert_eq!(
                header_value_from_raw(raw.to_vec()).as_bytes(),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn refused_bytes_are_found_wherever_they_are() {
        for len in 1..=20 {
            for at in 0..len {
                for byte in 0..=u8::MAX {
                    for other in [b'x', b' ', b'\t', 0xff, 0x80, 0x7e] {
                        let mut raw = vec![other; len];
                        raw[at] = byte;
                        assert_eq!(
                            has_refused(&raw),
                            HeaderValue::from_bytes(&raw).is_err(),
                            "{raw:?}"
                        );
                    }
                }
            }
        }
        assert!(!has_refused(b""));
    }

    #[test]
    fn a_detached_value_is_a_copy() {
        let head = Bytes::from_static(b"Name: value\xff\r\n");
        let mut value = header_value_from_raw(head.slice(6..12));
        value.set_sensitive(true);
        let copy = detach(&value);
        assert_eq!(copy, value);
        assert!(copy.is_sensitive());
        assert_ne!(copy.as_bytes().as_ptr(), value.as_bytes().as_ptr());
        assert_eq!(detach(&empty()), "");
    }

    #[test]
    fn a_valid_value_is_not_copied() {
        let head = Bytes::from_static(b"Name: value\r\n");
        let value = header_value_from_raw(head.slice(6..11));
        assert_eq!(value.as_bytes().as_ptr(), head[6..].as_ptr());
    }
}
