//! Bytes on their way out, gathered so that one system call takes them: a head with the first bytes
//! of its body, the tail of a body with its terminator.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::free_list::{self, FreeList};

/// A piece up to this size is copied behind what is there; a larger one is kept as it is.
const COPY_UP_TO: usize = 1024;
/// Slices of one system call.
const MAX_SLICES: usize = 8;

/// A queue of bytes. It holds no memory while everything is sent.
#[derive(Debug, Default)]
pub struct Out(Option<Box<Parts>>);

/// A queue in four parts: `front`, `middle`, `back`, and whatever is queued after that.
///
/// The usual answer is a head (`front`), one large piece (`middle`) and a terminator (`back`).
#[derive(Debug, Default)]
struct Parts {
    front: Vec<u8>,
    /// The number of bytes of `front` that are sent.
    sent: usize,
    middle: Bytes,
    back: Vec<u8>,
    rest: VecDeque<Bytes>,
}

impl Out {
    /// Returns whether everything is sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|parts| parts.is_empty())
    }

    /// Returns how many bytes are not sent yet.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |parts| parts.len())
    }

    /// Queues what `f` appends to the buffer it is given.
    pub fn write(&mut self, f: impl FnOnce(&mut Vec<u8>)) {
        self.parts().write(f);
    }

    /// Queues `data`.
    pub fn push(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.parts().push(data);
        }
    }

    #[inline]
    fn parts(&mut self) -> &mut Parts {
        self.0.get_or_insert_with(spare_parts)
    }

    /// All there is to write, when it lies in one piece, as it does when a message is small.
    #[inline]
    pub fn single(&self) -> Option<&[u8]> {
        let parts = self.0.as_deref()?;
        let single = parts.middle.is_empty() && parts.back.is_empty() && parts.rest.is_empty();
        single.then(|| &parts.front[parts.sent..])
    }

    /// Returns what to write next, in order. Empty when everything is sent.
    pub fn slices(&self) -> Slices<'_> {
        match &self.0 {
            Some(parts) => parts.slices(),
            None => Slices::default(),
        }
    }

    /// `n` bytes were written.
    pub fn advance(&mut self, n: usize) {
        // The usual write takes everything.
        if self.single().is_some_and(|all| all.len() == n) {
            if let Some(mut parts) = self.0.take() {
                parts.sent = 0;
                parts.front.clear();
                give_back(parts);
            }
        } else if let Some(mut parts) = self.0.take() {
            parts.advance(n);
            if parts.is_empty() {
                give_back(parts)
            } else {
                self.0 = Some(parts)
            }
        }
    }

    /// Drops what is not sent.
    pub fn clear(&mut self) {
        self.advance(self.len());
    }
}

impl Parts {
    fn is_empty(&self) -> bool {
        self.front.is_empty()
            && self.middle.is_empty()
            && self.back.is_empty()
            && self.rest.is_empty()
    }

    fn len(&self) -> usize {
        let rest: usize = self.rest.iter().map(Bytes::len).sum();
        self.front.len() - self.sent + self.middle.len() + self.back.len() + rest
    }

    fn write(&mut self, f: impl FnOnce(&mut Vec<u8>)) {
        if !self.rest.is_empty() {
            let mut piece = Vec::new();
            f(&mut piece);
            self.rest.push_back(piece.into());
        } else if !self.middle.is_empty() || !self.back.is_empty() {
            f(&mut self.back);
        } else {
            f(&mut self.front);
        }
    }

    fn push(&mut self, data: Bytes) {
        if data.len() <= COPY_UP_TO {
            self.write(|buf| buf.extend_from_slice(&data));
        } else if self.rest.is_empty() && self.middle.is_empty() && self.back.is_empty() {
            self.middle = data;
        } else {
            self.rest.push_back(data);
        }
    }

