//! The known facts of a try for the cache.

use bytes::Bytes;

use super::fills::Fill;
use crate::range::RangeBodyFilter;

/// The cache's part in a try.
#[derive(Debug, Default)]
pub(crate) struct CacheWrite {
    /// True if the try asks the upstream for more than the client did.
    pub(super) mutated: bool,
    /// True if the stored response answers in place of the upstream's.
    pub(super) answered_by_stored: bool,
    pub(super) client: Share,
    /// True if the response is read on for the storage only.
    pub(super) client_gone: bool,
    /// The Content-Length of what is stored.
    pub(super) expected: Option<usize>,
    /// Bytes of body that were stored.
    pub(super) stored: usize,
    /// What those learn from that read what is stored.
    pub(super) fill: Option<Fill>,
}

/// The part of the whole response that the client gets.
#[derive(Debug, Default)]
pub(super) enum Share {
    #[default]
    Whole,
    Parts(RangeBodyFilter),
    /// Nothing more: it has all of its response.
    Nothing,
}

impl CacheWrite {
    /// Returns whether the stored response answers the request. The upstream's is to be read no further.
    pub(crate) fn is_answered_by_stored(&self) -> bool {
        self.answered_by_stored
    }

    /// Returns whether the client has all of its response, whatever more of the body is stored.
    pub(crate) fn is_client_served(&self) -> bool {
        matches!(self.client, Share::Nothing)
    }

    /// Returns whether the client gets parts of the body.
    pub(crate) fn sends_parts(&self) -> bool {
        matches!(self.client, Share::Parts(_))
    }

    /// Returns whether the response is read on for the storage only.
    pub(crate) fn is_client_gone(&self) -> bool {
        self.client_gone
    }

    /// The client has left, and the response is stored on.
    pub(crate) fn client_is_gone(&mut self) {
        self.client_gone = true;
    }

    /// Leaves of a piece of the body what the client gets, and sets `end` if that is the last of it.
    pub(crate) fn cut(&mut self, body: &mut Option<Bytes>, end: &mut bool) {
        match &mut self.client {
            Share::Whole => {}
            Share::Nothing => *body = None,
            Share::Parts(filter) => {
                filter.filter(body);
                if filter.is_satisfied() {
                    (self.client, *end) = (Share::Nothing, true);
                }
            }
        }
    }
}
