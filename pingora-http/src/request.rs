//! The header of a request.

use crate::case_header_name::CaseHeaderName;
use crate::fields::{self, CaseMap, HeaderNameVariant, RawFields};
use crate::internal::{MessageHead, RequestHead};
use crate::into_case_header_name::IntoCaseHeaderName;
use crate::lines::Lines;
use crate::names::{Index, Names};
use crate::target::Target;
use crate::value::has_refused;
use bytes::{BufMut, Bytes};
use http::header::{AsHeaderName, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Extensions, Method, Request, Uri, Version};
use pingora_error::{Error, ErrorType::InvalidHTTPHeader, OrErr, Result};
use std::ops::Deref;
use triomphe::Arc;

/// The header of an HTTP request: request line and fields.
///
/// Reads as [`http::request::Parts`]; changes go through methods. A clone shares everything with the header it was made
/// of until one of the two is changed, which copies it then: extensions too are cloned no earlier.
///
/// ```
/// use pingora_http::RequestHeader;
///
/// let mut request = RequestHeader::build("GET", b"/index.html?lang=en", None)?;
/// request.insert_header("X-Request-ID", "17")?;
/// assert_eq!(request.uri.path(), "/index.html");
/// assert_eq!(request.headers["x-request-id"], "17");
///
/// let mut wire = Vec::new();
/// request.header_to_h1_wire(&mut wire);
/// assert_eq!(wire, b"X-Request-ID: 17\r\n");
/// # Ok::<(), Box<pingora_error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RequestHeader {
    head: Arc<Head>,
    send_end_stream: bool,
}

/// The part that clones share. The copy for the upstream is mostly sent as the client sent it, so none is made until it
/// is known to differ.
#[derive(Clone, Debug)]
struct Head {
    parts: Parts,
    index: Index,
    cases: Option<CaseMap>,
    /// The request target where `parts.uri` does not give it back.
    raw_target: Option<Box<[u8]>>,
    /// Fields that are not among those of `parts`.
    lines: Lines,
}

impl Head {
    fn forget(&mut self) {
        crate::forget_fields(&mut self.parts.headers, &mut self.cases);
        self.parts.method = Method::GET;
        self.parts.uri = Uri::default();
        self.parts.extensions.clear();
        self.index = Index::default();
        self.raw_target = None;
        self.lines.clear();
    }

    fn raw_fields(&mut self) -> RawFields<'_> {
        RawFields {
            headers: &mut self.parts.headers,
            index: &mut self.index,
            cases: &mut self.cases,
        }
    }

    /// Puts lines among the fields.
    #[cold]
    fn settle(&mut self) -> Result<()> {
        let lines = std::mem::take(&mut self.lines);
        for (name, value) in lines.fields() {
            let value = crate::header_value_from_slice(value);
            self.raw_fields().append(name, value)?;
        }
        Ok(())
    }
}

impl RequestHeader {
    /// Makes a header that keeps the spelling of its field names.
    ///
    /// `path` is the request target; [`set_raw_path`](Self::set_raw_path) says what it may be. `size_hint`
    /// is how many fields to make room for: 8 when `None`, never more than 4096. The version is HTTP/1.1.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when the method or the path is not valid.
    pub fn build(
        method: impl TryInto<Method>,
        path: &[u8],
        size_hint: Option<usize>,
    ) -> Result<Self> {
        Self::built(method, path, Some(CaseMap::default()), size_hint)
    }

    /// Makes a header like [`build`](Self::build), except that names lose their spelling: what HTTP/2 needs,
    /// where all names are in lower case.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when the method or the path is not valid.
    pub fn build_no_case(
        method: impl TryInto<Method>,
        path: &[u8],
        size_hint: Option<usize>,
    ) -> Result<Self> {
        Self::built(method, path, None, size_hint)
    }

    fn built(
        method: impl TryInto<Method>,
        path: &[u8],
        cases: Option<CaseMap>,
        size_hint: Option<usize>,
    ) -> Result<Self> {
        let method = method
            .try_into()
            .explain_err(InvalidHTTPHeader, |_| "invalid method")?;
        let target = Target::parse(Bytes::copy_from_slice(path))?;
        Ok(Self::from_target(method, target, cases, size_hint))
    }

