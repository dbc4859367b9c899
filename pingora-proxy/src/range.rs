//! Range requests (RFC 9110 section 14): parts of a response that is there as a whole.
//!
//! [`range_header_filter`] decides and changes the header. Bodies come once and in order, so ranges are
//! served in the order of their bytes, and overlapping ones as one.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use pingora_core::protocols::http::conditional_filter::{
    req_header_as_http_date, resp_header_as_http_date,
};
use pingora_error::Result;
use pingora_http::internal::{MessageHead, Names};
use pingora_http::{RequestHeader, ResponseHeader};

mod body;

pub(crate) use body::RangeBodyFilter;

/// The part of a body that is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeType {
    /// All of it.
    None,
    /// These bytes; the end is not one of them.
    Single(Range<usize>),
    /// Several parts, as `multipart/byteranges`.
    Multi(MultiRangeInfo),
    /// Nothing: no range can be satisfied.
    Invalid,
}

impl RangeType {
    /// Several parts, with a new boundary.
    pub fn new_multi(ranges: Vec<Range<usize>>) -> Self {
        RangeType::Multi(MultiRangeInfo::new(ranges))
    }
}

/// The parts of a `multipart/byteranges` body (RFC 9110 14.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiRangeInfo {
    /// The bytes of each part, in the order in which they are sent.
    ///
    /// A body that cannot be read twice can be cut only if they are in ascending order and do
    /// not overlap.
    pub ranges: Vec<Range<usize>>,
    /// The delimiter of the parts.
    pub boundary: String,
    /// The content type of the whole, which each part repeats.
    pub content_type: Option<String>,
    total_length: Option<usize>,
}

impl MultiRangeInfo {
    /// These parts, with a new boundary.
    pub fn new(ranges: Vec<Range<usize>>) -> Self {
        Self {
            ranges,
            boundary: new_boundary(),
            content_type: None,
            total_length: None,
        }
    }

    /// Sets the content type of the whole.
    pub fn set_content_type(&mut self, content_type: String) {
        self.content_type = Some(content_type);
    }

    /// Sets the length of the whole in bytes; until then parts call it unknown.
    pub fn set_total_length(&mut self, total_length: usize) {
        self.total_length = Some(total_length);
    }

    /// The length of the multipart body in bytes, boundaries and part headers included.
    pub fn calculate_multipart_length(&self) -> usize {
        if self.ranges.is_empty() {
            return 0;
        }
        self.ranges
            .iter()
            .map(|range| self.part_header(range).len().saturating_add(range.len()))
            .fold(self.end().len(), usize::saturating_add)
    }

    /// Returns what stands before the bytes of a part.
    pub(crate) fn part_header(&self, range: &Range<usize>) -> String {
        let boundary = &self.boundary;
        let content_type = match &self.content_type {
            Some(content_type) => format!("Content-Type: {content_type}\r\n"),
            None => String::new(),
        };
        let content_range = content_range(range, self.total_length);
        format!("\r\n--{boundary}\r\n{content_type}Content-Range: {content_range}\r\n\r\n")
    }

    /// Returns what stands after the last part.
    pub(crate) fn end(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary)
    }
}

/// 128 bits that a body cannot know beforehand: the hasher's keys are random.
fn new_boundary() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

fn content_range(range: &Range<usize>, total: Option<usize>) -> String {
    let (first, last) = (range.start, range.end.saturating_sub(1));
    match total {
        Some(total) => format!("bytes {first}-{last}/{total}"),
        None => format!("bytes {first}-{last}/*"),
    }
}

