//! Values in a line, none of which can leave its place there.

use std::io::Write as _;

/// Returns whether a value, as nearly all are, has nothing that is written otherwise in either form. It looks at all bytes,
/// many at a time, and does not stop at the first.
pub(super) fn is_harmless(value: &[u8]) -> bool {
    let is_other = |b: u8| !matches!(b, b' '..=b'~') || matches!(b, b'"' | b'\\');
    !value.iter().fold(false, |any, b| any | is_other(*b))
}

/// Writes a value as nginx does: what could end a field or a line as `\xHH`. `-` stands for nothing.
pub(super) fn plain(value: &[u8], to: &mut Vec<u8>) {
    if value.is_empty() {
        to.push(b'-');
        return;
    }
    if is_harmless(value) {
        to.extend_from_slice(value);
        return;
    }
    for &byte in value {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => {
                // Writing to memory does not fail.
                let _ = write!(to, "\\x{byte:02X}");
            }
            _ => to.push(byte),
        }
    }
}

/// Writes a value as a string of JSON (RFC 8259 section 7). What is no UTF-8 becomes U+FFFD.
pub(super) fn json(value: &[u8], to: &mut Vec<u8>) {
    to.push(b'"');
    if is_harmless(value) {
        to.extend_from_slice(value);
    } else {
        for c in String::from_utf8_lossy(value).chars() {
            match c {
                '"' | '\\' => {
                    to.push(b'\\');
                    to.push(c as u8);
                }
                // Line ends of Unicode, at which some readers break a line.
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    let _ = write!(to, "\\u{:04x}", u32::from(c));
                }
                c => to.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
    to.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_leaves_its_field() {
        let mut out = Vec::new();
        plain(b"/\"\r\n\\\xff a", &mut out);
        plain(b"", &mut out);
        assert_eq!(out, b"/\\x22\\x0D\\x0A\\x5C\\xFF a-");
    }

    #[test]
    fn json_is_read_as_what_was_written() {
        let all: String = (0..0x300u32).filter_map(char::from_u32).collect();
        for value in ["", "plain", "\"\\\r\n\u{7f}\u{85}\u{2028}é😀", &all] {
            let mut out = Vec::new();
            json(value.as_bytes(), &mut out);
            assert!(out.iter().all(|b| *b >= b' ' && *b != 0x7f), "{value:?}");
            let read: String = serde_json::from_slice(&out).unwrap();
            assert_eq!(read, value);
        }
        let mut out = Vec::new();
        json(b"a\xffb", &mut out);
        assert_eq!(out, "\"a\u{fffd}b\"".as_bytes());
    }
}