    fn from_target(
        method: Method,
        target: Target,
        cases: Option<CaseMap>,
        size_hint: Option<usize>,
    ) -> Self {
        // The only way to make `Parts`; it allocates nothing.
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = method;
        parts.uri = target.uri;
        crate::make_room(&mut parts.headers, size_hint);
        RequestHeader::from(Head {
            parts,
            index: Index::default(),
            cases,
            raw_target: target.raw,
            lines: Lines::default(),
        })
    }

    /// Returns what is to be changed, copied if somebody else has it too.
    #[inline]
    fn change(&mut self) -> &mut Head {
        Arc::make_mut(&mut self.head)
    }

    /// As `change`, for what may meet fields that are kept as lines.
    #[inline]
    fn change_any(&mut self) -> Result<&mut Head> {
        let head = self.change();
        if !head.lines.is_empty() {
            head.settle()?;
        }
        Ok(head)
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
        let head = self.change_any()?;
        fields::append(
            &mut head.parts.headers,
            &mut head.index,
            &mut head.cases,
            name,
            value,
        )
    }

    /// Gives access to the fields, to append received ones as they are.
    pub fn raw_fields(&mut self) -> RawFields<'_> {
        self.change().raw_fields()
    }

    /// Adds a field that nobody but the next hop reads.
    ///
    /// A field whose name begins with `x-` is kept as the line that is sent, which costs a tenth of what a field among
    /// the [`headers`](Parts::headers) does. It is not found there, as long as nothing brings it there:
    /// [`settle_lines`](Self::settle_lines) does, every change by name and the conversion into `Parts`. A field of
    /// another name is one like all.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when the value is not valid, or when there are too many fields.
    pub fn append_line(&mut self, name: &HeaderName, value: &[u8]) -> Result<()> {
        let text = name.as_str();
        if Lines::may_have(text) && !has_refused(value) {
            self.change().lines.add(text, value);
            return Ok(());
        }
        let value = HeaderValue::from_bytes(value);
        let value = value.or_err(InvalidHTTPHeader, "invalid header value")?;
        self.raw_fields().append_named(name, value).map(drop)
    }

    /// Adds a field like [`append_line`](Self::append_line), with the value of the first field of another name, if there
    /// is one.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when there are too many fields.
    pub fn append_line_of(&mut self, name: &HeaderName, of: &HeaderName) -> Result<()> {
        let head = self.change();
        let Some(value) = head.parts.headers.get(of) else {
            return Ok(());
        };
        if Lines::may_have(name.as_str()) {
            head.lines.add(name.as_str(), value.as_bytes());
            return Ok(());
        }
        let value = value.clone();
        self.raw_fields().append_named(name, value).map(drop)
    }

    /// Returns the values of a field, be it one of the [`headers`](Parts::headers) or a line: those that the next hop is sent.
    pub fn values_of<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let fields = self.headers.get_all(name).iter();
        let lines = self.head.lines.values_of(name.as_str());
        fields.map(HeaderValue::as_bytes).chain(lines)
    }

    /// Puts fields among the [`headers`](Parts::headers) that were added as lines, for who reads them.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when there are too many fields.
    pub fn settle_lines(&mut self) -> Result<()> {
        if !self.head.lines.is_empty() {
            self.change().settle()?;
        }
        Ok(())
    }

    /// Removes every field of a name, be it one of the [`headers`](Parts::headers) or a line.
    pub fn remove_named(&mut self, name: &HeaderName) {
        if !self.head.lines.is_empty() && Lines::may_have(name.as_str()) {
            self.change().lines.remove(name);
        }
        // Nothing to remove is no reason to copy.
        if self.headers.contains_key(name) {
            let head = self.change();
            fields::remove_named(
                &mut head.parts.headers,
                &mut head.index,
                &mut head.cases,
                name,
            );
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
        let head = self.change_any()?;
        fields::insert(
            &mut head.parts.headers,
            &mut head.index,
            &mut head.cases,
            name,
            value,
        )
    }

    /// Removes every field of a name and returns the value of the first, `None` when there is none.
    pub fn remove_header<'a, N: ?Sized>(&mut self, name: &'a N) -> Option<HeaderValue>
    where
        &'a N: 'a + AsHeaderName,
    {
        // Nothing to remove is no reason to copy.
        if self.head.lines.is_empty() {
            self.headers.get(name)?;
        }
        // Lines for which there is no room among the fields are lost there, too.
        let head = self.change_any().ok()?;
        fields::remove(
            &mut head.parts.headers,
            &mut head.index,
            &mut head.cases,
            name,
        )
    }

    /// Writes the fields in HTTP/1 wire form, each as `Name: value` and CRLF: neither the request line nor
    /// the empty line at the end.
    ///
    /// Names are spelled as they were given. Where that is not kept, see [`has_case`](Self::has_case),
    /// standard names are written like "Content-Type" and all others in lower case.
    pub fn header_to_h1_wire(&self, buf: &mut impl BufMut) {
        fields::write_h1(
            &self.head.parts.headers,
            &self.head.index,
            self.head.cases.as_ref(),
            buf,
        );
        if !self.head.lines.is_empty() {
            buf.put_slice(self.head.lines.as_slice());
        }
    }

    /// Calls `f` with each field; the values of one name come in their order.
    ///
    /// # Errors
    ///
    /// The first error of `f`, after which it is not called again.
    pub fn map<F: FnMut(HeaderNameVariant<'_>, &HeaderValue) -> Result<()>>(
        &self,
        mut f: F,
    ) -> Result<()> {
        fields::map(
            &self.head.parts.headers,
            &self.head.index,
            self.head.cases.as_ref(),
            &mut f,
        )?;
        for (name, value) in self.head.lines.fields() {
            // It is lower-case letters of ASCII and the like.
            let name = std::str::from_utf8(name).unwrap_or_default();
            let value = crate::header_value_from_slice(value);
            f(HeaderNameVariant::Titled(name), &value)?;
        }
        Ok(())
    }

    /// Each field with the spelling of its name; yields nothing when spellings are not kept.
    pub fn case_header_iter(&self) -> impl Iterator<Item = (&CaseHeaderName, &HeaderValue)> + '_ {
        fields::case_iter(
            &self.head.parts.headers,
            &self.head.index,
            self.head.cases.as_ref(),
        )
    }

    /// Returns whether the header keeps the spelling of its field names.
    pub fn has_case(&self) -> bool {
        self.head.cases.is_some()
    }

    /// Sets the method.
    pub fn set_method(&mut self, method: Method) {
        self.change().parts.method = method;
    }

    /// Sets the URI, in place of the request target there was.
    pub fn set_uri(&mut self, uri: Uri) {
        let head = self.change();
        head.parts.uri = uri;
        head.raw_target = None;
    }

    /// Sets the version.
    #[inline]
    pub fn set_version(&mut self, version: Version) {
        if self.head.parts.version != version {
            self.change().parts.version = version;
        }
    }

    /// Sets the request target from the bytes of a request line.
    ///
    /// All forms of RFC 9112 section 3.2 are kept as they are; see [`raw_path`](Self::raw_path). So are bytes
    /// of 0x80 and above, be they UTF-8 or not. The `uri` is path and query alone, with U+FFFD for what is
    /// not UTF-8; it is `/` for the authority-form. A fragment is dropped.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader`, with nothing changed, for control characters, space, DEL, and what
    /// [`http::Uri`] does not take.
    pub fn set_raw_path(&mut self, path: &[u8]) -> Result<()> {
        let target = Target::parse(Bytes::copy_from_slice(path))?;
        let head = self.change();
        head.parts.uri = target.uri;
        head.raw_target = target.raw;
        Ok(())
    }

    /// The request target, byte by byte what goes on the request line.
    ///
    /// It is what was received or set last (without a fragment). After [`set_uri`](Self::set_uri) it is path
    /// and query of that URI, or its authority when it has neither.
    pub fn raw_path(&self) -> &[u8] {
        if let Some(raw) = &self.head.raw_target {
            return raw;
        }
        let uri = &self.head.parts.uri;
        match (uri.path_and_query(), uri.authority()) {
            (Some(path), _) => path.as_str().as_bytes(),
            (None, Some(authority)) => authority.as_str().as_bytes(),
            (None, None) => b"/",
        }
    }

    /// Returns whether [`raw_path`](Self::raw_path) is UTF-8.
    pub fn raw_path_is_utf8(&self) -> bool {
        match &self.head.raw_target {
            Some(raw) => std::str::from_utf8(raw).is_ok(),
            None => true,
        }
    }

    /// Returns what follows the last dot in the last segment of the path; `None` when it has no dot.
    pub fn uri_file_extension(&self) -> Option<&str> {
        let path = self.head.parts.uri.path();
        let file = path.rsplit_once('/').map_or(path, |(_, file)| file);
        file.rsplit_once('.').map(|(_, extension)| extension)
    }

    /// Copies what the header shares with the buffer that it was received in, as [`detach`](crate::detach) does for one
    /// value: for a header that is kept after its request.
    pub fn detach(&mut self) {
        let head = self.change();
        for value in head.parts.headers.values_mut() {
            *value = crate::detach(value);
        }
        head.parts.uri = crate::target::detach(&head.parts.uri);
    }

    /// The extensions, for changing them.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.change().parts.extensions
    }

    /// Sets whether a request without body ends its HTTP/2 stream with the header (the default), or with
    /// an empty frame that follows.
    pub fn set_send_end_stream(&mut self, send_end_stream: bool) {
        self.send_end_stream = send_end_stream;
    }

    /// Returns whether a request without body ends its stream with the header; `None` for other versions than
    /// HTTP/2, where the question does not arise.
    pub fn send_end_stream(&self) -> Option<bool> {
        (self.head.parts.version == Version::HTTP_2).then_some(self.send_end_stream)
    }

    /// A copy of the `http` parts; it has no spellings, and a path that is not UTF-8 is changed in it.
    pub fn as_owned_parts(&self) -> Parts {
        if self.head.lines.is_empty() {
            return self.head.parts.clone();
        }
        self.clone().into()
    }
}

