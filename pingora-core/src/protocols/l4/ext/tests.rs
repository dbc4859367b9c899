use std::os::fd::AsRawFd;

use pingora_error::ErrorType::{ConnectNoRoute, ConnectRefused, ConnectTimedout};
use tokio::net::TcpListener;

use super::*;
use crate::protocols::l4::connect_error::ConnectErrorExt;

async fn listener() -> (TcpListener, InetAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

fn option(socket: &impl AsRawFd, level: c_int, name: c_int) -> c_int {
    getsockopt(socket.as_raw_fd(), level, name).unwrap()
}

/// A port to which nobody listens, for as long as the socket lives.
fn deaf() -> (socket2::Socket, InetAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: InetAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}

fn from(addr: &str) -> BindTo {
    let mut bind_to = BindTo::default();
    bind_to.addr = Some(addr.parse().unwrap());
    bind_to
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn keepalive_is_set() {
    let (_listener, addr) = listener().await;
    let stream = connect(&addr, None).await.unwrap();
    let mut ka = TcpKeepalive {
        idle: Duration::from_secs(61),
        interval: Duration::from_secs(7),
        count: 5,
        user_timeout: Duration::from_millis(12_345),
    };
    assert_eq!(ka.to_string(), "61s/7s/5/12.345s");
    set_tcp_keepalive(&stream, &ka).unwrap();
    for (level, name, value) in [
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 61),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 7),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 5),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 12_345),
    ] {
        assert_eq!(option(&stream, level, name), value, "{name}");
    }
    ka.count = 1000;
    let e = set_tcp_keepalive(&stream, &ka).unwrap_err();
    assert_eq!(e.etype(), &SocketError);
}

#[tokio::test]
async fn buffer_sizes() {
    let (listener, _) = listener().await;
    let fd = listener.as_raw_fd();
    for size in [8192, 32768] {
        set_recv_buf(fd, size).unwrap();
        set_snd_buf(fd, size).unwrap();
        // Linux tells the double.
        assert!([size, 2 * size].contains(&get_recv_buf(fd).unwrap()));
        assert!([size, 2 * size].contains(&get_snd_buf(fd).unwrap()));
    }
    assert!(set_recv_buf(fd, usize::MAX).is_err());
}

