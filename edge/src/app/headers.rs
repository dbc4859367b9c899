//! Changes to the headers of requests and responses.

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderName, HeaderValue};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use crate::plan::{Change, HeaderEdit, HeaderEdits, Request};

/// The values of changes for one request, by their order; none for a header that is taken away.
pub(super) type Values = Vec<Option<HeaderValue>>;

/// Fills in the values of changes. It costs no memory when there are none.
pub(super) fn values(edits: &HeaderEdits, request: &Request<'_>) -> Values {
    let changes = edits.changes(request);
    let value = |change| match change {
        Change::Remove(_) => None,
        Change::Set(_, value) | Change::Add(_, value) => Some(value),
    };
    changes.map(value).collect()
}

/// Makes changes with these values.
///
/// # Errors
///
/// `InvalidHTTPHeader` when there is no room for more.
pub(super) fn apply(edits: &HeaderEdits, values: Values, head: &mut impl Head) -> Result<()> {
    for (edit, value) in edits.0.iter().zip(values) {
        match (edit, value) {
            (HeaderEdit::Remove(name), _) => head.remove(name),
            (HeaderEdit::Set(name, _), Some(value)) => {
                head.remove(name);
                head.add(name, value)?;
            }
            (HeaderEdit::Add(name, _), Some(value)) => head.add(name, value)?,
            (HeaderEdit::Set(..) | HeaderEdit::Add(..), None) => {}
        }
    }
    Ok(())
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

/// Tells whether changes put a field there.
pub(super) fn puts(edits: &HeaderEdits, name: &HeaderName) -> bool {
    edits.0.iter().any(|edit| match edit {
        HeaderEdit::Set(put, _) | HeaderEdit::Add(put, _) => put == name,
        HeaderEdit::Remove(_) => false,
    })
}

/// The head of a request or a response.
pub(super) trait Head {
    fn remove(&mut self, name: &HeaderName);

    /// Adds a field. The name goes in as bytes: a copy of a [`HeaderName`] would count references that workers share.
    fn add(&mut self, name: &HeaderName, value: HeaderValue) -> Result<()>;
}

impl Head for RequestHeader {
    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }

    fn add(&mut self, name: &HeaderName, value: HeaderValue) -> Result<()> {
        self.raw_fields()
            .append(name.as_str().as_bytes(), value)
            .map(drop)
    }
}

impl Head for ResponseHeader {
    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }

    fn add(&mut self, name: &HeaderName, value: HeaderValue) -> Result<()> {
        self.raw_fields()
            .append(name.as_str().as_bytes(), value)
            .map(drop)
    }
}
