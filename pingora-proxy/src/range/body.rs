//! Cutting a body that passes to the parts that are sent of it.

use bytes::{BufMut, Bytes, BytesMut};

use super::{MultiRangeInfo, RangeType};

/// Cuts a body that comes once and in order to what a [`RangeType`] sends of it.
///
/// For a body whose source can seek this is not needed: see [`MultiRangeInfo::part_header`] and
/// [`MultiRangeInfo::end`], which its parts are framed with.
#[derive(Debug)]
pub(crate) struct RangeBodyFilter {
    range: RangeType,
    /// Bytes of the whole that have passed.
    position: usize,
    /// The part of several that is being sent, or comes next.
    part: usize,
    /// True if the header of that part was sent.
    begun: bool,
}

impl RangeBodyFilter {
    /// Starts at the first byte of the whole.
    pub(crate) fn new(range: RangeType) -> Self {
        RangeBodyFilter {
            range,
            position: 0,
            part: 0,
            begun: false,
        }
    }

    /// Returns whether all bytes of the whole are sent as they are.
    pub(crate) fn is_transparent(&self) -> bool {
        matches!(self.range, RangeType::None)
    }

    /// Returns whether everything that is sent of the whole has passed, so that the rest need not be read for the
    /// client's sake.
    pub(crate) fn is_satisfied(&self) -> bool {
        match &self.range {
            RangeType::None => false,
            RangeType::Single(range) => self.position >= range.end,
            RangeType::Multi(info) => self.part >= info.ranges.len(),
            RangeType::Invalid => true,
        }
    }

    /// Leaves of the next piece of the whole what is sent, and frames it; `None` when nothing is.
    ///
    /// Bytes that a body lacks because it ends early are not made up: the response is then shorter than its header
    /// says. So is one with parts that are not in ascending order, from the first that would have to go back.
    pub(crate) fn filter(&mut self, piece: &mut Option<Bytes>) {
        let Some(whole) = piece.as_ref() else {
            return;
        };
        let begin = self.position;
        let end = begin.saturating_add(whole.len());
        match &self.range {
            RangeType::None => {}
            RangeType::Single(range) => {
                let from = range.start.clamp(begin, end) - begin;
                let to = range.end.clamp(begin, end) - begin;
                *piece = (from < to).then(|| whole.slice(from..to));
            }
            RangeType::Multi(info) => {
                let mut parts = BytesMut::new();
                (self.part, self.begun) =
                    cut(info, (self.part, self.begun), begin, whole, &mut parts);
                *piece = (!parts.is_empty()).then(|| parts.freeze());
            }
            RangeType::Invalid => *piece = None,
        }
        self.position = end;
    }
}

/// Appends what the parts from this one on have of a piece of the whole that begins at `begin`. Returns the part that
/// goes on in the next piece, and whether it has begun.
fn cut(
    info: &MultiRangeInfo,
    (mut part, mut begun): (usize, bool),
    begin: usize,
    whole: &Bytes,
    parts: &mut BytesMut,
) -> (usize, bool) {
    let end = begin.saturating_add(whole.len());
    while let Some(range) = info.ranges.get(part) {
        // Its first bytes have passed already.
        let missed = !begun && range.start < begin;
        if missed || range.start > end {
            break;
        }
        let (from, to) = (range.start.max(begin), range.end.min(end));
        if !begun && (from < to || range.is_empty()) {
            parts.put(info.part_header(range).as_bytes());
            begun = true;
        }
        if from < to {
            parts.put(&whole[from - begin..to - begin]);
        }
        if range.end > end {
            break;
        }
        (part, begun) = (part + 1, false);
        if part == info.ranges.len() {
            parts.put(info.end().as_bytes());
        }
    }
    (part, begun)
}

#[cfg(test)]
mod tests;
