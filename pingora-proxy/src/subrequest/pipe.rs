//! The input of a subrequest whose response is piped into the response of its parent, and what is
//! left of it when that ends early.

use std::mem;

use bytes::Bytes;
use pingora_core::protocols::http::HttpTask;
use pingora_error::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

mod input;
mod run;

pub use run::pipe_subrequest;

/// The request body of a subrequest, all of it.
#[derive(Clone, Debug)]
pub enum InputBody {
    /// There is none.
    NoBody,
    /// Its pieces, in order.
    Bytes(Vec<Bytes>),
}

impl InputBody {
    /// Returns true if not a byte of body will be sent.
    pub fn is_body_empty(&self) -> bool {
        match self {
            InputBody::NoBody => true,
            InputBody::Bytes(pieces) => pieces.iter().all(Bytes::is_empty),
        }
    }
}

/// Takes what was saved, be it [complete](SavedBody::is_body_complete) or not.
impl From<SavedBody> for InputBody {
    fn from(saved: SavedBody) -> Self {
        if saved.pieces.is_empty() {
            InputBody::NoBody
        } else {
            InputBody::Bytes(saved.pieces)
        }
    }
}

/// The source of the request body of a subrequest.
#[derive(Debug)]
pub enum InputBodyType {
    /// It is given.
    Preset(InputBody),
    /// It is read from the parent's client, and at most so many bytes are saved for a later subrequest.
    SaveBody(usize),
}

/// A body that is kept while it passes, up to a limit.
#[derive(Clone, Debug)]
pub struct SavedBody {
    pieces: Vec<Bytes>,
    room: usize,
    state: SaveState,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum SaveState {
    Saving,
    Complete,
    Truncated,
}

impl SavedBody {
    /// Nothing saved yet, and room for `max_length` bytes.
    pub fn new(max_length: usize) -> Self {
        SavedBody {
            pieces: Vec::new(),
            room: max_length,
            state: SaveState::Saving,
        }
    }

    /// Saves the next piece. `false`: it does not fit, or an earlier one did not, and the body is
    /// incomplete for good. A piece after the [end](Self::set_body_complete) is not taken either.
    pub fn save_body_bytes(&mut self, body_bytes: Bytes) -> bool {
        if self.state != SaveState::Saving {
            return false;
        }
        let Some(room) = self.room.checked_sub(body_bytes.len()) else {
            self.state = SaveState::Truncated;
            return false;
        };
        self.room = room;
        if !body_bytes.is_empty() {
            self.pieces.push(body_bytes);
        }
        true
    }

    /// Notes that the body has ended.
    pub fn set_body_complete(&mut self) {
        if self.state == SaveState::Saving {
            self.state = SaveState::Complete;
        }
    }

    /// Returns true if the body has ended and every byte of it is here.
    pub fn is_body_complete(&self) -> bool {
        self.state == SaveState::Complete
    }
}

/// The progress of piping a subrequest.
#[derive(Debug, Default)]
pub struct PipeSubrequestState {
    /// True if the final response header of the subrequest has come.
    pub header_received: bool,
    /// The response messages that were not passed on yet.
    pub pipe_rx: Option<mpsc::Receiver<HttpTask>>,
    /// The task that runs the subrequest.
    pub join_handle: Option<JoinHandle<()>>,
    /// The request body that was saved, if saving was asked for.
    pub saved_body: Option<SavedBody>,
}

impl PipeSubrequestState {
    /// Moves the state out, for the error that ends the piping; only `header_received` stays behind.
    pub fn snapshot_for_error(&mut self) -> Self {
        let header_received = self.header_received;
        mem::replace(
            self,
            PipeSubrequestState {
                header_received,
                ..Self::default()
            },
        )
    }
}

/// Why the piping of a subrequest ended early, and what is left of it.
#[derive(Debug)]
pub struct PipeSubrequestError {
    /// The error.
    pub error: Box<Error>,
    /// True if the subrequest failed, and not the parent that reads from it.
    pub from_subreq: bool,
    /// The progress until then.
    pub state: PipeSubrequestState,
}

impl PipeSubrequestError {
    /// An error and the state that it left.
    pub fn new(
        error: impl Into<Box<Error>>,
        from_subreq: bool,
        state: PipeSubrequestState,
    ) -> Self {
        PipeSubrequestError {
            error: error.into(),
            from_subreq,
            state,
        }
    }
}
