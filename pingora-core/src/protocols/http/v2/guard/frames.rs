//! Follows the frames that a client sends, and stops what the `h2` crate lets pass or calls by another name.
//! No I/O.
//!
//! | frame | what is done about it |
//! |---|---|
//! | SETTINGS, PING, WINDOW_UPDATE, RST_STREAM, PRIORITY of a wrong length | FRAME_SIZE_ERROR (RFC 9113 section 4.2) |
//! | SETTINGS with a window that is too large | FLOW_CONTROL_ERROR (section 6.5.2) |
//! | HEADERS or DATA after the client ended its side | STREAM_CLOSED (section 5.1) |
//! | PUSH_PROMISE | PROTOCOL_ERROR (section 8.4) |
//! | another frame within a field block, CONTINUATION outside of one | PROTOCOL_ERROR (section 4.3) |
//! | a field block that is cut short, index 0 | COMPRESSION_ERROR (section 4.3) |
//! | a malformed name or value | the stream is reset with PROTOCOL_ERROR (section 8.1.1) |
//! | a pseudo field in trailers | the stream is reset with PROTOCOL_ERROR (section 8.1) |
//! | more of them than the client's [`Budget`] has | ENHANCE_YOUR_CALM |

use std::ops::Range;

use h2::Reason;

use super::budget::Budget;
use super::hpack::Blocks;
use super::streams::{StreamState, Streams};

/// The length of a frame's head.
const HEAD: usize = 9;
/// The offset of the flags in it.
const FLAGS: usize = 4;
/// The length of what a client sends before its first frame (RFC 9113 section 3.4).
const PREFACE: usize = 24;
/// The largest window (RFC 9113 section 6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PUSH_PROMISE: u8 = 0x5;
const PING: u8 = 0x6;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const WITH_PRIORITY: u8 = 0x20;

const INITIAL_WINDOW_SIZE: u16 = 0x4;
const SETTING: usize = 6;

/// Follows the frames of one connection.
#[derive(Debug)]
pub(super) struct Frames {
    preface: usize,
    head: [u8; HEAD],
    /// The number of bytes of the head that are there.
    have: usize,
    kind: u8,
    flags: u8,
    /// Bytes of the payload that are to come.
    left: usize,
    /// Bytes of the payload before a field block.
    before: usize,
    /// Bytes of padding after it.
    padding: usize,
    /// True if a field block is not complete.
    block_open: bool,
    /// The number of field blocks begun, to tell them apart.
    block: u32,
    /// True if the current field block is trailers.
    trailers: bool,
    setting: [u8; SETTING],
    /// The number of frames by which the client may have opened windows.
    opened: u32,
    budget: Budget,
    blocks: Blocks,
    streams: Streams,
}

impl Frames {
    pub(super) fn new() -> Self {
        Frames {
            preface: PREFACE,
            head: [0; HEAD],
            have: 0,
            kind: 0,
            flags: 0,
            left: 0,
            before: 0,
            padding: 0,
            block_open: false,
            block: 0,
            trailers: false,
            setting: [0; SETTING],
            opened: 0,
            budget: Budget::new(),
            blocks: Blocks::default(),
            streams: Streams::default(),
        }
    }

    /// Returns whether the client has not sent all of its preface.
    pub(super) fn awaits_preface(&self) -> bool {
        self.preface > 0
    }

    /// Follows what was received. It changes a frame that is to be refused so that it will be.
    ///
    /// # Errors
    /// The reason for which the connection is to be ended.
    pub(super) fn received(&mut self, bytes: &mut [u8]) -> Result<(), Reason> {
        let mut at = self.preface.min(bytes.len());
        self.preface -= at;
        // Where the flags of the frame stand that the current field block began with.
        let mut flags = None;
        while at < bytes.len() {
            if self.left == 0 {
                let n = (HEAD - self.have).min(bytes.len() - at);
                self.head[self.have..self.have + n].copy_from_slice(&bytes[at..at + n]);
                let begun = self.have;
                self.have += n;
                at += n;
                if self.have < HEAD {
                    return Ok(());
                }
                self.have = 0;
                self.begin()?;
                if self.kind == HEADERS {
                    flags = (begun <= FLAGS).then(|| at - (HEAD - FLAGS));
                }
            }
            let n = self.left.min(bytes.len() - at);
            self.payload(bytes, at..at + n)?;
            at += n;
            if self.left == 0 && self.end()? {
                // h2 resets the stream of trailers that do not end it.
                match flags {
                    Some(flags) => bytes[flags] &= !END_STREAM,
                    // They came in pieces: the stream's error is taken for the connection's (section 5.4.2).
                    None => return Err(Reason::PROTOCOL_ERROR),
                }
            }
        }
        Ok(())
    }