    fn slices(&self) -> Slices<'_> {
        let mut slices = Slices::default();
        let parts = [&self.front[self.sent..], &self.middle, &self.back];
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            slices.slices[slices.n] = IoSlice::new(part);
            slices.n += 1;
        }
        for part in self.rest.iter().take(MAX_SLICES - slices.n) {
            slices.slices[slices.n] = IoSlice::new(part);
            slices.n += 1;
        }
        slices
    }

    fn advance(&mut self, mut n: usize) {
        let front = n.min(self.front.len() - self.sent);
        self.sent += front;
        n -= front;
        if self.sent == self.front.len() {
            self.sent = 0;
            self.front.clear();
        }
        if n == 0 {
            return;
        }
        let middle = n.min(self.middle.len());
        if middle == self.middle.len() {
            self.middle = Bytes::new();
        } else {
            self.middle.advance(middle);
        }
        n -= middle;
        let back = n.min(self.back.len());
        self.back.drain(..back);
        n -= back;
        while n > 0 {
            let Some(first) = self.rest.front_mut() else {
                break;
            };
            let piece = n.min(first.len());
            first.advance(piece);
            n -= piece;
            if first.is_empty() {
                self.rest.pop_front();
            }
        }
    }
}

/// Room for an ordinary head.
const CAPACITY: usize = 4096;
/// A buffer that has grown larger is not kept.
const LARGEST: usize = 16 * 1024;

thread_local! {
    /// A worker has a few, and a connection borrows one while it writes.
    static SPARE: FreeList<Box<Parts>> = const { FreeList::new() };
}

fn spare_parts() -> Box<Parts> {
    free_list::take(&SPARE).unwrap_or_else(|| {
        Box::new(Parts {
            front: Vec::with_capacity(CAPACITY),
            ..Parts::default()
        })
    })
}

fn give_back(parts: Box<Parts>) {
    let kept = parts.front.capacity() + parts.back.capacity() + 32 * parts.rest.capacity();
    if kept <= LARGEST {
        free_list::give(&SPARE, parts);
    }
}

/// The slices of one write.
#[derive(Debug)]
pub struct Slices<'a> {
    slices: [IoSlice<'a>; MAX_SLICES],
    n: usize,
}

impl Default for Slices<'_> {
    fn default() -> Self {
        Slices {
            slices: [IoSlice::new(&[]); MAX_SLICES],
            n: 0,
        }
    }
}

impl<'a> std::ops::Deref for Slices<'a> {
    type Target = [IoSlice<'a>];

    fn deref(&self) -> &Self::Target {
        &self.slices[..self.n]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes at most `step` bytes.
    fn send(out: &mut Out, step: usize, wire: &mut Vec<u8>) {
        let all: Vec<u8> = out.slices().iter().flat_map(|s| s.to_vec()).collect();
        let n = step.min(all.len());
        wire.extend_from_slice(&all[..n]);
        out.advance(n);
    }

    proptest! {
        /// Whatever is queued comes out in order, with writes of any size in between.
        #[test]
        fn order_is_kept(
            pieces in proptest::collection::vec((0usize..3000, any::<bool>(), 0usize..4000), 0..12),
            step in 1usize..5000,
        ) {
            let mut out = Out::default();
            let (mut want, mut wire) = (Vec::new(), Vec::new());
            for (i, (len, shared, sent)) in pieces.iter().enumerate() {
                let data = vec![i as u8; *len];
                want.extend_from_slice(&data);
                if *shared {
                    out.push(data.into());
                } else {
                    out.write(|buf| buf.extend_from_slice(&data));
                }
                prop_assert_eq!(out.len() + wire.len(), want.len());
                send(&mut out, *sent, &mut wire);
            }
            while !out.is_empty() {
                send(&mut out, step, &mut wire);
            }
            prop_assert_eq!(wire, want);
        }
    }

    /// A connection that waits for its next request holds none.
    #[test]
    fn buffers_go_when_everything_is_sent() {
        let mut out = Out::default();
        for size in [10, 5000, 10, 5000, 10] {
            out.push(vec![b'x'; size].into());
        }
        out.write(|buf| buf.extend_from_slice(b"end"));
        assert!(out.0.is_some());
        out.advance(out.len());
        assert!(out.is_empty());
        assert!(out.0.is_none());
    }

    #[test]
    fn head_and_body_leave_in_one_write() {
        let mut out = Out::default();
        out.write(|buf| buf.extend_from_slice(b"head"));
        out.push(Bytes::from(vec![b'x'; 9000]));
        out.write(|buf| buf.extend_from_slice(b"end"));
        assert_eq!(out.slices().len(), 3);
    }
}
