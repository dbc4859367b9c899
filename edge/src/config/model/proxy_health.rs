//! The health of servers, and what follows from it.

use std::time::Duration;

use http::{HeaderName, Method};

use crate::config::section::{choice, section, At, ByName};
use crate::config::values::{Count, Percent, RequestTarget, StatusRange};

section! {
    /// Rules by which a server that fails requests is left alone: for a while it gets none, unless all others are left alone too.
    /// Then one request tries it, and an answer brings it back.
    pub struct PassiveHealth("passive health", short: max_fails) {
        /// The failures within `window` after which it is left alone; 0 for never.
        max_fails: u32 = 1,
        /// The time in which failures are counted.
        window: Duration = Duration::from_secs(10),
        /// The time for which it is left alone.
        eject_for: Duration = Duration::from_secs(10),
        /// The statuses of answers that count as failures, beside connections that fail, break off or take too long.
        statuses: Vec<StatusRange> = Vec::new(),
    }
}

section! {
    /// Rules by which requests to a server are held back because too many fail, by a connection, a time limit or a status of 5xx.
    /// Then one request at a time tries it, until one succeeds.
    pub struct CircuitBreaker("a circuit breaker", short: error_rate) {
        /// The share of requests that fail.
        error_rate: At<Percent>,
        /// The time over which it is looked at.
        window: Duration = Duration::from_secs(10),
        /// The fewest requests in that time by which a server is judged.
        min_requests: u32 = 20,
        /// The time for which requests are held back.
        open_for: Duration = Duration::from_secs(10),
    }
}

section! {
    /// Checks of each server beside the requests. One that is down gets no request until checks succeed again.
    pub struct Health("active health", short: path) {
        /// The kind of check.
        kind: CheckKind = CheckKind::Http,
        /// The path that is asked for.
        path: Option<At<RequestTarget>> = None,
        /// The method.
        method: Option<At<Method>> = None,
        /// The host that is asked for. If unset, the address of the server in the file.
        host: Option<At<String>> = None,
        /// More headers of the request.
        headers: ByName<HeaderName, At<String>> = ByName::default(),
        /// The statuses of a server that is up. If unset, 200 to 399.
        expect: Vec<At<StatusRange>> = Vec::new(),
        /// A text that the first 64 KiB of the body must hold.
        body: Option<At<String>> = None,
        /// The service that a gRPC server is asked about. If unset, the server as a whole.
        service: Option<At<String>> = None,
        /// The port that is checked. If unset, that of requests.
        port: Option<At<u32>> = None,
        /// The time from the end of a check to the next.
        interval: Duration = Duration::from_secs(10),
        /// The time limit of a check.
        timeout: Duration = Duration::from_secs(5),
        /// The checks in a row that must succeed before a server that is down is up.
        healthy_after: Count = Count(2),
        /// The checks in a row that must fail before a server that is up is down.
        unhealthy_after: Count = Count(3),
        /// The state that a server is taken to have until it is checked.
        initially: Initially = Initially::Up,
    }
}

choice! {
    /// The kinds of checks.
    pub enum CheckKind("a kind of check") {
        /// A request of HTTP.
        Http = "http",
        /// A connection, with the handshake of TLS where that is spoken.
        Tcp = "tcp",
        /// A call of the health service of gRPC.
        Grpc = "grpc",
    }
}

choice! {
    /// The states that a server is taken to have.
    pub enum Initially("a state of a server") {
        /// Up.
        Up = "up",
        /// Down.
        Down = "down",
    }
}
