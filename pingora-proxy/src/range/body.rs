//! Cutting a body into the ranges that were asked for.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::{MultiRangeInfo, RangeType};

/// Turns the chunks of a whole body into the body of a partial response.
///
/// Chunks of a single range are slices of the input. If the input can seek, it may skip what is
/// not needed: [`next_start`](Self::next_start) says where to go on, and
/// [`seek`](Self::seek) that the input went there.
pub(crate) struct RangeBodyFilter {
    cut: Cut,
    /// Where in the whole body the next chunk begins.
    offset: usize,
}

enum Cut {
    /// Everything passes.
    Whole,
    Single(Parts),
    Multi(Parts, MultiRangeInfo),
}

/// The ranges that are not complete.
struct Parts {
    left: std::vec::IntoIter<Range<usize>>,
    /// The current one, from its first missing byte on, and whether it is begun.
    current: Option<(Range<usize>, bool)>,
}

impl Parts {
    fn new(ranges: Vec<Range<usize>>) -> Self {
        let mut left = ranges.into_iter();
        Self {
            current: left.next().map(|range| (range, false)),
            left,
        }
    }

    fn advance(&mut self) {
        self.current = self.left.next().map(|range| (range, false));
    }
}

impl RangeBodyFilter {
    pub(crate) fn new(range: RangeType) -> Self {
        let cut = match range {
            RangeType::None => Cut::Whole,
            RangeType::Single(range) => Cut::Single(Parts::new(vec![range])),
            RangeType::Multi(info) => Cut::Multi(Parts::new(info.ranges.clone()), info),
            RangeType::Invalid => Cut::Single(Parts::new(Vec::new())),
        };
        Self { cut, offset: 0 }
    }

    /// The position in the whole body of the next byte that is needed; `None` if none is.
    pub(crate) fn next_start(&self) -> Option<usize> {
        match &self.cut {
            Cut::Whole => Some(self.offset),
            Cut::Single(parts) | Cut::Multi(parts, _) => {
                parts.current.as_ref().map(|(range, _)| range.start)
            }
        }
    }

    /// Says that the next chunk begins at this position of the whole body.
    pub(crate) fn seek(&mut self, offset: usize) {
        self.offset = offset;
    }

    /// Whether all ranges are out, so that the rest of the input is not needed. Never so for a
    /// whole body, whose end only the input knows.
    pub(crate) fn is_complete(&self) -> bool {
        match &self.cut {
            Cut::Single(parts) | Cut::Multi(parts, _) => parts.current.is_none(),
            Cut::Whole => false,
        }
    }

    /// What is sent of a chunk; `None` if that is nothing.
    ///
    /// A body that ends before [`is_complete`](Self::is_complete) holds was cut short, or did not
    /// go where [`next_start`](Self::next_start) said.
    pub(crate) fn filter(&mut self, chunk: Option<Bytes>) -> Option<Bytes> {
        let chunk = chunk?;
        let start = self.offset;
        self.offset = start.saturating_add(chunk.len());
        let (parts, framing) = match &mut self.cut {
            Cut::Whole => return Some(chunk),
            Cut::Single(parts) => (parts, None),
            Cut::Multi(parts, info) => (parts, Some(&*info)),
        };

        let mut output = Output::Empty;
        while let Some((range, begun)) = &mut parts.current {
            // Either it is yet to come, or the input has to go back for it.
            if !(start..self.offset).contains(&range.start) {
                break;
            }
            if let (false, Some(info)) = (*begun, framing) {
                // The header names the whole part, of which nothing is out yet.
                output.push(info.part_header(range).into());
            }
            *begun = true;
            let end = range.end.min(self.offset);
            output.push(chunk.slice(range.start - start..end - start));
            range.start = end;
            if end < range.end {
                break;
            }
            parts.advance();
            if let (None, Some(info)) = (&parts.current, framing) {
                output.push(info.end().into());
            }
        }
        output.into_bytes()
    }
}

/// Copies only if there is more than one piece.
enum Output {
    Empty,
    One(Bytes),
    Joined(BytesMut),
}

impl Output {
    fn push(&mut self, piece: Bytes) {
        match self {
            Output::Empty => *self = Output::One(piece),
            Output::One(first) => {
                let mut joined = BytesMut::with_capacity(first.len() + piece.len());
                joined.extend_from_slice(first);
                joined.extend_from_slice(&piece);
                *self = Output::Joined(joined);
            }
            Output::Joined(joined) => joined.extend_from_slice(&piece),
        }
    }

    fn into_bytes(self) -> Option<Bytes> {
        match self {
            Output::Empty => None,
            Output::One(piece) => Some(piece),
            Output::Joined(joined) => Some(joined.freeze()),
        }
    }
}
