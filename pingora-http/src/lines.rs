//! Fields for the next hop alone, kept as the lines that are sent.

use http::header::HeaderName;

/// Bytes of lines whose memory a blank header keeps.
const MAX_KEPT: usize = 4096;

/// The lines of fields that nobody on the way reads: each is `name: value` and CRLF.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    text: Vec<u8>,
    /// The end of each line.
    ends: Vec<usize>,
}

impl Lines {
    /// Returns whether a field of this name may be kept as a line: HTTP has no rule for a name that begins so.
    #[inline]
    pub(crate) fn may_have(name: &str) -> bool {
        name.as_bytes().starts_with(b"x-")
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Returns the lines as they are sent.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.text
    }

    pub(crate) fn clear(&mut self) {
        if self.text.capacity() > MAX_KEPT {
            *self = Self::default();
        }
        self.text.clear();
        self.ends.clear();
    }

    /// Adds the line of a field. The value is a valid one.
    #[inline]
    pub(crate) fn add(&mut self, name: &str, value: &[u8]) {
        self.text.reserve(name.len() + value.len() + 4);
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b": ");
        self.text.extend_from_slice(value);
        self.text.extend_from_slice(b"\r\n");
        self.ends.push(self.text.len());
    }

    /// Takes out all lines of a name.
    pub(crate) fn remove(&mut self, name: &HeaderName) {
        let name = name.as_str().as_bytes();
        let (mut start, mut at) = (0, 0);
        while let Some(&end) = self.ends.get(at) {
            let line = &self.text[start..end];
            // The end of a name tells most others apart.
            if line.get(name.len()) == Some(&b':') && line.starts_with(name) {
                self.text.drain(start..end);
                self.ends.remove(at);
                for later in &mut self.ends[at..] {
                    *later -= end - start;
                }
            } else {
                (start, at) = (end, at + 1);
            }
        }
    }

    /// Returns the value of each line of a name.
    pub(crate) fn values_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = move |(of, value): (_, &'a [u8])| (of == name.as_bytes()).then_some(value);
        self.fields().filter_map(named)
    }

    /// Returns name and value of each line.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        self.ends.iter().filter_map(move |&end| {
            let line = &self.text[std::mem::replace(&mut start, end)..end - 2];
            let colon = line.iter().position(|b| *b == b':')?;
            Some((&line[..colon], &line[colon + 2..]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_name_are_taken_out() {
        let mut lines = Lines::default();
        let fields = [
            ("x-a", "1"),
            ("x-ab", ""),
            ("x-a", "a: b"),
            ("x-b", "2"),
            ("x-a", "3"),
        ];
        for (name, value) in fields {
            lines.add(name, value.as_bytes());
        }
        assert_eq!(lines.fields().count(), 5);
        assert_eq!(
            lines.fields().nth(2),
            Some((&b"x-a"[..], &b"a: b"[..])),
            "only the first colon ends a name"
        );
        let values: Vec<_> = lines.values_of("x-a").collect();
        assert_eq!(values, [&b"1"[..], b"a: b", b"3"]);
        lines.remove(&HeaderName::from_static("x-c"));
        lines.remove(&HeaderName::from_static("x-a"));
        assert_eq!(lines.as_slice(), b"x-ab: \r\nx-b: 2\r\n");
        let left: Vec<_> = lines.fields().collect();
        assert_eq!(left, [(&b"x-ab"[..], &b""[..]), (&b"x-b"[..], &b"2"[..])]);
        lines.remove(&HeaderName::from_static("x-ab"));
        lines.remove(&HeaderName::from_static("x-b"));
        assert!(lines.is_empty());
    }
}