/// Decides which part of a response is sent, and makes its header that of a partial response.
///
/// Only a GET that would be answered by a 200 of known length is considered. The `Range` field is
/// ignored, and the response stays as it is, if its unit is not `bytes`, if it is malformed, if
/// `If-Range` names another representation (RFC 9110 13.1.5), or if it lists several ranges and
/// more than `max_multipart_ranges`; `None` is no limit. Overlapping ranges are sent as one, so a
/// response is never much longer than the whole.
///
/// One range becomes a 206 with `Content-Range`, several become a 206 with a
/// `multipart/byteranges` body, and none that lies within the representation a 416.
pub fn range_header_filter(
    req: &RequestHeader,
    resp: &mut ResponseHeader,
    max_multipart_ranges: Option<usize>,
) -> RangeType {
    if resp.status != StatusCode::OK || !matches!(req.method, Method::GET | Method::HEAD) {
        return RangeType::None;
    }
    let Some(length) = content_length(resp) else {
        return RangeType::None;
    };
    match resp.headers.get(header::ACCEPT_RANGES) {
        Some(units) if units.as_bytes().eq_ignore_ascii_case(b"none") => return RangeType::None,
        Some(_) => {}
        None => {
            // Without room for it the client does not learn of ranges.
            let bytes = HeaderValue::from_static("bytes");
            let _ = resp.raw_fields().append(b"Accept-Ranges", bytes);
        }
    }
    // Most requests are for the whole.
    if !req.may_have(Names::RANGE) || req.method != Method::GET || !if_range_holds(req, resp) {
        return RangeType::None;
    }
    let Some(ranges) = single_value(&req.headers, header::RANGE) else {
        return RangeType::None;
    };
    let mut range = requested(ranges.as_bytes(), length, max_multipart_ranges);
    // The header is refused only if it has no room for one more field.
    match apply(resp, &mut range, length) {
        Ok(()) => range,
        Err(_) => RangeType::None,
    }
}

fn content_length(resp: &ResponseHeader) -> Option<usize> {
    if let Some(length) = resp.index().content_length() {
        return usize::try_from(length).ok();
    }
    // Of a header that was made of parts, no field is known without a look.
    let value = single_value(&resp.headers, header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

/// The value of a field that is there exactly once.
fn single_value(headers: &HeaderMap, name: header::HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).into_iter();
    values.next().filter(|_| values.next().is_none())
}

/// Returns whether the client's part is of this representation: by strong comparison of entity tags, or
/// by a date that is a strong validator (RFC 9110 13.1.5, 8.8.2.2).
fn if_range_holds(req: &RequestHeader, resp: &ResponseHeader) -> bool {
    if !req.headers.contains_key(header::IF_RANGE) {
        return true;
    }
    let Some(validator) = single_value(&req.headers, header::IF_RANGE) else {
        return false;
    };
    let validator = validator.as_bytes().trim_ascii();
    if validator.starts_with(b"W/") {
        return false;
    }
    if validator.starts_with(b"\"") {
        return single_value(&resp.headers, header::ETAG)
            .is_some_and(|tag| tag.as_bytes() == validator);
    }
    let (Ok(Some(since)), Ok(Some(modified))) = (
        req_header_as_http_date(req, header::IF_RANGE),
        resp_header_as_http_date(resp, header::LAST_MODIFIED),
    ) else {
        return false;
    };
    // What was modified in the second in which it was sent may have been modified again in it.
    let is_strong = match resp_header_as_http_date(resp, header::DATE) {
        Ok(Some(date)) => modified < date,
        Ok(None) => true,
        Err(_) => false,
    };
    since == modified && is_strong
}

/// Returns what a `Range` field asks of a representation of `length` bytes.
fn requested(field: &[u8], length: usize, max_ranges: Option<usize>) -> RangeType {
    let Some(specs) = field
        .split_at_checked(b"bytes=".len())
        .filter(|(unit, _)| unit.eq_ignore_ascii_case(b"bytes="))
        .map(|(_, specs)| specs)
    else {
        return RangeType::None;
    };
    let specs = specs
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|spec| !spec.is_empty());
    let mut count = 0;
    let mut ranges = Vec::new();
    for spec in specs {
        count += 1;
        if count > 1 && max_ranges.is_some_and(|max| count > max) {
            return RangeType::None;
        }
        match resolve(spec, length) {
            Spec::Malformed => return RangeType::None,
            Spec::Unsatisfiable => {}
            // Nothing of nothing, which no Content-Range can express.
            Spec::Satisfiable(range) if range.is_empty() => return RangeType::None,
            Spec::Satisfiable(range) => ranges.push(range),
        }
    }
    let mut ranges = in_order(ranges);
    match (count, ranges.len()) {
        (0, _) => RangeType::None,
        (_, 0) => RangeType::Invalid,
        (_, 1) => RangeType::Single(ranges.remove(0)),
        _ => RangeType::new_multi(ranges),
    }
}

