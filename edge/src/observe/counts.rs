//! The counters: of routes, of servers, and of workers.
//!
//! To count something new, add a field here, read it in [`snapshot`](super::snapshot), and give it a line in the table
//! of [`prometheus`](mod@super::prometheus).

use std::cell::RefCell;

use super::cell::{Cell, Merge};
use super::histogram::Histogram;
use super::series::{Counts, Own, Slots};

/// Declares counters that each thread has for itself.
macro_rules! counts {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $($(#[doc = $field_doc:literal])* $field:ident: $type:ty),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        // On cache lines of its own: no other thread writes there.
        #[repr(align(128))]
        #[derive(Debug, Default)]
        pub struct $name {
            $($(#[doc = $field_doc])* pub $field: $type,)*
        }

        impl Merge for $name {
            fn merge(&self, other: &Self) {
                $(self.$field.merge(&other.$field);)*
            }
        }

        impl Counts for $name {
            fn own() -> &'static std::thread::LocalKey<RefCell<Vec<Option<Own<Self>>>>> {
                thread_local! {
                    static OWN: RefCell<Vec<Option<Own<$name>>>> = const { RefCell::new(Vec::new()) };
                }
                &OWN
            }

            fn slots() -> &'static Slots {
                static SLOTS: Slots = Slots::new();
                &SLOTS
            }
        }
    };
}

#[cfg(test)]
pub(super) use counts;

/// Declares kinds of which each has a counter.
macro_rules! kinds {
    (
        $(#[doc = $doc:literal])*
        pub enum $name:ident {
            $($(#[doc = $kind_doc:literal])* $kind:ident = $word:literal),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $kind_doc])* $kind,)*
        }

        impl $name {
            /// The names of all kinds, in their order.
            pub const NAMES: &'static [&'static str] = &[$($word),*];
        }

        impl From<$name> for usize {
            #[inline]
            fn from(kind: $name) -> usize {
                kind as usize
            }
        }
    };
}

/// A counter for each of `N` kinds.
#[derive(Debug)]
pub struct ByKind<const N: usize>([Cell; N]);

impl<const N: usize> Default for ByKind<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Cell::default()))
    }
}

impl<const N: usize> Merge for ByKind<N> {
    fn merge(&self, other: &Self) {
        self.0.merge(&other.0);
    }
}

impl<const N: usize> ByKind<N> {
    /// Counts one of a kind.
    #[inline]
    pub fn count(&self, kind: impl Into<usize>) {
        if let Some(cell) = self.0.get(kind.into()) {
            cell.add(1);
        }
    }

    /// Returns the counts, in the order of the kinds.
    pub fn get(&self) -> [u64; N] {
        std::array::from_fn(|index| self.0[index].get())
    }
}

kinds! {
    /// The classes of statuses.
    pub enum Class {
        /// No answer was given.
        None = "none",
        /// Informational: 101.
        Informational = "1xx",
        /// Success.
        Success = "2xx",
        /// A redirect, or not modified.
        Redirect = "3xx",
        /// The fault of the request.
        Client = "4xx",
        /// The fault of a server or of the proxy.
        Server = "5xx",
    }
}

impl Class {
    /// Returns the class of a status; 0 for none.
    #[inline]
    pub fn of(status: u16) -> Self {
        match status / 100 {
            1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirect,
            4 => Self::Client,
            5..=9 => Self::Server,
            _ => Self::None,
        }
    }
}

kinds! {
    /// The ends of requests that failed.
    pub enum Failure {
        /// The client went away.
        ClientLeft = "client_left",
        /// The client took too long.
        ClientTimeout = "client_timeout",
        /// The request is no good one, or is not allowed.
        BadRequest = "bad_request",
        /// There is no server to ask.
        NoServer = "no_server",
        /// No connection to the server.
        Connect = "connect",
        /// No connection to the server in time.
        ConnectTimeout = "connect_timeout",
        /// The handshake of TLS with the server failed, or its certificate is not to be trusted.
        Tls = "tls",
        /// The server took too long.
        UpstreamTimeout = "upstream_timeout",
        /// The server closed the connection, or it broke.
        UpstreamClosed = "upstream_closed",
        /// The server answered with what is no HTTP.
        BadResponse = "bad_response",
        /// The proxy itself failed.
        Internal = "internal",
    }
}

