//! The facts that a stream tells about its connection.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use once_cell::sync::OnceCell;

use super::raw::RawStream;
use super::Stream;
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::raw_connect::ProxyDigest;
use crate::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, SocketDigest, TimingDigest,
};

impl GetTimingDigest for Stream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![Some(TimingDigest {
            established_ts: self.established_ts,
            ..TimingDigest::default()
        })]
    }

    fn get_read_pending_time(&self) -> Duration {
        self.read_waiting.total()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.write_waiting.total()
    }
}

impl GetProxyDigest for Stream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.proxy_digest.clone()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.proxy_digest = Some(Arc::new(digest));
    }
}

impl GetSocketDigest for Stream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        let fd = match &self.raw {
            RawStream::Virtual(_) | RawStream::Closed => return self.socket_digest.get().cloned(),
            raw => raw.as_raw_fd(),
        };
        let digest = self.socket_digest.get_or_init(|| {
            let mut digest = SocketDigest::from_raw_fd(fd);
            if let Some(peer) = self.peer {
                digest.peer_addr = OnceCell::with_value(Some(SocketAddr::Inet(peer)));
            }
            Arc::new(digest)
        });
        Some(digest.clone())
    }

    fn set_socket_digest(&mut self, socket_digest: SocketDigest) {
        self.socket_digest = OnceCell::with_value(Arc::new(socket_digest));
    }
}
