//! The header of a response.

use crate::case_header_name::CaseHeaderName;
use crate::fields::{self, CaseMap, HeaderNameVariant, RawFields};
use crate::internal::{MessageHead, ResponseHead};
use crate::into_case_header_name::IntoCaseHeaderName;
use crate::names::{Index, Names};
use bytes::BufMut;
use http::header::{AsHeaderName, HeaderName, HeaderValue, CONTENT_LENGTH};
use http::response::Parts;
use http::{Extensions, Response, StatusCode, Version};
use pingora_error::{Error, ErrorType::InvalidHTTPHeader, OrErr, Result};
use std::ops::Deref;

/// The header of an HTTP response: status line and fields.
///
/// Reads as [`http::response::Parts`]; changes go through methods.
///
/// ```
/// use pingora_http::ResponseHeader;
///
/// let mut response = ResponseHeader::build(404, None)?;
/// response.set_content_length(0)?;
/// assert_eq!(response.get_reason_phrase(), Some("Not Found"));
///
/// let mut wire = Vec::new();
/// response.header_to_h1_wire(&mut wire);
/// assert_eq!(wire, b"Content-Length: 0\r\n");
/// # Ok::<(), Box<pingora_error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ResponseHeader {
    pub(crate) parts: Parts,
    pub(crate) index: Index,
    pub(crate) cases: Option<CaseMap>,
    /// The reason phrase where it is not the usual one of the status.
    pub(crate) reason_phrase: Option<Box<str>>,
}

impl ResponseHeader {
    /// Makes a header that keeps the spelling of its field names.
    ///
    /// `size_hint` is how many fields to make room for: 8 when `None`, never more than 4096. The version is
    /// HTTP/1.1.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when the code is not from 100 to 999.
    pub fn build(code: impl TryInto<StatusCode>, size_hint: Option<usize>) -> Result<Self> {
        let mut header = Self::build_no_case(code, size_hint)?;
        header.cases = Some(CaseMap::default());
        Ok(header)
    }

    /// Makes a header like [`build`](Self::build), except that names lose their spelling: what HTTP/2 needs,
    /// where all names are in lower case.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when the code is not from 100 to 999.
    pub fn build_no_case(code: impl TryInto<StatusCode>, size_hint: Option<usize>) -> Result<Self> {
        let status = status_code(code)?;
        Ok(Self::from_status(status, None, size_hint))
    }

    fn receive_reason_phrase(&mut self, reason: &[u8]) {
        if self.parts.status == StatusCode::OK && reason == b"OK" {
            return; // As most are.
        }
        if self.parts.status.canonical_reason().map(str::as_bytes) == Some(reason) {
            return;
        }
        if let Ok(reason) = std::str::from_utf8(reason) {
            if is_reason_phrase(reason) {
                self.reason_phrase = Some(reason.into());
            }
        }
    }

    pub(crate) fn from_status(
        status: StatusCode,
        cases: Option<CaseMap>,
        size_hint: Option<usize>,
    ) -> Self {
        // The only way to make `Parts`; it allocates nothing.
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = status;
        crate::make_room(&mut parts.headers, size_hint);
        ResponseHeader {
            parts,
            index: Index::default(),
            cases,
            reason_phrase: None,
        }
    }

    /// Adds a field behind those that have the same name, and tells whether there were any.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when name or value are not valid, or when there are too many fields.
    pub fn append_header(
        &mut self,
        name: impl IntoCaseHeaderName,
        value: impl TryInto<HeaderValue>,
    ) -> Result<bool> {
        fields::append(
            &mut self.parts.headers,
            &mut self.index,
            &mut self.cases,
            name,
            value,
        )
    }

