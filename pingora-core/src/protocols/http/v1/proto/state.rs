//! The states of the two directions of a connection, and what follows from both.
//!
//! ```text
//! reading:  Head -> Body -> Done          writing:  Head -> Body -> Done
//!                     \---> Ended                             \---> Ended
//!           Done -101-> Raw -> Ended                Head -101-> Raw -> Ended
//!           any -> Broken                           any -> Broken
//! ```

use super::decode::Decoder;
use super::encode::Encoder;
use super::framing::Framing;

/// The direction from the peer.
#[derive(Debug)]
pub enum Reading {
    /// The head of the next message is awaited or on its way.
    Head,
    /// The body.
    Body(Decoder),
    /// After an upgrade: bytes without meaning to HTTP, until the peer ends them.
    Raw,
    /// The message is whole.
    Done,
    /// The message is whole, and its end was the end of the connection.
    Ended,
    /// The message was malformed, or cut short, or the connection failed.
    Broken,
}

/// The direction to the peer.
#[derive(Debug)]
pub enum Writing {
    /// No head is written yet.
    Head,
    /// The body.
    Body(Encoder),
    /// After an upgrade.
    Raw,
    /// The message is written whole.
    Done,
    /// The message is written whole, and closing tells the peer where it ended.
    Ended,
    /// The message is cut short, or the connection failed.
    Broken,
}

impl Reading {
    /// The state once a head with this framing is read.
    pub fn body(framing: Framing, lenient: bool) -> Self {
        match Decoder::new(framing, lenient) {
            Decoder::Done => Reading::Done,
            decoder => Reading::Body(decoder),
        }
    }

    /// Returns whether nothing more of the message will be read.
    pub fn is_over(&self) -> bool {
        matches!(self, Reading::Done | Reading::Ended | Reading::Broken)
    }
}

impl Writing {
    /// The state once a head with this framing is queued.
    pub fn body(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) | Framing::Empty => Writing::Done,
            framing => Writing::Body(Encoder::new(framing)),
        }
    }

    /// Returns whether nothing more of the message may be written.
    pub fn is_over(&self) -> bool {
        matches!(self, Writing::Done | Writing::Ended | Writing::Broken)
    }
}

/// Returns whether another exchange may follow on the connection: both messages are whole, and both ends
/// were found by counting and not by closing.
pub fn reusable(reading: &Reading, writing: &Writing) -> bool {
    matches!(reading, Reading::Done) && matches!(writing, Writing::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_whole_messages_leave_a_connection_for_the_next() {
        let readings = || {
            [
                Reading::Head,
                Reading::body(Framing::Length(3), false),
                Reading::Raw,
                Reading::Ended,
                Reading::Broken,
                Reading::Done,
            ]
        };
        let writings = || {
            [
                Writing::Head,
                Writing::Body(Encoder::Chunked),
                Writing::Raw,
                Writing::Ended,
                Writing::Broken,
                Writing::Done,
            ]
        };
        for reading in readings() {
            for writing in writings() {
                let both = matches!((&reading, &writing), (Reading::Done, Writing::Done));
                assert_eq!(
                    reusable(&reading, &writing),
                    both,
                    "{reading:?} {writing:?}"
                );
            }
        }
    }
}
