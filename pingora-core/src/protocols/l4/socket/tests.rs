use std::collections::HashSet;
use std::os::fd::AsRawFd;

use super::*;

fn addr(s: &str) -> SocketAddr {
    s.parse().unwrap()
}

#[test]
fn parse_and_display() {
    for (text, shown) in [
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("[::1]:443", "[::1]:443"),
        ("unix:/tmp/x.sock", "/tmp/x.sock"),
        ("unix:relative", "relative"),
    ] {
        assert_eq!(addr(text).to_string(), shown);
    }
    for bad in ["", "127.0.0.1", "localhost:80", "1.2.3.4:99999", "/tmp/x"] {
        let e = bad.parse::<SocketAddr>().unwrap_err();
        assert_eq!(e.etype(), &SocketError, "{bad}");
    }
    let long = format!("unix:/{}", "x".repeat(200));
    assert!(long.parse::<SocketAddr>().is_err());
}

#[test]
fn kinds() {
    let mut inet = addr("127.0.0.1:80");
    inet.set_port(81);
    assert_eq!(inet.as_inet(), Some(&"127.0.0.1:81".parse().unwrap()));
    assert!(inet.as_unix().is_none());

    let mut unix = addr("unix:/a");
    unix.set_port(81);
    assert_eq!(unix, addr("unix:/a"));
    assert!(unix.as_inet().is_none());
    assert_eq!(unix.as_unix().unwrap().as_pathname(), Some("/a".as_ref()));
}

#[test]
fn order_and_hash() {
    let sorted = [
        "127.0.0.1:80",
        "127.0.0.1:81",
        "127.0.0.2:1",
        "[::1]:1",
        "unix:/a",
        "unix:/b",
    ]
    .map(addr);
    for pair in sorted.windows(2) {
        assert!(pair[0] < pair[1], "{pair:?}");
        assert_ne!(pair[0], pair[1]);
    }
    let set: HashSet<_> = sorted.iter().cloned().chain(sorted.clone()).collect();
    assert_eq!(set.len(), sorted.len());
}

#[cfg(target_os = "linux")]
#[test]
fn abstract_and_unnamed() {
    use std::os::linux::net::SocketAddrExt;
    let name = SocketAddr::Unix(UnixAddr::from_abstract_name("x\0y").unwrap());
    assert_eq!(name.to_string(), "@x\\x00y");
    assert_ne!(name, addr("unix:x"));

    let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
    let unnamed = SocketAddr::from_raw_fd(a.as_raw_fd(), false).unwrap();
    assert_eq!(unnamed.to_string(), "(unnamed)");
    assert_eq!(unnamed, unnamed.clone());
    assert_ne!(unnamed, name);
}

#[test]
fn only_ip_addresses_resolve() {
    use std::net::ToSocketAddrs;
    let inet = addr("127.0.0.1:80");
    let resolved: Vec<_> = inet.to_socket_addrs().unwrap().collect();
    assert_eq!(resolved, [*inet.as_inet().unwrap()]);
    assert!(addr("unix:/a").to_socket_addrs().is_err());
}

#[test]
fn of_descriptors() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let local = SocketAddr::from(listener.local_addr().unwrap());
    let fd = listener.as_raw_fd();
    assert_eq!(SocketAddr::from_raw_fd(fd, false), Some(local));
    assert_eq!(SocketAddr::from_raw_fd(fd, true), None);
    assert_eq!(SocketAddr::from_raw_fd(-1, false), None);
}

#[tokio::test]
async fn of_tokio() {
    let path = std::env::temp_dir().join(format!("pc-sock-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let named = SocketAddr::try_from(listener.local_addr().unwrap()).unwrap();
    assert_eq!(named.to_string(), path.to_str().unwrap());
    std::fs::remove_file(&path).unwrap();

    let (a, _b) = tokio::net::UnixStream::pair().unwrap();
    assert!(SocketAddr::try_from(a.local_addr().unwrap()).is_err());
}
