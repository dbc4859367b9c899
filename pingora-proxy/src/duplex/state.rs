//! The states of the two directions of an exchange, and the events to wait for. No I/O.
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
//!
//! ```text
//! client:    Follows ---> Fed ---> Served
//!               |          |         |
//!               +----------+---------+---> Gone
//! ```
//!
//! A client that is fed by a source of its own keeps the exchange open until it is served.

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

/// The source of the client's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// From the upstream.
    Follows,
    /// From a source.
    Fed,
    /// The source has given the last one.
    Served,
    /// It takes none.
    Gone,
}

/// The kind of a message of the response, as far as the state depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A 1xx: the response is still to come.
    Informational,
    /// The connection leaves HTTP.
    Switching,
    /// The head, with a body to follow or not.
    Head {
        /// True if the response ends with it.
        end: bool,
    },
    /// A piece of the body, trailers, or the mere end.
    Rest {
        /// True if the response ends with it.
        end: bool,
    },
}

/// The events to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wants {
    /// The next piece of the request.
    pub(crate) request: bool,
    /// The next message of the response.
    pub(crate) response: bool,
    /// The next message of the source.
    pub(crate) stored: bool,
    /// True to wait for the client to leave.
    pub(crate) leave: bool,
}

/// Both directions of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    request: Request,
    response: Response,
    client: Client,
}

impl State {
    pub(crate) fn new() -> Self {
        State {
            request: Request::Flowing,
            response: Response::Awaited,
            client: Client::Follows,
        }
    }

    /// An exchange in which there is nothing to ask.
    pub(crate) fn answering() -> Self {
        State {
            request: Request::Ended,
            ..State::new()
        }
    }

    /// Returns true if more of the request is to be sent.
    pub(crate) fn asks(&self) -> bool {
        self.request == Request::Flowing
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

    /// Returns true if a failed write to the upstream leaves hope for an answer.
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

    /// Nobody takes more of the response.
    pub(crate) fn cut_short(&mut self) {
        if !self.is_tunnel() {
            self.response = Response::Ended;
        }
    }

    /// Returns true if nothing more is awaited from the upstream: the response is complete, and in a tunnel the other
    /// direction too.
    pub(crate) fn is_answered(&self) -> bool {
        match self.response {
            Response::Ended => true,
            Response::RawEnded => self.request != Request::Flowing,
            Response::Awaited | Response::Body | Response::Raw => false,
        }
    }

    /// Returns true if nothing more is awaited.
    pub(crate) fn is_over(&self) -> bool {
        self.is_answered() && self.client != Client::Fed
    }

    /// Returns true if the client gets what the upstream sends.
    pub(crate) fn follows(&self) -> bool {
        self.client == Client::Follows
    }

    pub(crate) fn is_client_gone(&self) -> bool {
        self.client == Client::Gone
    }

    /// Returns true if the exchange makes sense without a client. Nobody else has the rest of a request, and who does
    /// not get it will hardly begin to answer.
    pub(crate) fn can_lose_client(&self) -> bool {
        let unasked = self.awaits_head() && self.request == Request::Flowing;
        !unasked && !self.is_tunnel() && !self.is_client_gone()
    }

    /// The client has a source of its own from now on.
    pub(crate) fn feed(&mut self) {
        if self.client == Client::Follows && !self.is_tunnel() {
            self.client = Client::Fed;
        }
    }

    /// The source has given the last message.
    pub(crate) fn served(&mut self) {
        if self.client == Client::Fed {
            self.client = Client::Served;
        }
    }

    /// The client takes and sends nothing more.
    pub(crate) fn client_gone(&mut self) {
        self.client = Client::Gone;
        if self.request == Request::Flowing {
            self.request = Request::Abandoned;
        }
    }

    /// Returns true if the exchange has left HTTP.
    pub(crate) fn is_tunnel(&self) -> bool {
        matches!(self.response, Response::Raw | Response::RawEnded)
    }

    /// Returns true if nothing of the response came, but for 1xx.
    pub(crate) fn awaits_head(&self) -> bool {
        self.response == Response::Awaited
    }

    /// Returns the events to wait for. After the response there are none: the rest of the request is of no use then.
    pub(crate) fn wants(&self) -> Wants {
        let open = !self.is_answered();
        let flows = self.request == Request::Flowing;
        let here = matches!(self.client, Client::Follows | Client::Fed);
        Wants {
            request: open && flows,
            response: open && self.response != Response::RawEnded,
            stored: self.client == Client::Fed,
            leave: here && !self.is_over() && !(open && flows),
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
            stored: false,
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
    fn a_response_that_nobody_takes_is_not_read_on() {
        let mut s = State::new();
        s.request_piece(false);
        s.response(Message::Head { end: false });
        let mut fed = s;
        s.cut_short();
        assert!(s.is_over());
        assert_eq!(s.wants(), wants(false, false, false));
        fed.feed();
        fed.cut_short();
        assert!(fed.is_answered() && !fed.is_over());
        fed.served();
        assert!(fed.is_over());
        let mut tunnel = State::new();
        tunnel.response(Message::Switching);
        tunnel.cut_short();
        assert!(tunnel.is_tunnel() && !tunnel.is_over());
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

    #[test]
    fn a_client_that_is_fed_is_waited_for() {
        let mut s = State::new();
        s.request_piece(true);
        s.response(Message::Head { end: false });
        s.feed();
        let fed = |response| Wants {
            stored: true,
            ..wants(false, response, true)
        };
        assert_eq!(s.wants(), fed(true));
        s.response(Message::Rest { end: true });
        assert!(s.is_answered() && !s.is_over());
        assert_eq!(s.wants(), fed(false));
        s.served();
        assert!(s.is_over());
    }

    #[test]
    fn a_client_that_is_served_is_not_asked_again() {
        let mut s = State::new();
        s.request_piece(true);
        s.response(Message::Head { end: false });
        s.feed();
        s.served();
        assert_eq!(s.wants(), wants(false, true, false));
        s.response(Message::Rest { end: true });
        assert!(s.is_over());
    }

    #[test]
    fn a_response_goes_on_without_its_client_if_it_was_asked_for() {
        let mut s = State::new();
        s.request_piece(false);
        assert!(!s.can_lose_client());
        let mut early = s;
        early.response(Message::Head { end: false });
        assert!(early.can_lose_client());
        early.client_gone();
        assert_eq!(early.wants(), wants(false, true, false));
        s.request_piece(true);
        assert!(s.can_lose_client());
        s.client_gone();
        assert!(!s.can_lose_client());
        assert_eq!(s.wants(), wants(false, true, false));
        s.response(Message::Head { end: true });
        assert!(s.is_over());
    }

    #[test]
    fn a_tunnel_has_a_client() {
        let mut s = State::new();
        s.request_piece(true);
        s.response(Message::Switching);
        s.feed();
        assert!(s.follows() && !s.can_lose_client());
    }

    #[test]
    fn an_answer_asks_for_nothing() {
        assert_eq!(State::answering().wants(), wants(false, true, true));
    }
}
