//! The limits of the framework: times, sizes and counts, with their units and defaults.
//!
//! Settings of the user have their defaults here, and fixed limits their values. [`Limits::all`]
//! lists them, for who shows them.

use std::time::Duration;

/// The value of a limit, with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// A time.
    Time(Duration),
    /// A number of bytes.
    Bytes(u64),
    /// A number of anything else.
    Count(u64),
}

macro_rules! value {
    (Time, $value:expr) => {
        Limit::Time($value)
    };
    (Seconds, $value:expr) => {
        Limit::Time(Duration::from_secs($value))
    };
    (Bytes, $value:expr) => {
        Limit::Bytes($value as u64)
    };
    (Count, $value:expr) => {
        Limit::Count($value as u64)
    };
}

/// Makes the struct, the defaults, and the list of both from one table.
macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $kind:ident $type:ty = $default:expr,)*) => {
        /// The limits of a server and of its connections to upstreams. `client` is whoever connects to the server.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Limits {
            $($(#[$doc])* pub $name: $type,)*
        }

        impl Limits {
            /// The defaults.
            pub const DEFAULT: Limits = Limits { $($name: $default,)* };

            /// Lists every limit with its name.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, Limit)> {
                [$((stringify!($name), value!($kind, self.$name)),)*].into_iter()
            }
        }
    };
}

impl Default for Limits {
    fn default() -> Self {
        Limits::DEFAULT
    }
}

/// The limits in force.
pub const LIMITS: Limits = Limits::DEFAULT;

