//! The end of a head, and its content (RFC 9112 sections 2 to 5).
//!
//! [`Scanner`] finds the end of a head in bytes that arrive piece by piece, looking at each byte once;
//! [`parse_request`] and [`parse_response`] then read the whole head. Field values are slices of it.

mod common_values;

use std::ops::Range;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, CONTENT_LENGTH, HOST};
use http::{Method, StatusCode, Version};
use pingora_http::authority::{is_http_family_scheme, raw_target_authority, RawTargetAuthority};
use pingora_http::internal::is_valid_host;
use pingora_http::internal::{header_name_from_raw, MessageHead, Names, RequestHead, ResponseHead};
use pingora_http::{RequestHeader, ResponseHeader};

use super::grammar::{self, Leniency};
use super::{empty_line, framing, Refusal};
use crate::free_list::{self, FreeList};
use crate::limits::LIMITS;

/// The limits of a head.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a whole head, the empty lines before it included.
    pub head: usize,
    /// Bytes of a request target.
    pub target: usize,
    /// Lines may end in LF alone.
    pub lenient_line_ends: bool,
}

/// Fields that room is made for before they are counted.
const EXPECTED_FIELDS: usize = 8;

impl Default for Limits {
    /// Those of a request.
    fn default() -> Self {
        Limits {
            head: LIMITS.request_head_bytes,
            target: LIMITS.request_target_bytes,
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

/// The bytes of a request line beside its target: the method, two spaces, the version, the line end.
const AROUND_TARGET: usize = 32;

/// Looks for the empty line that ends a head.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scanner {
    /// Everything before is looked at.
    scanned: usize,
    /// The start of the current line.
    line: usize,
    /// The start of the first line that is not empty.
    start: usize,
}

/// The place of a head in the bytes that were scanned.
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
        while let Some(lf) = grammar::find(buf, self.scanned, b'\n') {
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

    /// Returns whether the first line, or all, is too long when it reaches to `end` at least.
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
        if end > limits.head {
            Err(Refusal::HeadTooLarge)
        } else {
            Ok(())
        }
    }

    /// Returns whether a byte of a head (and not only of empty lines before it) has been seen.
    pub fn begun(&self, buf: &[u8]) -> bool {
        buf[self.start..].iter().any(|b| *b != b'\r' && *b != b'\n')
    }
}

/// The end of a head that begins and ends in `buf`, if no limit and no empty line before it need a closer look.
fn whole(buf: &[u8], limits: &Limits) -> Option<usize> {
    if limits.lenient_line_ends || matches!(buf.first()?, b'\r' | b'\n') {
        return None;
    }
    let end = empty_line::end(buf)?;
    (end <= limits.target.min(limits.head)).then_some(end)
}

/// Returns whether a line ends in LF alone.
pub(super) fn has_bare_line_end(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|lf| lf == 0 || head[lf - 1] != b'\r')
}

/// Reads a request head that [`Scanner`] found. Where its target names an authority, Host says the same afterwards.
///
/// # Errors
/// Everything that [`Refusal`] names for a request, framing included. Host is not looked at: see [`check_host`].
pub fn parse_request(
    head: &Bytes,
    limits: &Limits,
) -> Result<(Box<RequestHeader>, framing::Framing), Refusal> {
    read_request(head, limits).map_err(|refusal| line_end_first(head, limits, refusal))
}

/// Prefers, of the faults of a head, a wrong line end.
#[cold]
fn line_end_first(head: &[u8], limits: &Limits, refusal: Refusal) -> Refusal {
    if !limits.lenient_line_ends && has_bare_line_end(head) {
        Refusal::BareLineEnd
    } else {
        refusal
    }
}

#[inline(never)] // Else registers are short in what it is called from, and in it.
fn read_request(
    head: &Bytes,
    limits: &Limits,
) -> Result<(Box<RequestHeader>, framing::Framing), Refusal> {
    let lenient = Leniency {
        line_ends: limits.lenient_line_ends,
        fields: false,
    };
    let line = grammar::request_line(head, lenient)?;
    if line.target.len() > limits.target {
        return Err(Refusal::TargetTooLong);
    }
    let version = line.version;
    let method = match &head[line.method] {
        b"GET" => Method::GET,
        method => Method::from_bytes(method).map_err(|_| Refusal::RequestLine)?,
    };
    let in_origin_form = head[line.target.start] == b'/';
    let target = match &head[line.target.clone()] {
        // The most usual one: no slice of the head, and so nothing to count.
        b"/" => Bytes::from_static(b"/"),
        _ => head.slice(line.target),
    };
    let mut request = blank_request();
    let started = request.start(method, target, version, EXPECTED_FIELDS);
    started.map_err(|_| Refusal::RequestLine)?;
    let mut fields = request.raw_fields();
    read_fields(head, line.next, lenient, |name, value| {
        let added = fields.append(name, value);
        added.map(|_| ()).map_err(|_| Refusal::FieldName)
    })?;
    let framing = framing::request(version, &*request)?;
    if !in_origin_form {
        adopt_authority(&mut request)?;
    }
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
    read_response(head).map_err(|refusal| line_end_first(head, &Limits::response(), refusal))
}

