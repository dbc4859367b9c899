//! The streams that a client has opened, and those of them on which it may still send.

/// Streams of a client that are still sending; more are forgotten, the oldest first.
const SENDING: usize = 256;

/// The streams of one connection, as far as it takes to tell a frame that comes too late.
#[derive(Debug, Default)]
pub(super) struct Streams {
    last: u32,
    /// The streams that were opened before the last: the lowest bit is the last one.
    opened: u128,
    /// Those on which the client has not said its last, in their order.
    sending: Vec<u32>,
    /// The last of the streams of which it is not known whether they are still sending.
    forgotten: u32,
}

/// The state of a stream, by the frames that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamState {
    /// The stream begins with it.
    New,
    /// The client is in the middle of its message, as far as is known.
    Sending,
    /// The client has ended its side before.
    Ended,
    /// It was never opened, or too long ago.
    Unknown,
}

impl Streams {
    pub(super) fn known(&self, id: u32) -> StreamState {
        if id > self.last {
            return StreamState::New;
        }
        let back = (self.last - id) / 2;
        let opened = self.opened.checked_shr(back).unwrap_or(0) & 1 == 1;
        match opened && id % 2 == 1 && id > self.forgotten {
            _ if self.sending.contains(&id) => StreamState::Sending,
            true => StreamState::Ended,
            false => StreamState::Unknown,
        }
    }

    /// The client opens a stream; `ended`: with its whole message.
    pub(super) fn open(&mut self, id: u32, ended: bool) {
        let ahead = match self.last {
            0 => 1,
            last => (id - last).div_ceil(2),
        };
        self.opened = self.opened.checked_shl(ahead).unwrap_or(0) | 1;
        self.last = id;
        if ended {
            return;
        }
        if self.sending.len() >= SENDING {
            self.forgotten = self.sending.remove(0);
        }
        self.sending.push(id);
    }

    /// The client has said its last on a stream.
    pub(super) fn end(&mut self, id: u32) {
        if let Some(at) = self.sending.iter().position(|open| *open == id) {
            self.sending.remove(at);
            if self.sending.is_empty() {
                // An idle connection keeps nothing.
                self.sending = Vec::new();
            }
        }
    }
}