    /// Gives for bytes that were sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.budget.sent(bytes);
    }

    /// The number of the field block that is not complete, never 0.
    pub(super) fn open_block(&self) -> Option<u32> {
        self.block_open.then_some(self.block)
    }

    /// The number of frames by which the client may have opened windows.
    pub(super) fn opened(&self) -> u32 {
        self.opened
    }

    /// A frame begins.
    fn begin(&mut self) -> Result<(), Reason> {
        let [a, b, c, kind, flags, id @ ..] = self.head;
        let id = u32::from_be_bytes(id) & MAX_WINDOW;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        (self.kind, self.flags) = (kind, flags);
        (self.before, self.padding) = (0, 0);
        // RFC 9113 section 4.3: nothing stands within a field block.
        if self.block_open != (kind == CONTINUATION) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        match (kind, self.left) {
            (SETTINGS, length) if length % SETTING != 0 || (flags & ACK != 0 && length > 0) => {
                return Err(Reason::FRAME_SIZE_ERROR)
            }
            (PING, length) if length != 8 => return Err(Reason::FRAME_SIZE_ERROR),
            (RST_STREAM | WINDOW_UPDATE, length) if length != 4 => {
                return Err(Reason::FRAME_SIZE_ERROR)
            }
            (PRIORITY, length) if length != 5 => return Err(Reason::FRAME_SIZE_ERROR),
            // RFC 9113 section 8.4: a client cannot push.
            (PUSH_PROMISE, _) => return Err(Reason::PROTOCOL_ERROR),
            _ => {}
        }
        if kind == WINDOW_UPDATE || (kind == SETTINGS && flags & ACK == 0) {
            self.opened = self.opened.wrapping_add(1);
        }
        match kind {
            HEADERS => {
                self.block_open = true;
                self.block = self.block.wrapping_add(1).max(1);
                self.before = match flags & PADDED {
                    0 => 0,
                    _ => 1,
                } + match flags & WITH_PRIORITY {
                    0 => 0,
                    _ => 5,
                };
                self.message(id)
            }
            DATA => {
                let known = self.streams.known(id);
                if known == StreamState::Ended {
                    return Err(Reason::STREAM_CLOSED);
                }
                if flags & END_STREAM != 0 {
                    self.streams.end(id);
                }
                Ok(())
            }
            RST_STREAM => {
                self.streams.end(id);
                self.budget.take(2)
            }
            SETTINGS if flags & ACK == 0 => self.budget.settings(),
            PING if flags & ACK == 0 => self.budget.ping(),
            PRIORITY => self.budget.take(1),
            kind if kind > CONTINUATION => self.budget.take(1),
            _ => Ok(()),
        }
    }

    /// A request's head begins, or its trailers.
    fn message(&mut self, id: u32) -> Result<(), Reason> {
        let ended = self.flags & END_STREAM != 0;
        let known = self.streams.known(id);
        self.trailers = known == StreamState::Sending;
        match known {
            StreamState::New => {
                self.budget.give(1);
                self.streams.open(id, ended);
                Ok(())
            }
            StreamState::Ended => Err(Reason::STREAM_CLOSED),
            StreamState::Sending if ended => {
                self.streams.end(id);
                Ok(())
            }
            StreamState::Sending | StreamState::Unknown => Ok(()),
        }
    }

    /// A piece of the payload, which lies at `at`.
    fn payload(&mut self, bytes: &mut [u8], at: Range<usize>) -> Result<(), Reason> {
        let length = self.left;
        self.left -= at.len();
        match self.kind {
            HEADERS | CONTINUATION => self.block(bytes, at, length),
            SETTINGS => self.settings(&bytes[at], length),
            _ => Ok(()),
        }
    }

    /// A piece of a frame that carries a field block; `left` bytes of its payload were to come before it.
    fn block(&mut self, bytes: &mut [u8], mut at: Range<usize>, left: usize) -> Result<(), Reason> {
        let mut left = left;
        while self.before > 0 {
            if at.is_empty() {
                return Ok(());
            }
            // The first one is the length of the padding, where there is any.
            let first = match self.flags & WITH_PRIORITY {
                0 => 1,
                _ => 6,
            };
            if self.flags & PADDED != 0 && self.before == first {
                self.padding = usize::from(bytes[at.start]);
            }
            self.before -= 1;
            left -= 1;
            at.start += 1;
        }
        let block = left.saturating_sub(self.padding).min(at.len());
        self.blocks.read(bytes, at.start..at.start + block)
    }

    fn settings(&mut self, bytes: &[u8], left: usize) -> Result<(), Reason> {
        for (n, byte) in bytes.iter().enumerate() {
            let place = (SETTING - (left - n) % SETTING) % SETTING;
            self.setting[place] = *byte;
            if place == SETTING - 1 {
                let [a, b, value @ ..] = self.setting;
                let size = u16::from_be_bytes([a, b]) == INITIAL_WINDOW_SIZE;
                if size && u32::from_be_bytes(value) > MAX_WINDOW {
                    return Err(Reason::FLOW_CONTROL_ERROR);
                }
            }
        }
        Ok(())
    }

    /// A frame is over; says whether its stream is to be reset.
    fn end(&mut self) -> Result<bool, Reason> {
        if !matches!(self.kind, HEADERS | CONTINUATION) || self.flags & END_HEADERS == 0 {
            return Ok(false);
        }
        self.block_open = false;
        let pseudo = self.blocks.end()?;
        Ok(pseudo && std::mem::take(&mut self.trailers))
    }
}

#[cfg(test)]
mod tests;
