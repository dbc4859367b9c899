//! Where the two directions of an exchange stand, and what is to be waited for. No I/O.
//!
//! ```text
//! request:   Flowing ---> Ended                response:  Awaited ---> Body ---> Ended
//!               |           |                                |                     ^
//!               |         (101)                              +--(101)--> Raw ------+
//!               |           v                                |                     |
//!               |        Flowing (raw)                       +--(no body)----------+
//!               v
//!           Abandoned: the upstream takes no more, but may still answer
//! ```
//!
//! The directions are independent: the response may come, and end, while the request still flows. The
//! exchange is over when the response is; a tunnel when both directions are.

/// The direction from the client to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Flowing,
    Ended,
    Abandoned,
}

/// The direction from the upstream to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Response {
    Awaited,
    Body,
    Raw,
    /// The upstream has closed its direction of a tunnel.
    RawEnded,
    Ended,
}

/// What a message of the response is, as far as the state depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A 1xx: the response is still to come.
    Informational,
    /// The connection leaves HTTP.
    Switching,
    /// The head, with a body to follow or not.
    Head {
        /// Whether the response ends with it.
        end: bool,
    },
    /// A piece of the body, trailers, or the mere end.
    Rest {
        /// Whether the response ends with it.
        end: bool,
    },
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wants {
    /// The next piece of the request.
    pub(crate) request: bool,
    /// The next message of the response.
    pub(crate) response: bool,
    /// Whether the client leaves.
    pub(crate) leave: bool,
}

/// Both directions of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    request: Request,
    response: Response,
}

impl State {
    pub(crate) fn new() -> Self {
        State {
            request: Request::Flowing,
            response: Response::Awaited,
        }
    }

    /// A piece of the request went through.
    pub(crate) fn request_piece(&mut self, end: bool) {
        if end && self.request == Request::Flowing {
            self.request = Request::Ended;
        }
    }

    /// The upstream takes nothing more.
    pub(crate) fn request_failed(&mut self) {
        self.request = Request::Abandoned;
    }

    /// Whether a failed write to the upstream leaves hope for an answer.
    pub(crate) fn may_still_answer(&self) -> bool {
        self.response != Response::Ended
    }

    /// A message of the response came.
    pub(crate) fn response(&mut self, message: Message) {
        match (self.response, message) {
            (Response::Awaited, Message::Informational) => {}
            (Response::Awaited, Message::Switching) => {
                self.response = Response::Raw;
                if self.request == Request::Ended {
                    self.request = Request::Flowing;
                }
            }
            (Response::Awaited, Message::Head { end: false }) => self.response = Response::Body,
            (Response::Raw | Response::RawEnded, Message::Rest { end: true }) => {
                self.response = Response::RawEnded;
            }
            (_, Message::Head { end: true } | Message::Rest { end: true }) => {
                self.response = Response::Ended;
            }
            _ => {}
        }
    }

    /// Whether the response is complete, and in a tunnel the other direction too.
    pub(crate) fn is_over(&self) -> bool {
        match self.response {
            Response::Ended => true,
            Response::RawEnded => self.request != Request::Flowing,
            Response::Awaited | Response::Body | Response::Raw => false,
        }
    }

    /// Whether the exchange has left HTTP.
    pub(crate) fn is_tunnel(&self) -> bool {
        matches!(self.response, Response::Raw | Response::RawEnded)
    }

    /// Whether nothing of the response came, but for 1xx.
    pub(crate) fn awaits_head(&self) -> bool {
        self.response == Response::Awaited
    }

    /// What to wait for. After the response nothing is: the rest of the request is of no use then.
    pub(crate) fn wants(&self) -> Wants {
        let open = !self.is_over();
        Wants {
            request: open && self.request == Request::Flowing,
            response: open && self.response != Response::RawEnded,
            leave: open && self.request != Request::Flowing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(request: bool, response: bool, leave: bool) -> Wants {
        Wants {
            request,
            response,
            leave,
        }
    }

    #[test]
    fn a_get() {
        let mut s = State::new();
        assert_eq!(s.wants(), wants(true, true, false));
        s.request_piece(true);
        assert_eq!(s.wants(), wants(false, true, true));
        s.response(Message::Informational);
        assert_eq!(s.wants(), wants(false, true, true));
        s.response(Message::Head { end: false });
        s.response(Message::Rest { end: false });
        assert!(!s.is_over());
        s.response(Message::Rest { end: true });
        assert!(s.is_over());
        assert_eq!(s.wants(), wants(false, false, false));
    }

    #[test]
    fn an_early_answer_ends_the_exchange() {
        let mut s = State::new();
        s.request_piece(false);
        s.response(Message::Head { end: true });
        assert_eq!(s.wants(), wants(false, false, false));
    }

    #[test]
    fn an_upstream_that_takes_no_more_may_still_answer() {
        let mut s = State::new();
        s.request_failed();
        assert!(s.may_still_answer());
        assert_eq!(s.wants(), wants(false, true, true));
        s.request_piece(true);
        assert_eq!(s.wants(), wants(false, true, true));
        s.response(Message::Head { end: true });
        assert!(!s.may_still_answer());
    }

    #[test]
    fn after_a_101_both_directions_are_raw() {
        let mut s = State::new();
        s.request_piece(true);
        s.response(Message::Switching);
        assert_eq!(s.wants(), wants(true, true, false));
        s.request_piece(true);
        // A client that has sent its last byte still reads.
        assert_eq!(s.wants(), wants(false, true, true));
        assert!(s.is_tunnel());
        s.response(Message::Rest { end: true });
        assert!(s.is_over());
    }

    #[test]
    fn a_tunnel_is_over_when_both_directions_are() {
        let mut s = State::new();
        s.request_piece(true);
        s.response(Message::Switching);
        s.response(Message::Rest { end: true });
        // An upstream that has sent its last byte still reads.
        assert!(s.is_tunnel() && !s.is_over());
        assert_eq!(s.wants(), wants(true, false, false));
        let mut failed = s;
        s.request_piece(true);
        assert!(s.is_over());
        assert!(failed.may_still_answer());
        failed.request_failed();
        assert!(failed.is_over());
    }
}
