//! White space around field values. HTTP/1.1 lets it stand there, HTTP/2 has it make a message malformed (RFC 9113
//! section 8.2.1), and neither has it mean anything.

use http::header::{HeaderMap, HeaderValue};

/// Returns whether a value begins or ends with white space.
pub(super) fn is_padded(value: &[u8]) -> bool {
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    space(value.first()) || space(value.last())
}

/// Takes it away from all values.
pub(super) fn trim(fields: &mut HeaderMap) {
    if fields.values().any(|value| is_padded(value.as_bytes())) {
        trim_padded(fields);
    }
}

#[cold]
fn trim_padded(fields: &mut HeaderMap) {
    for value in fields.values_mut() {
        if !is_padded(value.as_bytes()) {
            continue;
        }
        // A part of a value is one.
        if let Ok(mut trimmed) = HeaderValue::from_bytes(value.as_bytes().trim_ascii()) {
            trimmed.set_sensitive(value.is_sensitive());
            *value = trimmed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_trimmed() {
        let rows = [
            ("", ""),
            ("a", "a"),
            ("a b\tc", "a b\tc"),
            (" a", "a"),
            ("a\t", "a"),
            ("\t  a b \t ", "a b"),
            (" ", ""),
            ("\t \t", ""),
            (" \u{a0} ", "\u{a0}"),
        ];
        let mut fields = HeaderMap::new();
        for (value, _) in rows {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            fields.append("x", value);
        }
        let mut secret = HeaderValue::from_static(" s");
        secret.set_sensitive(true);
        fields.insert("y", secret);
        trim(&mut fields);
        let trimmed: Vec<&[u8]> = fields.get_all("x").iter().map(|v| v.as_bytes()).collect();
        assert_eq!(trimmed, rows.map(|(_, trimmed)| trimmed.as_bytes()));
        assert_eq!(fields["y"], "s");
        assert!(fields["y"].is_sensitive());
    }
}