fn read_response(head: &Bytes) -> Result<Box<ResponseHeader>, Refusal> {
    let lenient = Leniency {
        line_ends: false,
        fields: true,
    };
    let line = grammar::status_line(head, lenient)?;
    let status = StatusCode::from_u16(line.code).map_err(|_| Refusal::StatusLine)?;
    let mut response = blank_response();
    let reason = &head[line.reason];
    response.start(status, reason, line.version, EXPECTED_FIELDS);
    let mut fields = response.raw_fields();
    read_fields(head, line.next, lenient, |name, value| {
        let added = fields.append(name, value);
        added.map(|_| ()).map_err(|_| Refusal::FieldName)
    })?;
    Ok(response)
}

/// Reads the fields of a trailer section, its final empty line included.
pub fn parse_trailers(section: &Bytes) -> Result<HeaderMap, Refusal> {
    let mut trailers = HeaderMap::new();
    let read = read_fields(section, 0, Leniency::default(), |name, value| {
        let name = header_name_from_raw(name).map_err(|_| Refusal::FieldName)?;
        let added = trailers.try_append(name, value);
        added.map(|_| ()).map_err(|_| Refusal::TooManyFields)
    });
    read.map(|()| trailers).map_err(|_| Refusal::Trailer)
}

/// Calls `add` with each field from `at` on, to the end of the head.
#[inline(always)]
fn read_fields(
    head: &Bytes,
    mut at: usize,
    lenient: Leniency,
    mut add: impl FnMut(&[u8], HeaderValue) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut fields = 0;
    while let Some(line) = grammar::field_line(head, at, lenient)? {
        fields += 1;
        if fields > LIMITS.head_fields {
            return Err(Refusal::TooManyFields);
        }
        at = line.next;
        let name = &head[line.name];
        let bytes = &head[line.value.clone()];
        // No `Result` on the way: a value or a refusal would be put together and taken apart again.
        let value = match common_values::value(bytes) {
            Some(common) => common,
            None if line.folded => unfolded(bytes).ok_or(Refusal::FieldValue)?,
            None => slice(head, line.value),
        };
        add(name, value)?;
    }
    Ok(())
}

/// A value that is a slice of the head.
#[inline(always)]
#[allow(unsafe_code)]
fn slice(head: &Bytes, value: Range<usize>) -> HeaderValue {
    // SAFETY: the grammar lets only HTAB, SP to `~` and 0x80 to 0xff be bytes of a value that is not folded. These
    // are the bytes that a `HeaderValue` may have. To look at each of them a second time would cost more than all
    // else that is done here; debug builds do.
    unsafe { HeaderValue::from_maybe_shared_unchecked(head.slice(value)) }
}

#[cold]
fn unfolded(value: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_bytes(&unfold(value)).ok()
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

thread_local! {
    static REQUESTS: FreeList<Box<RequestHeader>> = const { FreeList::new() };
    static RESPONSES: FreeList<Box<ResponseHeader>> = const { FreeList::new() };
}

fn blank_request() -> Box<RequestHeader> {
    free_list::take(&REQUESTS).unwrap_or_else(|| Box::new(RequestHeader::blank()))
}

fn blank_response() -> Box<ResponseHeader> {
    free_list::take(&RESPONSES).unwrap_or_else(|| Box::new(ResponseHeader::blank()))
}

/// Has the next request's head take the place of this one.
pub(crate) fn recycle_request(request: Option<Box<RequestHeader>>) {
    if let Some(mut request) = request {
        request.forget();
        free_list::give(&REQUESTS, request);
    }
}

/// Has the next response's head take the place of this one.
pub(crate) fn recycle_response(response: Option<Box<ResponseHeader>>) {
    // A worker that answers from a cache has enough of them.
    if let Some(mut response) = response.filter(|_| !free_list::is_full(&RESPONSES)) {
        response.forget();
        free_list::give(&RESPONSES, response);
    }
}

/// Checks that a request has one Host, and a well-formed one; in HTTP/1.0 there may be none (RFC 9112 section 3.2).
///
/// # Errors
/// [`Refusal::Host`].
#[inline]
pub fn check_host(request: &RequestHeader) -> Result<(), Refusal> {
    let fields = request.index();
    if fields.has_valid_host() || may_lack_host(request) {
        Ok(())
    } else {
        Err(Refusal::Host)
    }
}

/// Returns whether a request has no Host, and need not have one.
fn may_lack_host(request: &RequestHeader) -> bool {
    request.version < Version::HTTP_11 && !request.index().has_any(Names::HOST)
}

/// Has the authority of a target in absolute-form, or of CONNECT, take the place of Host (RFC 9112 section 3.2.2), so
/// that whoever looks at the request sees the one that an origin will. What is to be refused stays as it is.
#[cold]
fn adopt_authority(request: &mut RequestHeader) -> Result<(), Refusal> {
    if check_host(request).is_err() {
        return Ok(());
    }
    let target = request.raw_path();
    let authority = match raw_target_authority(target) {
        _ if request.method == Method::CONNECT => target,
        RawTargetAuthority::Absolute {
            scheme, authority, ..
        } if is_http_family_scheme(scheme) => authority,
        _ => return Ok(()),
    };
    let is_said = request.headers.get(HOST).map(HeaderValue::as_bytes) == Some(authority);
    if is_said || !is_valid_host(authority) {
        return Ok(());
    }
    let authority = HeaderValue::from_bytes(authority).map_err(|_| Refusal::Host)?;
    let set = request.insert_header(HOST, authority);
    set.map_err(|_| Refusal::TooManyFields)
}

#[cfg(test)]
mod tests;
