//! The normal form of a path, for matching and for what goes upstream.
//!
//! | in the request | becomes |
//! |---|---|
//! | `%41`, of letters, digits, `-` `.` `_` `~` | the character itself |
//! | other encoded bytes | the same, in upper case: `%2F`, `%3B`, `%5C` stay encoded and separate nothing |
//! | bytes of 0x80 and above, `"` `<` `>` `^` `` ` `` `{` `\|` `}` | encoded |
//! | `//` | `/` |
//! | `.` and `..` segments, in any encoding | taken away, with what they lead back over |
//! | `;x=1` at the end of a segment | kept for upstream, and left out for matching |
//! | `..` above the root; `.` or `..` beside `;`, `%3B`, `%2F` or `%5C` | refused |
//! | `%00`, `%` without two hexadecimal digits, controls, a space, `\`, `#`, `?` | refused |
//!
//! What is refused is answered with 400. Letters keep their case.

use std::borrow::Cow;
use std::fmt;

/// A path in its normal form: it begins with `/` and has no dot segment, no empty segment but the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath<'a> {
    path: Cow<'a, str>,
    /// Without parameters, when there are any.
    matched: Option<String>,
}

impl NormalPath<'_> {
    /// Returns the path that goes upstream.
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// Returns the path that routes are compared with: without parameters (`;x=1`).
    pub fn matched(&self) -> &str {
        self.matched.as_deref().unwrap_or(&self.path)
    }

    /// Takes off a prefix of whole segments (`/api`), and returns a path that begins with `/`; `None` when it has
    /// another prefix.
    pub fn strip(&self, prefix: &str) -> Option<&str> {
        let rest = self.matched().strip_prefix(prefix)?;
        if !(rest.is_empty() || rest.starts_with('/')) {
            return None;
        }
        let mut path = self.as_str();
        // Segments that are nothing but parameters are not in what was matched.
        let mut segments = prefix.bytes().filter(|b| *b == b'/').count();
        while segments > 0 {
            let segment = path.strip_prefix('/')?;
            let end = segment.find('/').unwrap_or(segment.len());
            if !segment[..end].starts_with(';') {
                segments -= 1;
            }
            path = &segment[end..];
        }
        Some(if path.is_empty() { "/" } else { path })
    }
}

/// The reasons for which a path has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPath {
    /// It does not begin with `/`.
    NotAbsolute,
    /// A `%` is not followed by two hexadecimal digits.
    Encoding,
    /// It holds `%00`.
    Nul,
    /// It holds this byte, which no path may.
    Byte(u8),
    /// A `..` leads above the root.
    AboveRoot,
    /// A `.` or `..` stands beside `;` or an encoded separator, where servers disagree on what it means.
    HiddenDots,
    /// What a request filled into the path of a rewrite makes a segment `.` or `..`.
    FilledDots,
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAbsolute => f.write_str("the path does not begin with `/`"),
            Self::Encoding => f.write_str("a `%` is not followed by two hexadecimal digits"),
            Self::Nul => f.write_str("the path holds `%00`"),
            Self::Byte(b) => write!(f, "the path holds the byte 0x{b:02x}"),
            Self::AboveRoot => f.write_str("a `..` leads above the root"),
            Self::HiddenDots => {
                f.write_str("a `.` or `..` stands beside `;` or an encoded separator")
            }
            Self::FilledDots => f.write_str("the rewritten path has a segment `.` or `..`"),
        }
    }
}

impl std::error::Error for BadPath {}

/// Brings the path of a request, without its query, into its normal form. Idempotent.
///
/// # Errors
///
/// The path is to be refused with 400.
pub fn normalise(path: &[u8]) -> Result<NormalPath<'_>, BadPath> {
    if path.is_empty() {
        return Ok(unchanged("/"));
    }
    if path[0] != b'/' {
        return Err(BadPath::NotAbsolute);
    }
    match std::str::from_utf8(path) {
        Ok(text) if is_normal(path) => Ok(unchanged(text)),
        _ => rebuild(path),
    }
}

/// Brings a query into the form that is compared, and that goes upstream: bytes of 0x80 and above are encoded, since queries
/// in which they differ are not the same.
pub fn normal_query(query: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(query) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => encoded_query(query),
    }
}

