//! The lines of a head, and what may stand on them (RFC 9112 sections 2 to 5).
//!
//! Each function reads one line of a head and says where its parts are; nothing is copied. Bytes of a message are
//! looked at nowhere else before they are known to be what they should, but for methods and the names of fields, which
//! may hold anything here, line ends included: most are known ones, which it is quicker to recognize than to check.

use std::ops::Range;

use http::Version;

use super::Refusal;

/// The faults that are accepted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Leniency {
    /// Lines that end in LF alone (RFC 9112 section 2.2).
    pub(super) line_ends: bool,
    /// White space before a colon and values that go on in the next line: what an origin is forgiven, and a client
    /// is not (RFC 9112 sections 5.1 and 5.2).
    pub(super) fields: bool,
}

/// The parts of a request line (RFC 9112 section 3).
pub(super) struct RequestLine {
    /// Not checked to be a token, and without SP only.
    pub(super) method: Range<usize>,
    /// Anything but white space and control characters; bytes of 0x80 and above are left to the origin.
    pub(super) target: Range<usize>,
    pub(super) version: Version,
    /// The start of the next line.
    pub(super) next: usize,
}

/// The parts of a status line (RFC 9112 section 4).
pub(super) struct StatusLine {
    pub(super) version: Version,
    pub(super) code: u16,
    pub(super) reason: Range<usize>,
    /// The start of the next line.
    pub(super) next: usize,
}

/// The parts of a field line (RFC 9112 section 5).
pub(super) struct FieldLine {
    /// Not checked to be a token, and without a colon only.
    pub(super) name: Range<usize>,
    /// Without white space around it: HTAB, SP to `~` and 0x80 to 0xff, but for the line breaks of a folded one.
    pub(super) value: Range<usize>,
    /// True if the value stands on several lines.
    pub(super) folded: bool,
    /// The start of the next line.
    pub(super) next: usize,
}

/// Reads a request line.
#[inline]
pub(super) fn request_line(head: &[u8], lenient: Leniency) -> Result<RequestLine, Refusal> {
    let refused = || not_a_request_line(head);
    let method = find(head, 0, b' ').ok_or_else(refused)?;
    let target = method + 1;
    let target_end = stop::<b'!'>(head, target);
    let version = target_end + 1;
    if target == target_end || head.get(target_end) != Some(&b' ') {
        return Err(refused());
    }
    let Some(spoken) = version_at(head, version) else {
        return Err(refused());
    };
    let next = line_end(head, version + VERSION, lenient)?.ok_or(Refusal::RequestLine)?;
    Ok(RequestLine {
        method: 0..method,
        target: target..target_end,
        version: spoken,
        next,
    })
}

/// Reads a status line. The reason, and the space before it, may be missing.
#[inline]
pub(super) fn status_line(head: &[u8], lenient: Leniency) -> Result<StatusLine, Refusal> {
    let version = version_at(head, 0).ok_or(Refusal::Version)?;
    let digits = match head.get(VERSION..VERSION + 4) {
        Some([b' ', digits @ ..]) => digits,
        _ => return Err(Refusal::StatusLine),
    };
    let mut code = 0;
    for digit in digits {
        match digit.wrapping_sub(b'0') {
            digit @ 0..=9 => code = code * 10 + u16::from(digit),
            _ => return Err(Refusal::StatusLine),
        }
    }
    let end = VERSION + 4;
    let reason = match head.get(end) {
        Some(b' ') => end + 1..text_end(head, end + 1),
        _ => end..end,
    };
    let next = match head.get(reason.end..) {
        Some([b'\r', b'\n', ..] | [b'\n', ..]) => line_end(head, reason.end, lenient)?,
        _ => None,
    };
    Ok(StatusLine {
        version,
        code,
        reason,
        next: next.ok_or(Refusal::StatusLine)?,
    })
}

/// Reads the field line at `at`; `None` where the empty line is that ends the head, and the head with it.
#[inline(always)]
pub(super) fn field_line(
    head: &[u8],
    at: usize,
    lenient: Leniency,
) -> Result<Option<FieldLine>, Refusal> {
    if let Some(b'\r' | b'\n') = head.get(at) {
        return match line_end(head, at, lenient)? {
            Some(end) if end == head.len() => Ok(None),
            _ => Err(Refusal::FieldName),
        };
    }
    let colon = find(head, at, b':').ok_or(Refusal::FieldName)?;
    let mut name = at..colon;
    if lenient.fields && may_be_space(head, colon.wrapping_sub(1)) {
        name.end = trimmed(head, at, colon);
    }
    let mut start = colon + 1;
    if head.get(start) == Some(&b' ') {
        start += 1;
    }
    if may_be_space(head, start) {
        start = behind_spaces(head, start);
    }
    let (mut end, mut next) = value_line(head, start, lenient)?;
    let mut folded = false;
    if lenient.fields && may_be_space(head, next) {
        while is_space(head.get(next)) {
            folded = true;
            (end, next) = value_line(head, next, lenient)?;
        }
    }
    if may_be_space(head, end.wrapping_sub(1)) {
        end = trimmed(head, start, end);
    }
    Ok(Some(FieldLine {
        name,
        value: start..end,
        folded,
        next,
    }))
}

