//! The traits of [`IO`](super::IO) for the streams that tests use in place of connections:
//! `Cursor`, `DuplexStream`, `UnixStream` and tokio-test's `Mock`.

use std::io::Cursor;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::DuplexStream;
use tokio::net::UnixStream;

use super::raw_connect::ProxyDigest;
use super::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};

macro_rules! no_connection {
    ($($stream:ty $(, $t:ident)?;)*) => {$(
        #[async_trait]
        impl$(<$t: Send>)? Shutdown for $stream {
            async fn shutdown(&mut self) {}
        }

        impl$(<$t>)? UniqueID for $stream {
            fn id(&self) -> UniqueIDType {
                0
            }
        }

        impl$(<$t>)? Ssl for $stream {}

        impl$(<$t>)? GetTimingDigest for $stream {
            fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
                Vec::new()
            }
        }

        impl$(<$t>)? GetProxyDigest for $stream {
            fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
                None
            }
        }

        impl$(<$t>)? GetSocketDigest for $stream {
            fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
                None
            }
        }

        impl$(<$t>)? Peek for $stream {}
    )*};
}

no_connection! {
    Cursor<T>, T;
    DuplexStream;
    UnixStream;
}

#[cfg(feature = "mock")]
no_connection! {
    tokio_test::io::Mock;
}
