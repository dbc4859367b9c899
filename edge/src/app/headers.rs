//! Changes to the headers of requests and responses.

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