#[cold]
fn encoded_query(query: &[u8]) -> Cow<'static, str> {
    let mut out = String::with_capacity(query.len() + 16);
    for b in query {
        if b.is_ascii() {
            out.push(char::from(*b));
        } else {
            encode(*b, &mut out);
        }
    }
    Cow::Owned(out)
}

fn unchanged(path: &str) -> NormalPath<'_> {
    NormalPath {
        path: path.into(),
        matched: None,
    }
}

/// Tells whether a path is surely in its normal form: the common case.
fn is_normal(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|b| {
        let start = before == b'/';
        before = *b;
        match b {
            b'/' | b'.' => !start,
            b'%' | b';' => false,
            b => is_literal(*b),
        }
    })
}

/// Tells whether a byte stands for itself in a segment (RFC 3986 section 3.3), `;` among them.
pub(super) fn is_literal(b: u8) -> bool {
    is_unreserved(b) || b"!$&'()*+,=:@;".contains(&b)
}

fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~".contains(&b)
}

fn rebuild(path: &[u8]) -> Result<NormalPath<'static>, BadPath> {
    let mut out = String::with_capacity(path.len() + 16);
    let mut open = false;
    for raw in path[1..].split(|b| *b == b'/') {
        let start = out.len();
        out.push('/');
        segment(raw, &mut out)?;
        let made = &out[start + 1..];
        open = true;
        match made {
            "" | "." => out.truncate(start),
            ".." => {
                out.truncate(start);
                let parent = out.rfind('/').ok_or(BadPath::AboveRoot)?;
                out.truncate(parent);
            }
            other if hides_dots(other) => return Err(BadPath::HiddenDots),
            _ => open = false,
        }
    }
    if open {
        out.push('/');
    }
    let matched = out.contains(';').then(|| without_parameters(&out));
    Ok(NormalPath {
        path: out.into(),
        matched,
    })
}

fn segment(raw: &[u8], out: &mut String) -> Result<(), BadPath> {
    let mut rest = raw;
    while let [first, after @ ..] = rest {
        rest = after;
        match *first {
            b'%' => {
                let [high, low, after @ ..] = rest else {
                    return Err(BadPath::Encoding);
                };
                let digit = |b: u8| char::from(b).to_digit(16).ok_or(BadPath::Encoding);
                // Two digits of four bits each.
                let byte = (digit(*high)? << 4 | digit(*low)?) as u8;
                rest = after;
                match byte {
                    0 => return Err(BadPath::Nul),
                    b if is_unreserved(b) => out.push(char::from(b)),
                    b => encode(b, out),
                }
            }
            b if is_literal(b) => out.push(char::from(b)),
            b if b <= b' ' || b == 0x7f || b"\\#?".contains(&b) => return Err(BadPath::Byte(b)),
            b => encode(b, out),
        }
    }
    Ok(())
}

/// Appends `%XX`.
pub(crate) fn encode(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// Tells whether a segment has dots of which some server would make a dot segment.
fn hides_dots(segment: &str) -> bool {
    let parts = segment.split(';').flat_map(|s| s.split("%3B"));
    let mut parts = parts
        .flat_map(|s| s.split("%2F"))
        .flat_map(|s| s.split("%5C"));
    parts.any(|part| part == "." || part == "..")
}

/// Tells whether a segment is `.` or `..`, in any encoding.
pub(super) fn has_dots(path: &str) -> bool {
    path.split('/').any(|segment| {
        let (mut rest, mut dots) = (segment, 0);
        while let Some(after) = ["%2e", "%2E", "."]
            .iter()
            .find_map(|d| rest.strip_prefix(d))
        {
            (rest, dots) = (after, dots + 1);
        }
        rest.is_empty() && matches!(dots, 1 | 2)
    })
}

fn without_parameters(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for segment in path[1..].split('/') {
        let name = segment.split(';').next().unwrap_or("");
        if !name.is_empty() {
            out.push('/');
            out.push_str(name);
        }
    }
    let last = path.rsplit('/').next().unwrap_or("");
    if last.is_empty() || last.starts_with(';') {
        out.push('/');
    }
    out
}