/// Returns the end of the text from `at`, and the start of the next line.
#[inline(always)]
fn value_line(head: &[u8], at: usize, lenient: Leniency) -> Result<(usize, usize), Refusal> {
    let end = text_end(head, at);
    match head.get(end..) {
        Some([b'\r', b'\n', ..]) => Ok((end, end + 2)),
        Some([b'\n', ..]) if lenient.line_ends => Ok((end, end + 1)),
        Some([b'\n', ..]) => Err(Refusal::BareLineEnd),
        _ => Err(Refusal::FieldValue),
    }
}

/// One past the line end at `at`; `None` where there is something else.
///
/// # Errors
/// `BareLineEnd` for LF alone, unless that is allowed, and for CR alone.
#[inline]
fn line_end(head: &[u8], at: usize, lenient: Leniency) -> Result<Option<usize>, Refusal> {
    match head.get(at..) {
        Some([b'\r', b'\n', ..]) => Ok(Some(at + 2)),
        Some([b'\n', ..]) if lenient.line_ends => Ok(Some(at + 1)),
        Some([b'\r' | b'\n', ..]) => Err(Refusal::BareLineEnd),
        _ => Ok(None),
    }
}

/// SP and HTAB (RFC 9110 section 5.6.3).
#[inline(always)]
fn is_space(b: Option<&u8>) -> bool {
    matches!(b, Some(b' ' | b'\t'))
}

/// Returns whether a closer look at a byte is worth it, as there seldom is white space: SP or a control character.
#[inline(always)]
fn may_be_space(head: &[u8], at: usize) -> bool {
    head.get(at).is_some_and(|b| *b <= b' ')
}

/// Returns the end of the white space from `at` on.
#[cold]
fn behind_spaces(head: &[u8], mut at: usize) -> usize {
    while is_space(head.get(at)) {
        at += 1;
    }
    at
}

/// Returns the start of the white space that reaches to `end`, at `start` at the earliest.
#[cold]
fn trimmed(head: &[u8], start: usize, mut end: usize) -> usize {
    while end > start && is_space(head.get(end - 1)) {
        end -= 1;
    }
    end
}

/// Bytes of a version.
const VERSION: usize = "HTTP/1.1".len();

#[inline]
fn version_at(head: &[u8], at: usize) -> Option<Version> {
    // As one number, which one instruction compares.
    const HTTP_11: u64 = u64::from_be_bytes(*b"HTTP/1.1");
    const HTTP_10: u64 = u64::from_be_bytes(*b"HTTP/1.0");
    let text = head.get(at..)?.first_chunk::<VERSION>()?;
    match u64::from_be_bytes(*text) {
        HTTP_11 => Some(Version::HTTP_11),
        HTTP_10 => Some(Version::HTTP_10),
        _ => later_version(text),
    }
}

/// A higher minor version is read as the highest one that is spoken here (RFC 9110 section 2.5).
#[cold]
fn later_version(text: &[u8]) -> Option<Version> {
    match text.strip_prefix(b"HTTP/1.") {
        Some(b"2" | b"3" | b"4" | b"5" | b"6" | b"7" | b"8" | b"9") => Some(Version::HTTP_11),
        _ => None,
    }
}

/// Why a request line is none: it may be well-formed but for a version that is not spoken here.
#[cold]
fn not_a_request_line(head: &[u8]) -> Refusal {
    let line = head.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut parts = line.split(|b| *b == b' ');
    let (Some(_), Some(_), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Refusal::RequestLine;
    };
    match version.strip_prefix(b"HTTP/") {
        Some([b'1', b'.', _]) => Refusal::RequestLine,
        Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Refusal::Version
        }
        _ => Refusal::RequestLine,
    }
}