limits! {
    /// The time for a TLS handshake of a client, for its connection preface of HTTP/2, and for the first bytes that tell the
    /// protocol.
    client_handshake: Time Duration = Duration::from_secs(60),
    /// The time for a client's PROXY protocol header, unless configured.
    client_proxy_header: Time Duration = Duration::from_secs(5),
    /// The time for which an idle connection of HTTP/1.1 is kept, in seconds, unless the application says otherwise.
    client_idle_seconds: Seconds u64 = 60,
    /// The time that a request head may take from its first byte, and a request body between two pieces, unless
    /// configured.
    client_read: Time Duration = Duration::from_secs(60),
    /// The time that a field block of HTTP/2 may take from its first byte to its last.
    client_field_block: Time Duration = Duration::from_secs(60),
    /// The time for which a client may take nothing of its response, unless configured.
    client_write: Time Duration = Duration::from_secs(60),
    /// The time that a client which has closed its direction waits for a byte of its response, unless the application says
    /// otherwise: one that is gone looks the same.
    client_half_closed: Time Duration = Duration::from_secs(60),
    /// The time for the rest of a request body once the response is out, unless configured.
    client_drain: Time Duration = Duration::from_secs(5),
    /// Bytes of a request body that are read and dropped, to keep the connection.
    client_drain_bytes: Bytes usize = 1 << 20,
    /// The time for which a closed connection is read on, so that the client gets its answer (RFC 9112 section 9.6).
    client_linger: Time Duration = Duration::from_secs(2),
    /// The same for a connection of HTTP/2, which has told its end by GOAWAY.
    client_linger_h2: Time Duration = Duration::from_secs(1),
    /// Bytes that a closed connection is read on for.
    linger_bytes: Bytes usize = 1 << 20,
    /// The time that what a client has begun to send may still take once the server shuts down, unless configured.
    client_shutdown_read: Time Duration = Duration::from_secs(5),
    /// Bytes that are read of a request in plain HTTP on a TLS port.
    client_refused_bytes: Bytes u64 = 64 * 1024,
    /// The time for reading them and for the answer.
    client_refused: Time Duration = Duration::from_secs(1),
    /// Bytes of a message head of HTTP/1.x.
    request_head_bytes: Bytes usize = (1 << 20) - 1,
    /// Bytes of a request target: `http::Uri` holds no more.
    request_target_bytes: Bytes usize = u16::MAX as usize - 1,
    /// Fields of a message head of HTTP/1.x.
    head_fields: Count usize = 256,
    /// Bytes of all chunk extensions of a message. Nobody uses them; who sends many means to cost time.
    chunk_extension_bytes: Bytes usize = 16 * 1024,
    /// Bytes of a trailer section of HTTP/1.1.
    trailer_bytes: Bytes usize = 64 * 1024,
    /// Bytes of informational responses to one request of HTTP/2: the connection keeps those that the client does not take.
    informational_bytes: Bytes usize = 64 * 1024,
    /// Bytes of a request body that are kept for a retry.
    retry_buffer_bytes: Bytes usize = 64 * 1024,
    /// Elements of Connection in a request whose nominated fields are removed: each costs work.
    connection_options: Count usize = 10,
    /// Lists of connections that wait for their next request; workers share one only when there are more of them.
    waiting_lists: Count usize = 64,
    /// Ranges of one request, unless the application says otherwise.
    ranges: Count usize = 200,
    /// Streams that a client may have open at a time.
    h2_client_streams: Count u32 = 100,
    /// Bytes of a request's fields, as RFC 9113 section 6.5.2 counts them.
    h2_client_field_bytes: Bytes u32 = 64 * 1024,
    /// Bytes of a request body that a client may send ahead of its reader.
    h2_client_stream_window_bytes: Bytes u32 = 256 * 1024,
    /// The same over all streams of a connection, so that with what it costs to hold them they stay below 1 MiB. Two uploads
    /// at a time are as fast as each alone: 210 Mbit/s over 10 ms.
    h2_client_window_bytes: Bytes u32 = 640 * 1024,
    /// Bytes of responses between the origins and the socket of a connection, over all its streams, unless configured.
    h2_client_send_buffer_bytes: Bytes usize = 1024 * 1024,
    /// Bytes that one stream buffers in its connection, on either side. Two full frames keep the connection busy while the
    /// stream's task gets the next ones.
    h2_send_buffer_bytes: Bytes usize = 32 * 1024,
    /// Resets that a client may make the server send, over the life of a connection.
    h2_client_local_resets: Count usize = 128,
    /// Streams that a client may reset before they were looked at.
    h2_client_pending_resets: Count usize = 20,
    /// Streams reset by the server that are remembered, to ignore what is still on its way for them.
    h2_client_remembered_resets: Count usize = 50,
    /// Malformed requests on one connection.
    h2_client_malformed: Count u32 = 32,
    /// Requests on a connection after its GOAWAY: more than a client can have sent before it knew.
    h2_client_late: Count u32 = 1000,
    /// The time after which a silent client is sent a PING, unless configured.
    h2_client_ping: Time Duration = Duration::from_secs(60),
    /// The time for the last frames of a connection that ends at once.
    h2_client_last_words: Time Duration = Duration::from_secs(5),
    /// Idle connections to upstreams that are kept, unless configured.
    upstream_pool: Count usize = 128,
    /// The time in which a connection to an upstream that nobody has any more, or that gives way to another one, has to close.
    give_way: Time Duration = Duration::from_secs(1),
    /// The time for the rest of a response that nobody reads: about as long as a new connection takes.
    upstream_drain: Time Duration = Duration::from_millis(100),
    /// Bytes of a response that are read and dropped, to keep the connection.
    upstream_drain_bytes: Bytes usize = 64 * 1024,
    /// Bytes of a proxy's answer to CONNECT.
    upstream_proxy_head_bytes: Bytes usize = 64 * 1024,
    /// Streams opened before the upstream has said how many it takes.
    h2_upstream_streams: Count usize = 100,
    /// Bytes of a response's fields.
    h2_upstream_field_bytes: Bytes u32 = 256 * 1024,
    /// The window of a stream, unless configured: what a link of 1 Gbit/s holds in 10 ms, and more.
    h2_upstream_stream_window_bytes: Bytes u32 = 2 * 1024 * 1024,
    /// The window of a connection, unless configured; it bounds what its streams together keep in memory.
    h2_upstream_window_bytes: Bytes u32 = 8 * 1024 * 1024,
    /// The window that a connection with one stream at a time begins with. Many of them may be made for clients that take
    /// nothing.
    h2_upstream_first_window_bytes: Bytes u32 = 128 * 1024,
    /// Streams reset by this side that are remembered, to ignore what is still on its way for them.
    h2_upstream_remembered_resets: Count usize = 1024,
    /// The time for which they are.
    h2_upstream_reset_memory: Time Duration = Duration::from_secs(30),
    /// Bytes by which small DATA frames that wait may fall short of 256 each; the windows bound them as well.
    h2_upstream_small_data_bytes: Bytes usize = 32 * 1024 * 1024,
    /// The time for the peer's SETTINGS, where they are awaited and no time to connect is configured.
    h2_upstream_settings: Time Duration = Duration::from_secs(10),
    /// The time for the answer to a PING.
    h2_upstream_ping: Time Duration = Duration::from_secs(5),
    /// The time for the end of a stream whose response is complete.
    h2_upstream_ending: Time Duration = Duration::from_secs(10),
    /// Such streams of a connection; more are reset, the oldest first.
    h2_upstream_endings: Count usize = 32,
    /// The time after which a failed look-up of a name is tried again, unless the time to live is shorter.
    resolve_retry: Time Duration = Duration::from_secs(5),
    /// The time that a graceful stop may take, unless configured.
    stop: Time Duration = Duration::from_secs(300),
    /// The time that the runtimes get to end after it, unless configured.
    stop_runtimes: Time Duration = Duration::from_secs(5),
    /// The time for which both processes accept during an upgrade.
    upgrade_overlap: Time Duration = Duration::from_secs(5),
    /// The time for which idle connections are kept in an upgrade, unless configured.
    upgrade_keep_idle: Time Duration = Duration::from_secs(5),
    /// The time that the starting process waits for the daemon in an upgrade, unless configured.
    daemon_ready: Time Duration = Duration::from_secs(600),
    /// The time that the daemon's services may take until they listen, unless configured.
    daemon_notify: Time Duration = Duration::from_secs(60),
    /// The time that a daemon may take to be set up: nothing in it waits for anything.
    daemon_setup: Time Duration = Duration::from_secs(60),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_listed_with_its_unit() {
        let all: Vec<_> = Limits::default().all().collect();
        for (name, limit) in [
            ("client_read", Limit::Time(Duration::from_secs(60))),
            ("client_idle_seconds", Limit::Time(Duration::from_secs(60))),
            ("client_drain_bytes", Limit::Bytes(1 << 20)),
            ("upstream_pool", Limit::Count(128)),
        ] {
            assert!(all.contains(&(name, limit)), "{name}");
        }
        for (name, limit) in all {
            assert_eq!(
                name.ends_with("_bytes"),
                matches!(limit, Limit::Bytes(_)),
                "{name}"
            );
        }
    }

    /// The memory kept for a client stays in proportion: a head fits, and a connection holds no less than a stream.
    #[test]
    fn the_limits_fit_each_other() {
        let limits = LIMITS;
        assert!(limits.request_target_bytes < limits.request_head_bytes);
        assert!(limits.h2_client_stream_window_bytes <= limits.h2_client_window_bytes);
        assert!(limits.h2_upstream_first_window_bytes <= limits.h2_upstream_window_bytes);
        assert!(limits.h2_send_buffer_bytes <= limits.h2_client_send_buffer_bytes);
        assert!(limits.upgrade_overlap <= limits.stop);
    }
}
