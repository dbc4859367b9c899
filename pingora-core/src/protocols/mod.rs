//! The protocols, from sockets to HTTP.
//!
//! [`Stream`] is what every layer passes on: a boxed [`IO`], which may be a TCP connection, a TLS
//! session on top of one, or something a user made. The small traits below are what the layers above
//! may ask of it.

mod digest;
pub mod ext_test;
pub mod http;
mod io;
pub mod l4;
pub mod raw_connect;
pub mod tls;

pub use digest::{
    Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest, ProtoDigest, SocketDigest,
    TimingDigest,
};
pub use io::{Peek, Shutdown, Ssl, Stream, UniqueID, UniqueIDType, IO};
pub use l4::ext::TcpKeepalive;
pub use tls::ALPN;
