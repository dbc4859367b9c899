//! Time limits of requests to servers.

use crate::config::section::section;
use crate::config::values::TimeLimit;
use crate::config::Place;

/// The limits of nginx, but for connections, which are made in less or not at all.
const CONNECT: TimeLimit = TimeLimit::seconds(5);
const OTHERS: TimeLimit = TimeLimit::seconds(60);

section! {
    /// Time limits of a request to a server; `off` for none.
    pub struct Timeouts("time limits") {
        /// For the connection.
        connect: TimeLimit = CONNECT,
        /// For the handshake of TLS. If unset, `connect` is for both together.
        handshake: Option<TimeLimit> = None,
        /// For the head of the response, from the last byte of the request on; for the `100 Continue` that a client waits for,
        /// from its head on.
        response: TimeLimit = OTHERS,
        /// Between two reads.
        read: TimeLimit = OTHERS,
        /// Between two writes.
        write: TimeLimit = OTHERS,
        /// For a connection that is kept and has no request.
        idle: TimeLimit = OTHERS,
        /// For a request as a whole, with all its tries and the body of the answer. Upgraded connections, such as
        /// WebSockets, are left out.
        request: TimeLimit = TimeLimit::OFF,
    }
}

impl Timeouts {
    /// Returns the limits that hold where none are told.
    pub(crate) fn usual(place: Place) -> Self {
        Self {
            place,
            connect: CONNECT,
            handshake: None,
            response: OTHERS,
            read: OTHERS,
            write: OTHERS,
            idle: OTHERS,
            request: TimeLimit::OFF,
        }
    }
}
