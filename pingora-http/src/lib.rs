//! Header types of the proxy framework: [`RequestHeader`] and [`ResponseHeader`].
//!
//! Both dereference to the `Parts` of the [`http`] crate, so everything that reads an `http` request
//! or response reads them too. What they add is what a proxy needs on top: the spelling of field
//! names as they were received ("X-Request-ID" stays "X-Request-ID" on an HTTP/1 connection, although
//! names compare without regard to case, RFC 9110 section 5.1), request targets that are not UTF-8,
//! reason phrases, and the HTTP/1 wire form.
//!
//! All changes go through methods; there is no `DerefMut`, which keeps names and spellings in step.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod case_header_name;
mod field_rules;
mod fields;
mod frozen;
mod host;
mod into_case_header_name;
mod known;
mod lines;
mod names;
mod request;
mod response;
mod target;
mod value;
mod wire;

pub mod authority;
#[doc(hidden)]
pub mod internal;
pub mod prelude;

pub use fields::{HeaderNameVariant, RawFields};
pub use frozen::FrozenResponse;
pub use into_case_header_name::IntoCaseHeaderName;
pub use request::RequestHeader;
pub use response::ResponseHeader;
pub use value::{detach, header_value_from_raw, header_value_from_slice};

pub use http::{HeaderMap as HMap, Method, StatusCode, Version};

/// The number of fields that a header has room for when the caller has no idea.
const DEFAULT_FIELDS: usize = 8;
/// The most fields that room is made for up front: the number may come from a peer.
const MAX_RESERVED_FIELDS: usize = 4096;

/// The most fields whose memory a blank header keeps.
const MAX_KEPT_FIELDS: usize = 64;

/// Makes room for about `size_hint` fields.
#[inline]
fn make_room(fields: &mut HMap, size_hint: Option<usize>) {
    let wanted = size_hint.unwrap_or(DEFAULT_FIELDS).min(MAX_RESERVED_FIELDS);
    if fields.capacity() < wanted {
        fields.reserve(wanted);
    }
}

/// Drops all fields, and has the spelling of names kept.
fn forget_fields(fields: &mut HMap, cases: &mut Option<fields::CaseMap>) {
    if fields.capacity() <= MAX_KEPT_FIELDS {
        fields.clear()
    } else {
        *fields = HMap::new()
    }
    match cases {
        Some(cases) => cases.clear(),
        none => *none = Some(fields::CaseMap::default()),
    }
}