#[tokio::test]
async fn dscp() {
    let (listener, _) = listener().await;
    set_dscp(listener.as_raw_fd(), 46).unwrap();
    assert_eq!(option(&listener, libc::IPPROTO_IP, libc::IP_TOS), 46 << 2);
    assert!(set_dscp(listener.as_raw_fd(), 64).is_err());
    // A system may have no IPv6.
    if let Ok(socket) = TcpSocket::new_v6() {
        set_dscp(socket.as_raw_fd(), 10).unwrap();
        let class = option(&socket, libc::IPPROTO_IPV6, libc::IPV6_TCLASS);
        assert_eq!(class, 10 << 2);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_linux_tells() {
    let (listener, addr) = listener().await;
    let stream = connect(&addr, None).await.unwrap();
    let info = get_tcp_info(stream.as_raw_fd()).unwrap();
    assert_eq!(info.tcpi_state, 1, "established");
    assert!(info.tcpi_snd_mss > 0 && info.tcpi_snd_cwnd > 0);
    // As `linux/tcp.h` lays it out.
    assert_eq!(std::mem::offset_of!(TCP_INFO, tcpi_rto), 8);
    assert_eq!(std::mem::offset_of!(TCP_INFO, tcpi_pacing_rate), 104);
    assert_eq!(std::mem::offset_of!(TCP_INFO, tcpi_rcv_wnd), 232);

    let cookie = get_socket_cookie(stream.as_raw_fd()).unwrap();
    assert_ne!(cookie, get_socket_cookie(listener.as_raw_fd()).unwrap());
    assert_eq!(cookie, get_socket_cookie(stream.as_raw_fd()).unwrap());

    set_tcp_fastopen_backlog(listener.as_raw_fd(), 9).unwrap();
    assert_eq!(option(&listener, libc::IPPROTO_TCP, libc::TCP_FASTOPEN), 9);

    reset_on_close(stream.as_raw_fd());
    let linger: libc::linger =
        getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER).unwrap();
    assert_eq!((linger.l_onoff, linger.l_linger), (1, 0));
}

#[tokio::test]
async fn what_is_no_tcp_socket() {
    assert!(get_tcp_info(-1).is_err());
    assert!(get_recv_buf(-1).is_err());
    assert!(get_snd_buf(-1).is_err());
    assert!(get_socket_cookie(-1).is_err());
    assert!(set_recv_buf(-1, 1).is_err());
    assert!(set_snd_buf(-1, 1).is_err());
    assert!(set_dscp(-1, 1).is_err());
    assert_eq!(get_original_dest(-1).unwrap(), None);
    let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_eq!(get_original_dest(a.as_raw_fd()).unwrap(), None);
    reset_on_close(-1);
}

#[tokio::test]
async fn from_an_address() {
    let (listener, addr) = listener().await;
    let stream = connect(&addr, Some(&from("127.0.0.5:0"))).await.unwrap();
    let (_, seen) = listener.accept().await.unwrap();
    assert_eq!(seen, stream.local_addr().unwrap());
    assert_eq!(seen.ip().to_string(), "127.0.0.5");
}

#[tokio::test]
async fn from_an_address_that_is_not_local() {
    let (_listener, addr) = listener().await;
    let e = connect(&addr, Some(&from("192.0.2.1:0")))
        .await
        .unwrap_err();
    assert_eq!(e.etype(), &BindError);
    assert!(e.to_string().contains("192.0.2.1"), "{e}");
    assert_eq!(e.connect_local_addr(), None);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn from_a_range_of_ports() {
    let (_listener, addr) = listener().await;
    // A port that was free a moment ago, for the kernel to give again.
    let (socket, free) = deaf();
    drop(socket);
    let mut bind_to = from("127.0.0.1:0");
    bind_to
        .set_port_range(Some((free.port(), free.port())))
        .unwrap();
    let first = connect(&addr, Some(&bind_to)).await.unwrap();
    assert_eq!(first.local_addr().unwrap().port(), free.port());

    let e = connect(&addr, Some(&bind_to)).await.unwrap_err();
    assert_eq!(e.etype(), &ConnectError, "{e}");

    bind_to.set_fallback(true);
    let second = connect(&addr, Some(&bind_to)).await.unwrap();
    assert_ne!(second.local_addr().unwrap().port(), free.port());

    // A range alone, without an address.
    let mut range = BindTo::default();
    range
        .set_port_range(Some((free.port(), free.port())))
        .unwrap();
    assert!(connect(&addr, Some(&range)).await.is_err());
    range.set_fallback(true);
    assert!(connect(&addr, Some(&range)).await.is_ok());
}

#[tokio::test]
async fn refused() {
    let (_socket, addr) = deaf();
    let e = connect(&addr, None).await.unwrap_err();
    assert_eq!(e.etype(), &ConnectRefused);
    let text = e.to_string();
    assert!(text.contains(&addr.to_string()), "{text}");
    let local = e.connect_local_addr().unwrap();
    assert_eq!(local.ip().to_string(), "127.0.0.1");
    assert!(text.contains(&local.to_string()), "{text}");
    // Also when more was said about it.
    let e = e.more_context("one").more_context("two");
    assert_eq!(e.connect_local_addr(), Some(local));
    assert_eq!(Error::new(ConnectRefused).connect_local_addr(), None);
}

#[test]
fn errors_by_cause() {
    let addr = "127.0.0.1:1".parse().unwrap();
    for (code, etype) in [
        (libc::ECONNREFUSED, ConnectRefused),
        (libc::ETIMEDOUT, ConnectTimedout),
        (libc::EHOSTUNREACH, ConnectNoRoute),
        (libc::ENETUNREACH, ConnectNoRoute),
        (libc::EADDRNOTAVAIL, ConnectError),
    ] {
        let e = connect_error(io::Error::from_raw_os_error(code), &addr, None);
        assert_eq!(e.etype(), &etype);
    }
}

#[tokio::test]
async fn unix_sockets() {
    let path = std::env::temp_dir().join(format!("pc-ext-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let e = connect_uds(&path).await.unwrap_err();
    assert_eq!(e.etype(), &ConnectError);
    assert!(e.to_string().contains(path.to_str().unwrap()), "{e}");

    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    connect_uds(&path).await.unwrap();
    drop(listener);
    let e = connect_uds(&path).await.unwrap_err();
    assert_eq!(e.etype(), &ConnectRefused);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn port_ranges() {
    let mut bind_to = BindTo::default();
    bind_to.set_fallback(true);
    assert!(!bind_to.will_fallback());
    bind_to.set_port_range(Some((10, 20))).unwrap();
    assert_eq!(bind_to.port_range(), Some((10, 20)));
    assert!(bind_to.will_fallback());
    for bad in [(20, 10), (0, 10)] {
        assert!(bind_to.set_port_range(Some(bad)).is_err());
        assert_eq!(bind_to.port_range(), Some((10, 20)));
    }
    for none in [None, Some((0, 0))] {
        bind_to.set_port_range(Some((1, 1))).unwrap();
        bind_to.set_port_range(none).unwrap();
        assert_eq!(bind_to.port_range(), None);
    }
}
