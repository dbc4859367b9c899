//! Changes to the headers of requests and responses.

use bytes::Bytes;
use http::header::{CONNECTION, COOKIE};
use http::{HeaderName, HeaderValue};
use pingora_core::ErrorType::InvalidHTTPHeader;
use pingora_core::{OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::plan::field_name::is_like;
use crate::plan::{cookie_of_many, Change, HeaderEdit, HeaderEdits, Values};

/// Makes changes with these values.
///
/// # Errors
///
/// `InvalidHTTPHeader` when there is no room for more.
pub(super) fn apply(edits: &HeaderEdits, values: &Values, head: &mut impl Head) -> Result<()> {
    for change in edits.with(values) {
        match change {
            Change::Remove(name) => head.remove(name),
            Change::Set(name, value) => {
                head.remove(name);
                head.add(name, value)?;
            }
            Change::Add(name, value) => head.add(name, value)?,
        }
    }
    Ok(())
}

/// Takes away what programs take for a field that is changed, under another name, `x_a` for `x-a`.
pub(super) fn clear_alike(edits: &HeaderEdits, head: &mut RequestHeader) {
    for edit in &edits.0 {
        if let HeaderEdit::Remove(name) | HeaderEdit::Set(name, _) = edit {
            remove_alike(name, head);
        }
    }
}

/// Takes away the fields that programs take for one of this name, but for that itself.
pub(super) fn remove_alike(name: &HeaderName, head: &mut RequestHeader) {
    let is_alike = |other: &&HeaderName| *other != name && is_like(other, name.as_str());
    while let Some(alike) = head.headers.keys().find(is_alike).cloned() {
        head.remove_header(&alike);
    }
}

/// Keeps a client from having fields taken away on their way to the server by naming them in Connection.
///
/// # Errors
///
/// Too many fields.
pub(super) fn keep(ours: impl Fn(&HeaderName) -> bool, head: &mut RequestHeader) -> Result<()> {
    match head.headers.get(CONNECTION) {
        // What most clients say, if anything.
        None => return Ok(()),
        Some(said) if said == "keep-alive" || said == "close" => {
            if head.headers.get_all(CONNECTION).iter().nth(1).is_none() {
                return Ok(());
            }
        }
        Some(_) => {}
    }
    let lines = head.headers.get_all(CONNECTION).iter();
    let named = lines.flat_map(|line| line.as_bytes().split(|b| *b == b','));
    let is_ours =
        |name: &[u8]| HeaderName::from_bytes(name.trim_ascii()).is_ok_and(|name| ours(&name));
    let all: Vec<&[u8]> = named.collect();
    if !all.iter().any(|name| is_ours(name)) {
        return Ok(());
    }
    let kept: Vec<_> = all.into_iter().filter(|name| !is_ours(name)).collect();
    let kept = HeaderValue::from_maybe_shared(Bytes::from(kept.join(&b","[..])));
    head.remove(&CONNECTION);
    if let Some(kept) = kept.ok().filter(|kept| !kept.is_empty()) {
        head.insert_header(CONNECTION, kept)?;
    }
    Ok(())
}

/// Makes one line of Cookie, as HTTP/1.1 has it (RFC 9113 section 8.2.3).
///
/// # Errors
///
/// Too many fields.
pub(super) fn join_cookies(head: &mut RequestHeader) -> Result<()> {
    match cookie_of_many(&head.headers, &COOKIE) {
        Some(cookies) => head.insert_header(COOKIE, cookies),
        None => Ok(()),
    }
}

/// Tells whether changes put a field there.
pub(super) fn puts(edits: &HeaderEdits, name: &HeaderName) -> bool {
    edits.0.iter().any(|edit| match edit {
        HeaderEdit::Set(put, _) | HeaderEdit::Add(put, _) => put == name,
        HeaderEdit::Remove(_) => false,
    })
}

/// The head of a request or a response. Neither change counts references that workers share, as a copy of a name would.
pub(super) trait Head {
    fn remove(&mut self, name: &HeaderName);

    /// Adds a field.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when the value is none, or when there is no room for more.
    fn add(&mut self, name: &HeaderName, value: &[u8]) -> Result<()>;
}

impl Head for RequestHeader {
    fn remove(&mut self, name: &HeaderName) {
        self.remove_named(name);
    }

    fn add(&mut self, name: &HeaderName, value: &[u8]) -> Result<()> {
        self.append_line(name, value)
    }
}

impl Head for ResponseHeader {
    fn remove(&mut self, name: &HeaderName) {
        self.remove_named(name);
    }

    fn add(&mut self, name: &HeaderName, value: &[u8]) -> Result<()> {
        let value = HeaderValue::from_bytes(value).or_err(InvalidHTTPHeader, "a bad value")?;
        self.raw_fields().append_named(name, value).map(drop)
    }
}
