//! Servers that requests go to.

use std::time::Duration;

use super::{
    Cache, Certificate, CircuitBreaker, Health, PassiveHealth, ProxyVersion, Queue, Retries,
    Sticky, Timeouts,
};
use crate::config::section::{choice, section, At};
use crate::config::values::{Count, FilePath, ServerAddress, Template};
use crate::config::Place;

section! {
    /// Servers that requests go to, and the way to them.
    pub struct Proxy("a proxy action", short: to) {
        /// The servers.
        to: Vec<Endpoint>,
        /// The way in which a server is chosen for each request.
        balance: Balance = Balance::RoundRobin,
        /// The text by which `balance: hash` chooses, such as `{header.x-user}`. If unset, `{client_ip}`.
        hash_by: Option<At<Template>> = None,
        /// The time limits of a request.
        timeouts: Option<Timeouts> = None,
        /// TLS to the servers. If unset, they are spoken to in the clear.
        tls: Option<UpstreamTls> = None,
        /// The version of HTTP to the servers. If unset, `auto`.
        protocol: Option<At<Protocol>> = None,
        /// When a server that fails requests is left alone. If unset, after one failure, for 10 seconds.
        passive_health: Option<PassiveHealth> = None,
        /// Checks of the servers beside the requests. If unset, there are none.
        health: Option<Health> = None,
        /// When a request is tried again. If unset, each server gets it once at most: the next one after a failed
        /// connection, or after one that broke off if the request may be sent twice.
        retries: Option<Retries> = None,
        /// When all requests to a server are held back because too many fail.
        circuit_breaker: Option<CircuitBreaker> = None,
        /// The requests that wait while all servers have `max_requests` or `max_connections`. If unset, none does: they are
        /// refused.
        queue: Option<Queue> = None,
        /// The version of the PROXY protocol that tells servers the address of the client, before TLS. Each client has
        /// connections of its own then. If unset, it is not spoken.
        proxy_protocol: Option<ProxyVersion> = None,
        /// A cookie that keeps a client at its server. If unset, there is none.
        sticky: Option<Sticky> = None,
        /// The time in which the share of a server that has come up grows from a tenth to the whole.
        slow_start: Option<Duration> = None,
        /// Answers from memory. If unset, each request goes to a server.
        cache: Option<Cache> = None,
    }
}

section! {
    /// A server that requests go to.
    pub struct Endpoint("a server", short: address) {
        /// Its address: `IP:PORT`, `NAME:PORT` or `unix:/PATH`; or `srv:NAME`, for all servers that SRV records name, which
        /// share its weight.
        address: At<ServerAddress>,
        /// Its share of requests, beside the weights of the others. None are sent to one of weight 0.
        weight: u32 = 1,
        /// True if it gets requests only while no other server can take them.
        backup: bool = false,
        /// True if it is spoken to with TLS, on the terms of `tls` beside `to`. If unset, as that says.
        tls: Option<bool> = None,
        /// The version of HTTP to it. If unset, that of all.
        protocol: Option<At<Protocol>> = None,
        /// The requests that it has at a time at most, over all workers. If unset, any number.
        max_requests: Option<Count> = None,
        /// The connections that are open to it at a time at most, over all workers and routes. If unset, any number.
        max_connections: Option<Count> = None,
    }
}

choice! {
    /// The versions of HTTP to servers.
    pub enum Protocol("a version of HTTP") {
        /// HTTP/1.1 in the clear; over TLS HTTP/2 where the server chooses it by ALPN, else HTTP/1.1.
        Auto = "auto",
        /// HTTP/1.1.
        H1 = "h1",
        /// HTTP/2 over TLS.
        H2 = "h2",
        /// HTTP/2 in the clear, by prior knowledge.
        H2c = "h2c",
    }
}

choice! {
    /// The ways in which a server is chosen.
    pub enum Balance("a way to balance") {
        /// One after another.
        RoundRobin = "round_robin",
        /// Any of them.
        Random = "random",
        /// The one of two random servers that has fewer requests.
        LeastRequests = "least_requests",
        /// The one of two random servers that is likely to answer sooner: by the time to the heads of its answers of late,
        /// and the requests that it has.
        PeakEwma = "peak_ewma",
        /// The same one for the same text (`hash_by`), as long as the servers stay the same; most stay when some change.
        Hash = "hash",
    }
}

section! {
    /// TLS to servers.
    pub struct UpstreamTls("TLS to servers", short: enabled) {
        /// True if it is spoken.
        enabled: bool = true,
        /// The name that the certificate must have, and that is sent as SNI. If unset, that of the address.
        name: Option<String> = None,
        /// The file of the certificates (PEM) to trust. If unset, those of the system.
        ca: Option<FilePath> = None,
        /// The certificate that is shown to servers.
        client: Option<Certificate> = None,
        /// True if certificates that are not to be trusted are taken.
        insecure: bool = false,
    }
}

impl UpstreamTls {
    /// Returns the terms that hold where none are told: the authorities of the system are trusted.
    pub(crate) fn of_system(place: Place) -> Self {
        Self {
            place,
            enabled: true,
            name: None,
            ca: None,
            client: None,
            insecure: false,
        }
    }
}
