//! What is asked of each peer.

use crate::load::Load;

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What the processor time is divided by.
    pub(crate) unit: &'static str,
    pub(crate) tls: bool,
    /// Answers come from the proxy's own cache, where all but the first are hits.
    pub(crate) cached: bool,
    /// `None`: connections that do nothing, whose memory counts.
    pub(crate) load: Option<Load>,
}

pub(crate) const ALL: [Scenario; 11] = [
    Scenario {
        name: "get",
        title: "Small GET, connections kept",
        unit: "request",
        tls: false,
        cached: false,
        load: Some(Load::Get(64)),
    },
    Scenario {
        name: "body",
        title: "Answers of 1 MiB",
        unit: "request",
        tls: false,
        cached: false,
        load: Some(Load::Big(16)),
    },
    Scenario {
        name: "post",
        title: "POST of 8 KiB",
        unit: "request",
        tls: false,
        cached: false,
        load: Some(Load::Post(64)),
    },
    Scenario {
        name: "connect",
        title: "A new connection for each request",
        unit: "request",
        tls: false,
        cached: false,
        load: Some(Load::Connect(64)),
    },
    Scenario {
        name: "idle",
        title: "Idle connections",
        unit: "connection",
        tls: false,
        cached: false,
        load: None,
    },
    Scenario {
        name: "hit",
        title: "Hits of 1 KiB",
        unit: "request",
        tls: false,
        cached: true,
        load: Some(Load::Hit(64)),
    },
    Scenario {
        name: "hit-body",
        title: "Hits of 1 MiB",
        unit: "request",
        tls: false,
        cached: true,
        load: Some(Load::Big(16)),
    },
    Scenario {
        name: "tls-get",
        title: "TLS: small GET, connections kept",
        unit: "request",
        tls: true,
        cached: false,
        load: Some(Load::Get(64)),
    },
    Scenario {
        name: "tls-body",
        title: "TLS: answers of 1 MiB",
        unit: "request",
        tls: true,
        cached: false,
        load: Some(Load::Big(16)),
    },
    Scenario {
        name: "handshake",
        title: "TLS: a handshake and one request",
        unit: "handshake",
        tls: true,
        cached: false,
        load: Some(Load::Handshakes),
    },
    Scenario {
        name: "h2",
        title: "HTTP/2 over TLS: small GET, 32 at a time on each connection",
        unit: "request",
        tls: true,
        cached: false,
        load: Some(Load::H2(8)),
    },
];

impl Scenario {
    /// What `cost` of a reading is, with its unit.
    pub(crate) fn cost(&self) -> String {
        match self.load {
            Some(_) => format!("CPU µs / {}", self.unit),
            None => format!("bytes / {}", self.unit),
        }
    }
}

/// One measurement of one peer.
#[derive(Clone, Default)]
pub(crate) struct Reading {
    /// Microseconds of the peer's processor time, or bytes of its memory.
    pub(crate) cost: f64,
    pub(crate) seen: Seen,
    pub(crate) shares: Option<Shares>,
}

/// What the load generator saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) done: u64,
    pub(crate) errors: u64,
    pub(crate) per_second: Option<f64>,
    /// Milliseconds.
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    /// What was agreed on for TLS.
    pub(crate) agreed: Option<String>,
}

/// How much of the time of its cores each took, of one.
#[derive(Clone, Copy)]
pub(crate) struct Shares {
    pub(crate) peer: f64,
    pub(crate) load: f64,
    pub(crate) origin: f64,
    /// Of all these cores, by other programs.
    pub(crate) foreign: f64,
}
