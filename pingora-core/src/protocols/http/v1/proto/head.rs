//! Where a head ends and what it says (RFC 9112 sections 2 to 5).
//!
//! [`Scanner`] finds the end of a head in bytes that arrive piece by piece, looking at each byte once;
//! [`parse_request`] and [`parse_response`] then read the whole head. Field values are slices of it.

use std::mem::MaybeUninit;
use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, CONTENT_LENGTH};
use http::{Method, StatusCode, Version};
use httparse::{Header, ParserConfig};
use memchr::memmem::Finder;
use pingora_http::{header_name_from_raw, RequestHeader, ResponseHeader};

use super::{framing, Refusal};
use crate::protocols::http::authority::is_valid_host;
use crate::spare::{self, Spare};

/// How much of a head is accepted.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a whole head, the empty lines before it included.
    pub head: usize,
    /// Bytes of a request target.
    pub target: usize,
    /// Lines may end in LF alone.
    pub lenient_line_ends: bool,
}

/// Fields of one head.
pub const MAX_FIELDS: usize = 256;

impl Default for Limits {
    /// Those of a request.
    fn default() -> Self {
        Limits {
            head: (1 << 20) - 1,
            // More than this is no `http::Uri`.
            target: u16::MAX as usize - 1,
            lenient_line_ends: false,
        }
    }
}

impl Limits {
    /// Those of a response, whose first line has no target but may have a reason phrase of any length.
    pub fn response() -> Self {
        Limits {
            target: usize::MAX,
            ..Limits::default()
        }
    }
}

/// What a request line has beside its target: the method, two spaces, the version, the line end.
const AROUND_TARGET: usize = 32;

/// Looks for the empty line that ends a head.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scanner {
    /// Everything before is looked at.
    scanned: usize,
    /// Where the current line begins.
    line: usize,
    /// Where the first line that is not empty begins.
    start: usize,
}

/// The end of a last line and the empty line behind it.
static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// Where a head stands in the bytes that were scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The empty lines before it (RFC 9112 section 2.2 asks to ignore them).
    pub start: usize,
    /// One past the empty line that ends it.
    pub end: usize,
}

impl Scanner {
    /// Looks at what was not looked at before. `None`: the head is not whole yet.
    ///
    /// A head that comes whole, as most do, is found at once and its line ends are left to be looked at while it
    /// is parsed. Else each line is looked at as it comes, so that one that is refused is not waited behind.
    ///
    /// # Errors
    /// A line that ends in LF alone, unless that is allowed; more bytes than a head or its first line may have.
    pub fn scan(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<Found>, Refusal> {
        if self.scanned == buf.len() {
            return Ok(None);
        }
        if self.scanned == 0 {
            if let Some(end) = whole(buf, limits) {
                return Ok(Some(Found { start: 0, end }));
            }
        }
        while let Some(lf) = line_feed(buf, self.scanned) {
            self.check_size(lf + 1, limits)?;
            let has_cr = lf > self.line && buf[lf - 1] == b'\r';
            if !has_cr && !limits.lenient_line_ends {
                return Err(Refusal::BareLineEnd);
            }
            let empty = lf - self.line == usize::from(has_cr);
            let leading = self.line == self.start;
            self.scanned = lf + 1;
            self.line = lf + 1;
            if empty && leading {
                self.start = lf + 1;
            } else if empty {
                return Ok(Some(Found {
                    start: self.start,
                    end: lf + 1,
                }));
            }
        }
        self.scanned = buf.len();
        self.check_size(buf.len(), limits)?;
        Ok(None)
    }

    /// Whether the first line, or all, is too long when it reaches to `end` at least.
    #[inline]
    fn check_size(&self, end: usize, limits: &Limits) -> Result<(), Refusal> {
        if self.line == self.start {
            let most = self
                .start
                .saturating_add(limits.target)
                .saturating_add(AROUND_TARGET);
            // Of two limits, the one that was passed first.
            if end > most && most <= limits.head {
                return Err(Refusal::TargetTooLong);
            }
        }
        match end > limits.head {
            true => Err(Refusal::HeadTooLarge),
            false => Ok(()),
        }
    }

    /// Whether a byte of a head (and not only of empty lines before it) has been seen.
    pub fn begun(&self, buf: &[u8]) -> bool {
        buf[self.start..].iter().any(|b| *b != b'\r' && *b != b'\n')
    }
}

/// The end of a head that begins and ends in `buf`, if no limit and no empty line before it need a closer look.
fn whole(buf: &[u8], limits: &Limits) -> Option<usize> {
    if limits.lenient_line_ends || matches!(buf.first()?, b'\r' | b'\n') {
        return None;
    }
    let end = END.find(buf)? + 4;
    (end <= limits.target.min(limits.head)).then_some(end)
}

/// Whether a line ends in LF alone.
pub(super) fn has_bare_line_end(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|lf| lf == 0 || head[lf - 1] != b'\r')
}