/// Returns the end of the text of a field value, or of a reason phrase, that begins at `at`.
#[inline(always)]
fn text_end(head: &[u8], at: usize) -> usize {
    let mut end = stop::<b' '>(head, at);
    while head.get(end) == Some(&b'\t') {
        end = stop::<b' '>(head, end + 1);
    }
    end
}

const ONES: u64 = u64::MAX / 255;
const TOPS: u64 = ONES << 7;

/// The place of the first of eight bytes whose top bit is set.
#[inline]
fn first(found: u64) -> usize {
    found.trailing_zeros() as usize / 8
}

/// The first place from `at` on of a byte less than `LEAST`, or of DEL: the end if there is none. Eight bytes at a step,
/// since what is looked through is short.
#[inline(always)]
fn stop<const LEAST: u8>(head: &[u8], at: usize) -> usize {
    let mut rest = head.get(at..).unwrap_or_default();
    while let Some((step, behind)) = rest.split_first_chunk() {
        let step = u64::from_le_bytes(*step);
        let less = step.wrapping_sub(ONES * u64::from(LEAST)) & !step;
        let del = step ^ (ONES * 0x7f);
        let del = del.wrapping_sub(ONES) & !del;
        // A byte behind the first that is found may be taken for one wrongly, but none before it.
        let found = (less | del) & TOPS;
        if found != 0 {
            return head.len() - rest.len() + first(found);
        }
        rest = behind;
    }
    let is_end = |b: &u8| *b < LEAST || *b == 0x7f;
    let left = rest.iter().position(is_end).unwrap_or(rest.len());
    head.len() - rest.len() + left
}

/// The first place of a byte from `at` on, looked for in the same way.
#[inline]
pub(super) fn find(head: &[u8], at: usize, byte: u8) -> Option<usize> {
    let mut rest = head.get(at..)?;
    while let Some((step, behind)) = rest.split_first_chunk() {
        let zeros = u64::from_le_bytes(*step) ^ (ONES * u64::from(byte));
        let found = zeros.wrapping_sub(ONES) & !zeros & TOPS;
        if found != 0 {
            return Some(head.len() - rest.len() + first(found));
        }
        rest = behind;
    }
    let left = rest.iter().position(|b| *b == byte)?;
    Some(head.len() - rest.len() + left)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte at every place of a step, with the bytes around it that carry into it or out of it.
    #[test]
    fn steps_find_what_single_bytes_do() {
        for byte in 0..=u8::MAX {
            for other in [0x20, 0x21, 0x7e, 0x80, 0xa0, 0xff] {
                for place in 0..20 {
                    let mut text = [other; 20];
                    text[place] = byte;
                    for at in 0..=20 {
                        let rest = &text[at..];
                        let plain = |least: u8| {
                            let is_end = |b: &u8| *b < least || *b == 0x7f;
                            at + rest.iter().position(is_end).unwrap_or(rest.len())
                        };
                        assert_eq!(stop::<b' '>(&text, at), plain(b' '), "{byte:#x}");
                        assert_eq!(stop::<b'!'>(&text, at), plain(b'!'), "{byte:#x}");
                        let found = rest.iter().position(|b| *b == byte).map(|n| at + n);
                        assert_eq!(find(&text, at, byte), found, "{byte:#x}");
                    }
                }
            }
        }
    }

    #[test]
    fn parts_of_lines() {
        let strict = Leniency::default();
        let head = b"PUT /a HTTP/1.0\r\nX-A:\t b c \r\n\r\n";
        let line = request_line(head, strict).unwrap();
        assert_eq!(&head[line.method], b"PUT");
        assert_eq!(&head[line.target], b"/a");
        assert_eq!(line.version, Version::HTTP_10);
        let field = field_line(head, line.next, strict).unwrap().unwrap();
        assert_eq!(&head[field.name], b"X-A");
        assert_eq!(&head[field.value], b"b c");
        assert!(!field.folded);
        assert!(field_line(head, field.next, strict).unwrap().is_none());

        let head = b"HTTP/1.1 204 No thing\r\nX \t:\r\n a\r\n\tb \r\n\r\n";
        let forgiving = Leniency {
            fields: true,
            ..strict
        };
        let line = status_line(head, strict).unwrap();
        assert_eq!((line.version, line.code), (Version::HTTP_11, 204));
        assert_eq!(&head[line.reason], b"No thing");
        let field = field_line(head, line.next, forgiving).unwrap().unwrap();
        assert_eq!(&head[field.name], b"X");
        assert_eq!(&head[field.value], b"\r\n a\r\n\tb");
        assert!(field.folded);
        assert!(field_line(head, field.next, forgiving).unwrap().is_none());
    }
}