enum Spec {
    Malformed,
    Unsatisfiable,
    Satisfiable(Range<usize>),
}

/// `first-last`, `first-` or `-suffix` (RFC 9110 14.1.2).
fn resolve(spec: &[u8], length: usize) -> Spec {
    let Some(dash) = spec.iter().position(|&byte| byte == b'-') else {
        return Spec::Malformed;
    };
    match (&spec[..dash], &spec[dash + 1..]) {
        (b"", suffix) => match position(suffix) {
            None => Spec::Malformed,
            Some(0) => Spec::Unsatisfiable,
            Some(suffix) => Spec::Satisfiable(length.saturating_sub(suffix)..length),
        },
        (first, last) => {
            let last = match last {
                b"" => Some(usize::MAX),
                last => position(last),
            };
            match (position(first), last) {
                (Some(first), Some(last)) if last < first => Spec::Malformed,
                (Some(first), Some(_)) if first >= length => Spec::Unsatisfiable,
                (Some(first), Some(last)) => {
                    Spec::Satisfiable(first..last.saturating_add(1).min(length))
                }
                _ => Spec::Malformed,
            }
        }
    }
}

/// A number that is larger than any length is as good as the largest.
fn position(digits: &[u8]) -> Option<usize> {
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all_digits.then(|| {
        digits.iter().fold(0usize, |value, digit| {
            value
                .saturating_mul(10)
                .saturating_add(usize::from(digit - b'0'))
        })
    })
}

/// The same bytes, each once and in ascending order, which RFC 9110 15.3.7.2 lets a server choose.
fn in_order(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, range| {
        let overlap = next.start < range.end;
        if overlap {
            range.end = range.end.max(next.end);
        }
        overlap
    });
    ranges
}

/// Makes the header that of this part of a representation of `length` bytes.
///
/// # Errors
///
/// If it has no room for another field; it still describes the whole then.
fn apply(resp: &mut ResponseHeader, range: &mut RangeType, length: usize) -> Result<()> {
    match range {
        RangeType::None => {}
        RangeType::Single(range) => {
            let content_range = content_range(range, Some(length));
            resp.insert_header(header::CONTENT_RANGE, content_range)?;
            resp.set_status(StatusCode::PARTIAL_CONTENT)?;
            resp.set_content_length(range.len())?;
        }
        RangeType::Multi(info) => {
            info.set_total_length(length);
            if let Some(content_type) = resp.headers.get(header::CONTENT_TYPE) {
                if let Ok(content_type) = content_type.to_str() {
                    info.set_content_type(content_type.to_string());
                }
            }
            let content_type = format!("multipart/byteranges; boundary={}", info.boundary);
            resp.insert_header(header::CONTENT_TYPE, content_type)?;
            resp.set_status(StatusCode::PARTIAL_CONTENT)?;
            resp.set_content_length(info.calculate_multipart_length())?;
            // Each part has its own.
            resp.remove_header(&header::CONTENT_RANGE);
        }
        RangeType::Invalid => {
            let content_range = format!("bytes */{length}");
            resp.insert_header(header::CONTENT_RANGE, content_range)?;
            resp.set_status(StatusCode::RANGE_NOT_SATISFIABLE)?;
            resp.set_content_length(0)?;
            // They describe the representation, not this response, which no cache may store as
            // if it were one.
            for name in [
                header::CONTENT_TYPE,
                header::CONTENT_ENCODING,
                header::CONTENT_LANGUAGE,
                header::ETAG,
                header::LAST_MODIFIED,
                header::CACHE_CONTROL,
                header::EXPIRES,
                header::AGE,
            ] {
                resp.remove_header(&name);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