impl MessageHead for RequestHeader {
    fn blank() -> Self {
        let target = Target {
            uri: Uri::default(),
            raw: None,
        };
        Self::from_target(Method::GET, target, Some(CaseMap::default()), Some(0))
    }

    fn forget(&mut self) {
        match Arc::get_mut(&mut self.head) {
            Some(head) => head.forget(),
            None => *self = RequestHeader::blank(),
        }
        self.send_end_stream = true;
    }

    #[inline]
    fn index(&self) -> &Index {
        &self.head.index
    }

    fn remove_any(&mut self, names: Names) {
        if !self.may_have(names) {
            return;
        }
        let head = self.change();
        fields::remove_any(
            &mut head.parts.headers,
            &mut head.index,
            &mut head.cases,
            names,
        );
    }
}

impl RequestHead for RequestHeader {
    fn start(
        &mut self,
        method: Method,
        target: Bytes,
        version: Version,
        fields: usize,
    ) -> Result<()> {
        if target[..] == *b"*" && method != Method::OPTIONS {
            return Error::e_explain(InvalidHTTPHeader, "asterisk as target of another method");
        }
        let target = Target::received(target)?;
        let head = self.change();
        head.parts.method = method;
        head.parts.version = version;
        head.parts.uri = target.uri;
        head.raw_target = target.raw;
        crate::make_room(&mut head.parts.headers, Some(fields));
        Ok(())
    }

    fn is_same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.head, &other.head)
    }
}

impl AsRef<Parts> for RequestHeader {
    fn as_ref(&self) -> &Parts {
        &self.head.parts
    }
}

impl Deref for RequestHeader {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.head.parts
    }
}

impl From<Head> for RequestHeader {
    fn from(head: Head) -> Self {
        RequestHeader {
            head: Arc::new(head),
            send_end_stream: true,
        }
    }
}

impl From<Parts> for RequestHeader {
    /// Makes a header that keeps no spellings.
    fn from(parts: Parts) -> Self {
        RequestHeader::from(Head {
            index: Index::from(&parts.headers),
            parts,
            cases: None,
            raw_target: None,
            lines: Lines::default(),
        })
    }
}

impl From<RequestHeader> for Parts {
    fn from(header: RequestHeader) -> Parts {
        let mut head = Arc::unwrap_or_clone(header.head);
        if !head.lines.is_empty() {
            // What finds no room among the fields is lost.
            let _ = head.settle();
        }
        head.parts
    }
}

#[cfg(test)]
mod tests;