    /// Gives access to the fields, to append received ones as they are.
    pub fn raw_fields(&mut self) -> RawFields<'_> {
        RawFields {
            headers: &mut self.parts.headers,
            index: &mut self.index,
            cases: &mut self.cases,
        }
    }

    /// Sets a field: every other field of this name goes, and its spelling too.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when name or value are not valid, or when there are too many fields.
    pub fn insert_header(
        &mut self,
        name: impl IntoCaseHeaderName,
        value: impl TryInto<HeaderValue>,
    ) -> Result<()> {
        fields::insert(
            &mut self.parts.headers,
            &mut self.index,
            &mut self.cases,
            name,
            value,
        )
    }

    /// Removes every field of a name and returns the value of the first, `None` when there is none.
    pub fn remove_header<'a, N: ?Sized>(&mut self, name: &'a N) -> Option<HeaderValue>
    where
        &'a N: 'a + AsHeaderName,
    {
        fields::remove(
            &mut self.parts.headers,
            &mut self.index,
            &mut self.cases,
            name,
        )
    }

    /// Removes every field of a name, and tells whether there was one. It costs less than
    /// [`remove_header`](Self::remove_header), which finds a name by whatever it may be looked up by.
    pub fn remove_named(&mut self, name: &HeaderName) -> bool {
        fields::remove_named(
            &mut self.parts.headers,
            &mut self.index,
            &mut self.cases,
            name,
        )
    }

    /// Writes the fields in HTTP/1 wire form, each as `Name: value` and CRLF: neither the status line nor
    /// the empty line at the end.
    ///
    /// Names are spelled as they were given. Where that is not kept, see [`has_case`](Self::has_case),
    /// standard names are written like "Content-Type" and all others in lower case.
    pub fn header_to_h1_wire(&self, buf: &mut impl BufMut) {
        fields::write_h1(&self.parts.headers, &self.index, self.cases.as_ref(), buf);
    }

    /// Calls `f` with each field; the values of one name come in their order.
    ///
    /// # Errors
    ///
    /// The first error of `f`, after which it is not called again.
    pub fn map<F: FnMut(HeaderNameVariant<'_>, &HeaderValue) -> Result<()>>(
        &self,
        f: F,
    ) -> Result<()> {
        fields::map(&self.parts.headers, &self.index, self.cases.as_ref(), f)
    }

    /// Each field with the spelling of its name; yields nothing when spellings are not kept.
    pub fn case_header_iter(&self) -> impl Iterator<Item = (&CaseHeaderName, &HeaderValue)> + '_ {
        fields::case_iter(&self.parts.headers, &self.index, self.cases.as_ref())
    }

    /// Returns whether the header keeps the spelling of its field names.
    pub fn has_case(&self) -> bool {
        self.cases.is_some()
    }

    /// Sets the status. A reason phrase of one's own stays, the usual one follows the status.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when the code is not from 100 to 999.
    pub fn set_status(&mut self, status: impl TryInto<StatusCode>) -> Result<()> {
        self.parts.status = status_code(status)?;
        Ok(())
    }

    /// Sets the version.
    pub fn set_version(&mut self, version: Version) {
        self.parts.version = version;
    }

    /// Sets the reason phrase; `None`, or the usual one of the status itself, returns to the usual one.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader`, with nothing changed, for control characters other than tab, with which the
    /// status line could be ended early (RFC 9112 section 4).
    pub fn set_reason_phrase(&mut self, reason_phrase: Option<&str>) -> Result<()> {
        match reason_phrase {
            Some(reason) if !is_reason_phrase(reason) => {
                return Error::e_explain(InvalidHTTPHeader, "control character in reason phrase");
            }
            Some(reason) => self.keep_reason_phrase(reason),
            None => self.reason_phrase = None,
        }
        Ok(())
    }

    fn keep_reason_phrase(&mut self, reason: &str) {
        let usual = self.parts.status.canonical_reason() == Some(reason);
        self.reason_phrase = (!usual).then(|| reason.into());
    }

    /// The reason phrase: the one that was set, else the usual one of the status, if it has any.
    pub fn get_reason_phrase(&self) -> Option<&str> {
        match &self.reason_phrase {
            Some(reason) => Some(reason),
            None => self.parts.status.canonical_reason(),
        }
    }

    /// Sets Content-Length to `len` bytes.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when there are too many fields.
    pub fn set_content_length(&mut self, len: usize) -> Result<()> {
        self.insert_header(CONTENT_LENGTH, len)
    }

    /// Copies what the header shares with the buffer that it was received in, as [`detach`](crate::detach) does for one
    /// value: for a header that is kept after its exchange.
    pub fn detach(&mut self) {
        for value in self.parts.headers.values_mut() {
            *value = crate::detach(value);
        }
    }

    /// The extensions, for changing them.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.parts.extensions
    }

    /// A copy of the `http` parts; it has neither spellings nor a reason phrase.
    pub fn as_owned_parts(&self) -> Parts {
        self.parts.clone()
    }
}

fn status_code(code: impl TryInto<StatusCode>) -> Result<StatusCode> {
    code.try_into()
        .explain_err(InvalidHTTPHeader, |_| "invalid status")
}

/// Returns whether a text has only what RFC 9112 section 4 allows in a reason phrase.
fn is_reason_phrase(text: &str) -> bool {
    text.bytes().all(|b| b == b'\t' || !b.is_ascii_control())
}

impl MessageHead for ResponseHeader {
    fn blank() -> Self {
        Self::from_status(StatusCode::OK, Some(CaseMap::default()), Some(0))
    }

    fn forget(&mut self) {
        crate::forget_fields(&mut self.parts.headers, &mut self.cases);
        self.parts.extensions.clear();
        self.index = Index::default();
        self.reason_phrase = None;
    }

    #[inline]
    fn index(&self) -> &Index {
        &self.index
    }

    #[inline]
    fn remove_any(&mut self, names: Names) {
        if self.may_have(names) {
            fields::remove_any(
                &mut self.parts.headers,
                &mut self.index,
                &mut self.cases,
                names,
            );
        }
    }
}

impl ResponseHead for ResponseHeader {
    fn start(&mut self, status: StatusCode, reason: &[u8], version: Version, fields: usize) {
        self.parts.status = status;
        self.parts.version = version;
        self.receive_reason_phrase(reason);
        crate::make_room(&mut self.parts.headers, Some(fields));
    }
}

impl AsRef<Parts> for ResponseHeader {
    fn as_ref(&self) -> &Parts {
        &self.parts
    }
}

impl Deref for ResponseHeader {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl From<Parts> for ResponseHeader {
    /// Makes a header that keeps no spellings.
    fn from(parts: Parts) -> Self {
        ResponseHeader {
            index: Index::from(&parts.headers),
            parts,
            cases: None,
            reason_phrase: None,
        }
    }
}

impl From<ResponseHeader> for Parts {
    fn from(header: ResponseHeader) -> Parts {
        header.parts
    }
}

#[cfg(test)]
mod tests;
