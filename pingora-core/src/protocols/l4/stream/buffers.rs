//! The buffers of a stream: their sizes, and the bytes that are kept in memory.

/// The number of bytes that a small read asks the system for, unless [`L4BufferSettings`] say otherwise.
pub const DEFAULT_L4_READ_BUFFER_SIZE: usize = 64 * 1024;

/// The number of bytes of small writes that are collected before they are sent, unless [`L4BufferSettings`] say
/// otherwise: about what fits in one packet.
pub const DEFAULT_L4_WRITE_BUFFER_SIZE: usize = 1460;

/// The sizes of a connection's buffers in bytes; `None` is the default size, zero is no buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct L4BufferSettings {
    /// For reads: [`DEFAULT_L4_READ_BUFFER_SIZE`] when `None`.
    pub read: Option<usize>,
    /// For writes: [`DEFAULT_L4_WRITE_BUFFER_SIZE`] when `None`.
    pub write: Option<usize>,
}

impl L4BufferSettings {
    /// Buffers of these sizes.
    pub fn new(read: usize, write: usize) -> Self {
        L4BufferSettings {
            read: Some(read),
            write: Some(write),
        }
    }

    /// No buffers: every read and write is a system call.
    pub fn unbuffered() -> Self {
        Self::new(0, 0)
    }

    /// The same with a read buffer of `read` bytes.
    pub fn read(self, read: usize) -> Self {
        L4BufferSettings {
            read: Some(read),
            ..self
        }
    }

    /// The same with a write buffer of `write` bytes.
    pub fn write(self, write: usize) -> Self {
        L4BufferSettings {
            write: Some(write),
            ..self
        }
    }

    /// The size of the read buffer.
    pub fn read_capacity(&self) -> usize {
        self.read.unwrap_or(DEFAULT_L4_READ_BUFFER_SIZE)
    }

    /// The size of the write buffer.
    pub fn write_capacity(&self) -> usize {
        self.write.unwrap_or(DEFAULT_L4_WRITE_BUFFER_SIZE)
    }
}

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
