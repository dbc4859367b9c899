//! The parts of headers that the crates of a proxy share. They are not part of the public API and may change
//! with any version.

use bytes::Bytes;
use http::{Method, StatusCode, Version};
use pingora_error::Result;

pub use crate::field_rules::FieldRules;
pub use crate::host::{is_valid_host, split_port};
pub use crate::known::header_name_from_raw;
pub use crate::names::{decimal, ConnectionOption, Index, Names};

/// A header whose memory serves one message after another, and which knows some of its fields without a look-up.
pub trait MessageHead: Sized {
    /// Makes a header to start.
    fn blank() -> Self;

    /// Makes the header a blank one again, which keeps the memory for its fields.
    fn forget(&mut self);

    /// Returns what is known of the fields without a look-up.
    fn index(&self) -> &Index;

    /// Returns whether one of these names is among the fields.
    #[inline]
    fn may_have(&self, any: Names) -> bool {
        self.index().has_any(any)
    }

    /// Removes every field of these names.
    fn remove_any(&mut self, names: Names);
}

/// The head of a request.
pub trait RequestHead: MessageHead {
    /// Makes a blank header that of a request received over HTTP/1, whose fields then follow by
    /// [`raw_fields`](crate::RequestHeader::raw_fields). The path is a slice of `target`, not a copy.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when the target is not valid, has a fragment, or is an asterisk for another method than
    /// OPTIONS (RFC 9112 section 3.2.4).
    fn start(
        &mut self,
        method: Method,
        target: Bytes,
        version: Version,
        fields: usize,
    ) -> Result<()>;

    /// Returns whether this is a copy of the other, and neither was changed since it was made. `false` does not say
    /// that they differ.
    fn is_same_as(&self, other: &Self) -> bool;
}

/// The head of a response.
pub trait ResponseHead: MessageHead {
    /// Makes a blank header that of a response received over HTTP/1, whose fields then follow by
    /// [`raw_fields`](crate::ResponseHeader::raw_fields).
    ///
    /// `reason` is kept only if it is text that [`set_reason_phrase`](crate::ResponseHeader::set_reason_phrase) takes: an
    /// origin may send any bytes there, and RFC 9112 section 4 wants them ignored.
    fn start(&mut self, status: StatusCode, reason: &[u8], version: Version, fields: usize);
}
