//! A response header that many threads copy.

// Values are not checked again at each copy.
#![allow(unsafe_code)]

use bytes::Bytes;
use http::HeaderValue;
use pingora_error::Result;

use crate::fields::{CaseMap, Lookup, Spelling};
use crate::ResponseHeader;

/// A [`ResponseHeader`] for threads that copy it again and again, such as that of a stored response.
///
/// Clones of a header share its values and count references to them, and each count is memory that all of these
/// threads write. A copy of this has values of its own, in one piece of memory.
///
/// ```
/// use pingora_http::{FrozenResponse, ResponseHeader};
///
/// let mut header = ResponseHeader::build(200, None)?;
/// header.insert_header("ETag", "\"17\"")?;
/// let frozen = FrozenResponse::new(&header)?;
/// assert_eq!(frozen.copy()?.headers, header.headers);
/// # Ok::<(), Box<pingora_error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FrozenResponse {
    /// The fields whose names are known and usually spelled, so that a clone counts nothing; with empty values.
    head: ResponseHeader,
    /// The names of all others as they are spelled, which are added to a copy one by one.
    others: Vec<Box<[u8]>>,
    /// The values of `head` in the order of its map, then those of `others`.
    values: Box<[u8]>,
    /// The end of each value, and whether it is sensitive.
    ends: Vec<(usize, bool)>,
}

impl FrozenResponse {
    /// Makes one of a header.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when there are too many fields, of which a header has none.
    pub fn new(header: &ResponseHeader) -> Result<Self> {
        let mut head = header.without_fields();
        let (mut names, mut rest) = (Vec::new(), Vec::new());
        let mut lookup = Lookup::new(header.cases.as_ref(), &header.index);
        for (name, value) in &header.headers {
            let spelling = match lookup.spelling(name) {
                Spelling::Usual(known) => {
                    let spelling = known.title().as_bytes();
                    head.raw_fields().append(spelling, value.clone())?;
                    continue;
                }
                Spelling::Listed(spelling) => spelling.as_slice(),
                Spelling::Lower => name.as_str().as_bytes(),
            };
            names.push(spelling.into());
            rest.push(value);
        }
        let (mut values, mut ends) = (Vec::new(), Vec::new());
        for value in head.headers.values().chain(rest) {
            values.extend_from_slice(value.as_bytes());
            ends.push((values.len(), value.is_sensitive()));
        }
        for value in head.parts.headers.values_mut() {
            *value = HeaderValue::from_static("");
        }
        Ok(Self {
            head,
            others: names,
            values: values.into(),
            ends,
        })
    }

    /// Makes a copy, which shares no memory with any other.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn copy(&self) -> Result<ResponseHeader> {
        let mut copy = self.head.clone();
        let bytes = Bytes::copy_from_slice(&self.values);
        let mut start = 0;
        let mut values = self.ends.iter().map(|(end, is_sensitive)| {
            let bytes = bytes.slice(std::mem::replace(&mut start, *end)..*end);
            // SAFETY: these are the bytes of a value.
            let mut value = unsafe { HeaderValue::from_maybe_shared_unchecked(bytes) };
            value.set_sensitive(*is_sensitive);
            value
        });
        // A map and its clone have the same order.
        for (place, value) in copy.parts.headers.values_mut().zip(&mut values) {
            *place = value;
        }
        for (spelling, value) in self.others.iter().zip(values) {
            copy.raw_fields().append(spelling, value)?;
        }
        Ok(copy)
    }
}

impl ResponseHeader {
    /// Returns all of it but the fields.
    fn without_fields(&self) -> Self {
        let cases = self.cases.as_ref().map(|_| CaseMap::default());
        let mut head = Self::from_status(self.status, cases, Some(self.headers.len()));
        head.parts.version = self.version;
        head.parts.extensions = self.extensions.clone();
        head.reason_phrase = self.reason_phrase.clone();
        head
    }
}

#[cfg(test)]
mod tests {
    use http::{StatusCode, Version};

    use super::*;
    use crate::internal::{MessageHead, Names};

    fn wire(header: &ResponseHeader) -> String {
        let mut wire = Vec::new();
        header.header_to_h1_wire(&mut wire);
        let text = String::from_utf8(wire).unwrap();
        let mut lines: Vec<_> = text.lines().collect();
        // Fields of one name keep their order, and names need none.
        lines.sort_by_key(|line| line.split(':').next().unwrap().to_ascii_lowercase());
        lines.join("\n")
    }

    #[test]
    fn a_copy_is_what_was_frozen() {
        for keeps_case in [true, false] {
            let mut header = match keeps_case {
                true => ResponseHeader::build(418, None).unwrap(),
                false => ResponseHeader::build_no_case(418, None).unwrap(),
            };
            for (name, value) in [
                ("Content-Length", "20"),
                ("Set-Cookie", "a"),
                ("X-Own", "1"),
                ("etag", "\"17\""),
                ("Set-Cookie", "b"),
                ("Server", ""),
                ("x-OWN", "2"),
                ("VIA", "c"),
                ("Via", "d"),
            ] {
                header.append_header(name, value).unwrap();
            }
            header.set_version(Version::HTTP_10);
            header.set_reason_phrase(Some("Short")).unwrap();
            header.parts.extensions.insert(7u8);
            let frozen = FrozenResponse::new(&header).unwrap();
            for _ in 0..2 {
                let copy = frozen.copy().unwrap();
                assert_eq!(copy.headers, header.headers);
                assert_eq!(wire(&copy), wire(&header));
                assert_eq!(copy.status, StatusCode::IM_A_TEAPOT);
                assert_eq!(copy.version, Version::HTTP_10);
                assert_eq!(copy.get_reason_phrase(), Some("Short"));
                assert_eq!(copy.extensions.get::<u8>(), Some(&7));
                assert_eq!(copy.index().content_length(), Some(20));
                assert!(!copy.may_have(Names::DATE));
            }
        }
    }

    #[test]
    fn a_copy_shares_no_memory_and_keeps_what_is_sensitive() {
        let mut secret = HeaderValue::from_static("s3cret");
        secret.set_sensitive(true);
        let mut header = ResponseHeader::build(200, None).unwrap();
        header.insert_header("ETag", "plain").unwrap();
        header.insert_header("Set-Cookie", secret).unwrap();
        let frozen = FrozenResponse::new(&header).unwrap();
        let (one, other) = (frozen.copy().unwrap(), frozen.copy().unwrap());
        for name in ["etag", "set-cookie"] {
            let [one, other, own] = [&one, &other, &header].map(|head| &head.headers[name]);
            assert_eq!((one, one.is_sensitive()), (own, own.is_sensitive()));
            assert_ne!(one.as_bytes().as_ptr(), other.as_bytes().as_ptr());
        }
    }
}