kinds! {
    /// The part of the cache in a request.
    pub enum CacheUse {
        /// Answered from the cache.
        Hit = "hit",
        /// Answered with what is stale.
        Stale = "stale",
        /// Answered from the cache, after the server said that it is still good.
        Revalidated = "revalidated",
        /// What was there was too old, and the server had something new.
        Expired = "expired",
        /// It was not there.
        Miss = "miss",
        /// The cache was not asked.
        Bypass = "bypass",
    }
}

kinds! {
    /// Limits and rules that kept a request from being served.
    pub enum Limit {
        /// A rate.
        Rate = "rate",
        /// Requests at the same time.
        Concurrency = "concurrency",
        /// A list of addresses.
        Address = "address",
        /// Credentials that are missing or wrong.
        Auth = "auth",
        /// The size of the body or of the head.
        Size = "size",
        /// All servers have as many requests as they may.
        Upstream = "upstream",
    }
}

kinds! {
    /// The ends of copies for other servers.
    pub enum MirrorUse {
        /// It was answered.
        Sent = "sent",
        /// No server has answered it.
        Failed = "failed",
        /// It was not sent: too many were under way, or the body was too long or not whole.
        Dropped = "dropped",
    }
}

kinds! {
    /// Versions of TLS.
    pub enum TlsVersion {
        /// TLS 1.2.
        V1_2 = "1.2",
        /// TLS 1.3.
        V1_3 = "1.3",
        /// Another one.
        Other = "other",
    }
}

counts! {
    /// The counters of a route, or of requests that no route took.
    pub struct RouteCounts {
        /// Requests that have ended, by [`Class`].
        requests: ByKind<6>,
        /// Requests that have ended with an error, by [`Failure`].
        failures: ByKind<11>,
        /// Bytes of the bodies of requests.
        bytes_in: Cell,
        /// Bytes of the bodies of responses.
        bytes_out: Cell,
        /// Requests under way.
        open: Cell,
        /// Further tries.
        retries: Cell,
        /// Requests by the part that the cache had, by [`CacheUse`].
        cache: ByKind<6>,
        /// Requests that a limit or rule has kept from being served, by [`Limit`].
        limited: ByKind<6>,
        /// Requests that have waited for a server with room.
        queued: Cell,
        /// The nanoseconds for which they have waited.
        queued_ns: Cell,
        /// Copies for other servers, by [`MirrorUse`].
        mirrored: ByKind<3>,
        /// From the head of the request to the end of the response.
        durations: Histogram,
    }
}

counts! {
    /// The counters of a server.
    pub struct EndpointCounts {
        /// Tries that were answered, by [`Class`].
        responses: ByKind<6>,
        /// Tries that failed, by [`Failure`].
        failures: ByKind<11>,
        /// Tries under way.
        open: Cell,
        /// From the choice of the server to the head of its response.
        durations: Histogram,
    }
}

counts! {
    /// The counters of a worker.
    pub struct WorkerCounts {
        /// Requests that have ended.
        requests: Cell,
        /// Requests under way.
        open: Cell,
        /// Requests that were refused before a route was looked for.
        refused: Cell,
    }
}

counts! {
    /// The counters of handshakes of TLS with clients.
    pub struct HandshakeCounts {
        /// Handshakes, by [`TlsVersion`].
        handshakes: ByKind<3>,
        /// Those of them that took up an earlier session.
        resumed: Cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_counter() {
        let (route, endpoint) = (RouteCounts::default(), EndpointCounts::default());
        assert_eq!(route.requests.get().len(), Class::NAMES.len());
        assert_eq!(route.failures.get().len(), Failure::NAMES.len());
        assert_eq!(endpoint.failures.get().len(), Failure::NAMES.len());
        assert_eq!(route.cache.get().len(), CacheUse::NAMES.len());
        assert_eq!(route.limited.get().len(), Limit::NAMES.len());
        assert_eq!(route.mirrored.get().len(), MirrorUse::NAMES.len());
        let tls = HandshakeCounts::default();
        assert_eq!(tls.handshakes.get().len(), TlsVersion::NAMES.len());
    }

    #[test]
    fn statuses_have_classes() {
        for (status, name) in [
            (0, "none"),
            (101, "1xx"),
            (204, "2xx"),
            (304, "3xx"),
            (499, "4xx"),
            (502, "5xx"),
            (999, "5xx"),
        ] {
            assert_eq!(Class::NAMES[usize::from(Class::of(status))], name);
        }
    }
}
