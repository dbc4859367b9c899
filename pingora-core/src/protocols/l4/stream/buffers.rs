//! Bytes of a stream that are kept in memory.

/// Bytes in memory, consumed from the front; a pointer that is null while there are none.
#[derive(Debug, Default)]
pub(super) struct Pending(Option<Box<Held>>);

#[derive(Debug, Default)]
struct Held {
    data: Vec<u8>,
    pos: usize,
}

impl Pending {
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.0 {
            Some(held) => &held.data[held.pos..],
            None => &[],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn consume(&mut self, n: usize) {
        if let Some(held) = &mut self.0 {
            held.pos += n;
            if held.pos >= held.data.len() {
                self.0 = None;
            }
        }
    }

    pub(super) fn prepend(&mut self, front: &[u8]) {
        let data = [front, self.bytes()].concat();
        self.0 = (!data.is_empty()).then(|| Box::new(Held { data, pos: 0 }));
    }

    /// Appends `back`, after making room for `capacity` bytes if there are none yet.
    pub(super) fn append(&mut self, back: &[u8], capacity: usize) {
        if back.is_empty() {
            return;
        }
        let data = &mut self.0.get_or_insert_default().data;
        if data.is_empty() {
            data.reserve_exact(capacity.max(back.len()));
        }
        data.extend_from_slice(back);
    }
}
