//! The transport connection to a peer.

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr as InetAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use pingora_error::{
    Context, Error,
    ErrorType::{ConnectError, ConnectTimedout, InternalError},
    Result,
};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::{permit, tunnel};
use crate::protocols::l4::bind_to::BindTo;
use crate::protocols::l4::connect_error::connect_error;
use crate::protocols::l4::ext;
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::l4::stream::Stream;
use crate::protocols::GetProxyDigest;
use crate::upstreams::peer::{Peer, Proxy};

/// Connects to `peer` from `bind_to`, with all that its options say about the transport.
///
/// # Errors
/// By cause, and naming the peer: `ConnectRefused`, `ConnectNoRoute`, `ConnectTimedout`,
/// `ConnectProxyFailure`, `BindError` and `SocketError` for what failed on this side, else `ConnectError`. One that
/// [`lacks_connect_permit`](super::lacks_connect_permit) knows when the peer's connections are limited and there is no place
/// for one more.
///
/// # Cancel safety
/// Dropping the future closes what was opened.
pub(crate) async fn connect<P>(peer: &P, bind_to: Option<BindTo>) -> Result<Stream>
where
    P: Peer + Send + Sync,
{
    let guard = permit::acquire(peer)?;
    let mut stream = open(peer, bind_to)
        .await
        .err_context(|| format!("peer: {peer}"))
        .map_err(Error::into_up)?;
    stream.set_guard(guard);

    if let Some(keepalive) = peer.tcp_keepalive() {
        stream.set_keepalive(keepalive)?;
    }
    stream.set_nodelay()?;
    if let Some(tracer) = peer.get_tracer() {
        tracer.0.on_connected();
        stream.tracer = Some(tracer);
    }
    Ok(stream)
}

async fn open<P>(peer: &P, bind_to: Option<BindTo>) -> Result<Stream>
where
    P: Peer + Send + Sync,
{
    let limit = peer.connection_timeout();
    let custom = peer.get_peer_options().and_then(|o| o.custom_l4.as_ref());
    if let Some(custom) = custom {
        return bounded(limit, custom.connect(peer.address())).await;
    }
    if let Some(proxy) = peer.get_proxy() {
        return bounded(limit, connect_proxy(peer, proxy)).await;
    }
    match peer.address() {
        SocketAddr::Inet(addr) => connect_inet(peer, addr, bind_to).await,
        SocketAddr::Unix(addr) => match addr.as_pathname() {
            Some(path) => bounded(limit, ext::connect_uds(path))
                .await
                .map(Stream::from),
            None => Error::e_explain(ConnectError, "the Unix socket has no path"),
        },
    }
}

async fn bounded<T>(
    limit: Option<Duration>,
    connecting: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(limit) = limit else {
        return connecting.await;
    };
    timeout(limit, connecting).await.unwrap_or_else(|_| {
        Error::e_explain(ConnectTimedout, format!("not connected within {limit:?}"))
    })
}

async fn connect_inet<P: Peer>(
    peer: &P,
    addr: &InetAddr,
    bind_to: Option<BindTo>,
) -> Result<Stream> {
    let tcp = ext::start_connect(addr, bind_to.as_ref(), |socket| prepare(peer, socket))?;
    // Here and not around all of it: after a timeout too, the local address can still be told.
    let connected = match peer.connection_timeout() {
        None => ext::finish_connect(&tcp).await,
        Some(limit) => timeout(limit, ext::finish_connect(&tcp))
            .await
            .unwrap_or_else(|_| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("not connected within {limit:?}"),
                ))
            }),
    };
    connected.map_err(|e| connect_error(e, addr, tcp.local_addr().ok()))?;
    if addr.ip().is_unspecified() {
        // The connection leads to an address that is not known yet.
        return Ok(tcp.into());
    }
    Ok(Stream::with_peer(tcp, *addr))
}

/// Sets the options that must be set before connecting.
fn prepare<P: Peer>(peer: &P, socket: &TcpSocket) -> Result<()> {
    let fd = socket.as_raw_fd();
    if peer.tcp_fast_open() {
        ext::set_tcp_fastopen_connect(fd)?;
    }
    if let Some(size) = peer.tcp_recv_buf() {
        // The window scale is agreed on in the handshake.
        ext::set_recv_buf(fd, size)?;
    }
    if let Some(dscp) = peer.dscp() {
        ext::set_dscp(fd, dscp)?;
    }
    match peer.upstream_tcp_sock_tweak_hook() {
        Some(hook) => hook(socket),
        None => Ok(()),
    }
}

async fn connect_proxy<P>(peer: &P, proxy: &Proxy) -> Result<Stream>
where
    P: Peer + Send + Sync,
{
    let hop = Stream::from(ext::connect_uds(&proxy.next_hop).await?);
    let extra = peer.get_peer_options().map(|o| &o.extra_proxy_headers);
    let headers = proxy.headers.iter().chain(extra.into_iter().flatten());
    let request = tunnel::generate_connect_header(&proxy.host, proxy.port, headers)?;
    let (stream, digest) = tunnel::connect(Box::new(hop), &request, peer).await?;
    // What comes out is what went in.
    let mut stream = *stream
        .into_any()
        .downcast::<Stream>()
        .map_err(|_| Error::explain(InternalError, "the tunnel is not the stream to the proxy"))?;
    stream.set_proxy_digest(digest);
    Ok(stream)
}

/// Returns the address to connect to `peer` from: its own choice, else one of these addresses of its family.
pub(crate) fn bind_to<P: Peer>(peer: &P, v4: &[InetAddr], v6: &[InetAddr]) -> Option<BindTo> {
    if let Some(own) = peer.bind_to() {
        return Some(own.clone());
    }
    let addresses = match peer.address() {
        SocketAddr::Inet(InetAddr::V4(_)) => v4,
        SocketAddr::Inet(InetAddr::V6(_)) => v6,
        SocketAddr::Unix(_) => return None,
    };
    let addr = match addresses {
        [] => return None,
        [one] => one,
        // A new state of the standard hasher is a random number for the asking.
        many => &many[RandomState::new().build_hasher().finish() as usize % many.len()],
    };
    Some(BindTo::at(*addr))
}

#[cfg(test)]
mod tests;