/// Whether the line before each field, and the last one, ends in CR LF. With what httparse takes for a name or a
/// value that is so for all lines, but for those of a folded value.
fn lines_end_well(head: &[u8], fields: &[Header<'_>]) -> bool {
    let before = |field: &Header<'_>| {
        let at = field.name.as_ptr() as usize - head.as_ptr() as usize;
        head.get(..at)
            .is_some_and(|before| before.ends_with(b"\r\n"))
    };
    head.ends_with(b"\r\n\r\n") && fields.iter().all(before)
}

/// The first line feed from `at` on, eight bytes at a step: lines of a head are short, and a search by larger
/// steps takes longer to begin than to find them.
fn line_feed(buf: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    while let Some(step) = buf.get(at..at + 8) {
        let step = step.try_into().unwrap_or_default();
        let zeros = u64::from_le_bytes(step) ^ (ONES * b'\n' as u64);
        // The high bit of the first byte that is zero, and perhaps of others behind it.
        let found = zeros.wrapping_sub(ONES) & !zeros & (ONES << 7);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = buf.get(at..)?;
    rest.iter().position(|b| *b == b'\n').map(|n| at + n)
}

/// Reads a request head that [`Scanner`] found.
///
/// # Errors
/// Everything that [`Refusal`] names for a request, framing and Host included.
pub fn parse_request(
    head: &Bytes,
    limits: &Limits,
) -> Result<(Box<RequestHeader>, framing::Framing), Refusal> {
    read_request(head, limits).map_err(|refusal| line_end_first(head, limits, refusal))
}

/// Of what is wrong with a head, a line end that is.
#[cold]
fn line_end_first(head: &[u8], limits: &Limits, refusal: Refusal) -> Refusal {
    match !limits.lenient_line_ends && has_bare_line_end(head) {
        true => Refusal::BareLineEnd,
        false => refusal,
    }
}

fn read_request(
    head: &Bytes,
    limits: &Limits,
) -> Result<(Box<RequestHeader>, framing::Framing), Refusal> {
    let mut fields = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    match ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, head, &mut fields)
    {
        Ok(httparse::Status::Complete(n)) if n == head.len() => {}
        Ok(_) => return Err(Refusal::RequestLine),
        Err(httparse::Error::Token) => return parse_request_with_any_target(head, limits),
        Err(e) => return Err(request_error(e, head)),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Refusal::RequestLine);
    };
    let line = RequestLine {
        method: method.as_bytes(),
        target: target.as_bytes(),
        version: version(minor),
    };
    request(head, line, parsed.headers, limits)
}

/// What httparse takes for no request line may be one with a target that is not UTF-8.
#[cold]
fn parse_request_with_any_target(
    head: &Bytes,
    limits: &Limits,
) -> Result<(Box<RequestHeader>, framing::Framing), Refusal> {
    let lf = memchr::memchr(b'\n', head).ok_or(Refusal::RequestLine)?;
    let line = head[..lf].strip_suffix(b"\r").unwrap_or(&head[..lf]);
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::RequestLine);
    };
    let version = match version {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        _ if names_other_version(head) => return Err(Refusal::Version),
        _ => return Err(Refusal::RequestLine),
    };
    if target.is_empty() {
        return Err(Refusal::RequestLine);
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let fields = match httparse::parse_headers(&head[lf + 1..], &mut fields) {
        Ok(httparse::Status::Complete((n, fields))) if lf + 1 + n == head.len() => fields,
        Ok(_) => return Err(Refusal::RequestLine),
        Err(e) => return Err(request_error(e, head)),
    };
    let line = RequestLine {
        method,
        target,
        version,
    };
    request(head, line, fields, limits)
}

struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    version: Version,
}

fn request(
    head: &Bytes,
    line: RequestLine<'_>,
    fields: &[Header<'_>],
    limits: &Limits,
) -> Result<(Box<RequestHeader>, framing::Framing), Refusal> {
    if line.target.len() > limits.target {
        return Err(Refusal::TargetTooLong);
    }
    let version = line.version;
    let method = Method::from_bytes(line.method).map_err(|_| Refusal::RequestLine)?;
    let target = match line.target {
        // The most usual one: no slice of the head, and so nothing to count.
        b"/" => Bytes::from_static(b"/"),
        target => head.slice_ref(target),
    };
    if !limits.lenient_line_ends && !lines_end_well(head, fields) {
        return Err(Refusal::BareLineEnd);
    }
    let mut request = blank_request();
    let started = request.start(method, target, version, fields.len());
    started.map_err(|_| Refusal::RequestLine)?;
    let mut host = Hosts::None;
    for field in fields {
        host.note(field);
        request
            .append_raw(field.name.as_bytes(), value(head, field))
            .map_err(|_| Refusal::FieldName)?;
    }
    let framing = framing::request(version, &*request)?;
    host.check(version)?;
    if let framing::Framing::Length(n) = framing {
        if framing::length_is_repeated(&*request) {
            request
                .insert_header(CONTENT_LENGTH, n)
                .map_err(|_| Refusal::ContentLength)?;
        }
    }
    Ok((request, framing))
}

/// Reads a response head that [`Scanner`] found. Its framing also depends on the request, so that
/// [`framing::response`] is a second step.
///
/// White space before a colon is removed and a folded line joined (RFC 9112 sections 5.1 and 5.2).
///
/// # Errors
/// Everything that [`Refusal`] names for a response but its framing.
pub fn parse_response(head: &Bytes) -> Result<Box<ResponseHeader>, Refusal> {
    let mut config = ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true);
    read_response(head, &config, |field| Ok(value(head, field))).or_else(|refusal| {
        if has_bare_line_end(head) {
            return Err(Refusal::BareLineEnd);
        }
        if !has_fold(head) {
            return Err(refusal);
        }
        config.allow_obsolete_multiline_headers_in_responses(true);
        read_response(head, &config, |field| unfolded(head, field))
    })
}

thread_local! {
    static REQUESTS: Spare<Box<RequestHeader>> = const { Spare::new() };
    static RESPONSES: Spare<Box<ResponseHeader>> = const { Spare::new() };
}

fn blank_request() -> Box<RequestHeader> {
    spare::take(&REQUESTS).unwrap_or_else(|| Box::new(RequestHeader::blank()))
}

fn blank_response() -> Box<ResponseHeader> {
    spare::take(&RESPONSES).unwrap_or_else(|| Box::new(ResponseHeader::blank()))
}

/// Has the next request's head take the place of this one.
pub(crate) fn recycle_request(request: Option<Box<RequestHeader>>) {
    if let Some(mut request) = request {
        request.forget();
        spare::give(&REQUESTS, request);
    }
}

/// Has the next response's head take the place of this one.
pub(crate) fn recycle_response(response: Option<Box<ResponseHeader>>) {
    if let Some(mut response) = response {
        response.forget();
        spare::give(&RESPONSES, response);
    }
}

/// Whether a line begins with white space.
fn has_fold(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|lf| matches!(head.get(lf + 1), Some(b' ' | b'\t')))
}

fn read_response(
    head: &Bytes,
    config: &ParserConfig,
    value: impl Fn(&Header<'_>) -> Result<HeaderValue, Refusal>,
) -> Result<Box<ResponseHeader>, Refusal> {
    let mut fields = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    match config.parse_response_with_uninit_headers(&mut parsed, head, &mut fields) {
        Ok(httparse::Status::Complete(n)) if n == head.len() => {}
        Ok(_) => return Err(Refusal::StatusLine),
        Err(e) => return Err(response_error(e)),
    }
    if !lines_end_well(head, parsed.headers) {
        return Err(Refusal::BareLineEnd);
    }
    let (Some(code), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(Refusal::StatusLine);
    };
    let status = StatusCode::from_u16(code).map_err(|_| Refusal::StatusLine)?;
    let reason = parsed.reason.unwrap_or_default().as_bytes();
    let version = version(minor);
    let count = parsed.headers.len();
    let mut response = blank_response();
    response.start(status, reason, version, count);
    for field in parsed.headers.iter() {
        response
            .append_raw(field.name.as_bytes(), value(field)?)
            .map_err(|_| Refusal::FieldName)?;
    }
    Ok(response)
}

/// Reads the fields of a trailer section, its final empty line included.
pub fn parse_trailers(section: &Bytes) -> Result<HeaderMap, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let parsed = match httparse::parse_headers(section, &mut fields) {
        Ok(httparse::Status::Complete((n, parsed))) if n == section.len() => parsed,
        _ => return Err(Refusal::Trailer),
    };
    let mut trailers = HeaderMap::with_capacity(parsed.len());
    for field in parsed {
        let name = header_name_from_raw(field.name.as_bytes()).map_err(|_| Refusal::Trailer)?;
        trailers.append(name, value(section, field));
    }
    Ok(trailers)
}

/// A value that httparse found in `head`, as a slice of it.
#[allow(unsafe_code)]
fn value(head: &Bytes, field: &Header<'_>) -> HeaderValue {
    let value = head.slice_ref(field.value);
    // SAFETY: httparse takes only HTAB, SP to `~` and 0x80 to 0xff for bytes of a value, unless it is told to
    // join folded lines, which `unfolded` is for. These are the bytes that a `HeaderValue` may have. To look at
    // each of them a second time costs more than all else that is done here; debug builds do.
    unsafe { HeaderValue::from_maybe_shared_unchecked(value) }
}

/// A value that may stand on several lines.
fn unfolded(head: &Bytes, field: &Header<'_>) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_maybe_shared(head.slice_ref(field.value))
        .or_else(|_| HeaderValue::from_bytes(&unfold(field.value)))
        .map_err(|_| Refusal::FieldValue)
}

/// A folded value on one line: each fold becomes one SP.
fn unfold(value: &[u8]) -> Vec<u8> {
    let lines = value.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    lines.fold(Vec::with_capacity(value.len()), |mut joined, line| {
        if !joined.is_empty() && !line.is_empty() {
            joined.push(b' ');
        }
        joined.extend_from_slice(line);
        joined
    })
}

/// What a request says of its host (RFC 9112 section 3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hosts {
    None,
    One,
    Bad,
}

impl Hosts {
    fn note(&mut self, field: &Header<'_>) {
        if field.name.eq_ignore_ascii_case("host") {
            *self = match *self {
                Hosts::None if is_valid_host(field.value) => Hosts::One,
                _ => Hosts::Bad,
            };
        }
    }

    fn check(self, version: Version) -> Result<(), Refusal> {
        match self {
            Hosts::One => Ok(()),
            Hosts::None if version < Version::HTTP_11 => Ok(()),
            _ => Err(Refusal::Host),
        }
    }
}

fn version(minor: u8) -> Version {
    match minor {
        0 => Version::HTTP_10,
        _ => Version::HTTP_11,
    }
}

fn request_error(e: httparse::Error, head: &[u8]) -> Refusal {
    match e {
        httparse::Error::Version if names_other_version(head) => Refusal::Version,
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        httparse::Error::HeaderName => Refusal::FieldName,
        httparse::Error::HeaderValue => Refusal::FieldValue,
        httparse::Error::NewLine => Refusal::BareLineEnd,
        _ => Refusal::RequestLine,
    }
}

fn response_error(e: httparse::Error) -> Refusal {
    match e {
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        httparse::Error::HeaderName => Refusal::FieldName,
        httparse::Error::HeaderValue => Refusal::FieldValue,
        httparse::Error::NewLine => Refusal::BareLineEnd,
        httparse::Error::Version => Refusal::Version,
        _ => Refusal::StatusLine,
    }
}

/// Whether a request line is well-formed except that its version is not spoken here.
fn names_other_version(head: &[u8]) -> bool {
    let line = head.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut parts = line.split(|b| *b == b' ');
    let (Some(_), Some(_), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    match version.strip_prefix(b"HTTP/") {
        Some(b"1.0" | b"1.1") => false,
        Some([major, b'.', minor]) => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
