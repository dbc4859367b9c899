//! Addresses as they are written on the command line.

use nix::sys::socket::{setsockopt, sockopt};
use pingora_core::listeners::{ListenerConfig, TcpSocketOptions};
use pingora_core::services::listening::Service;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tokio::net::TcpSocket;

/// A place to listen on or to connect to: `IP:PORT`, or `unix:/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address.
    Inet(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Lets `service` listen here.
    pub fn listen<A>(&self, service: &mut Service<A>) {
        service.add_listener(self.listener());
    }

    /// An endpoint here, to be made more of.
    pub fn listener(&self) -> ListenerConfig {
        match self {
            ListenAddress::Inet(addr) => {
                let mut options = TcpSocketOptions::default();
                options.ipv6_only = is_ipv6_alone(*addr).then_some(true);
                ListenerConfig::tcp(addr.to_string()).tcp_socket_options(options)
            }
            ListenAddress::Unix(path) => ListenerConfig::uds(path.to_string_lossy()),
        }
    }

    /// Finds out whether a server could listen here, so that a program can refuse in one clear
    /// line instead of failing on the way up.
    ///
    /// # Errors
    ///
    /// Says why not.
    pub fn check_free(&self) -> Result<(), String> {
        match self {
            ListenAddress::Inet(addr) => check_free_port(*addr).map_err(|e| e.to_string()),
            ListenAddress::Unix(path) => check_free_path(path),
        }
        .map_err(|e| format!("cannot listen on {self}: {e}"))
    }

    /// The command line that shows an answer from here.
    pub fn curl_line(&self, path: &str) -> String {
        self.curl("curl -i", "http", path)
    }

    /// The command line that shows an answer from here over TLS, whoever has signed the certificate.
    pub fn curl_line_tls(&self, path: &str) -> String {
        self.curl("curl -ik", "https", path)
    }

    fn curl(&self, curl: &str, scheme: &str, path: &str) -> String {
        match self {
            ListenAddress::Inet(addr) => format!("{curl} {scheme}://{}{path}", reachable(*addr)),
            ListenAddress::Unix(socket) => format!(
                "{curl} --unix-socket {} {scheme}://localhost{path}",
                socket.display()
            ),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if Path::new(path).is_absolute() => Ok(ListenAddress::Unix(path.into())),
            Some(_) => Err(format!(
                "bad address '{text}': a Unix socket needs an absolute path"
            )),
            None => text.parse().map(ListenAddress::Inet).map_err(|_| {
                format!("bad address '{text}': write IP:PORT, as in 127.0.0.1:8080, or unix:/PATH")
            }),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Inet(addr) => addr.fmt(f),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Binds, but does not listen: who connected to a socket that is closed at once would be cut off.
/// Tells whether clients of IPv4 do not reach an address: all those of IPv6 are none of IPv4.
fn is_ipv6_alone(addr: SocketAddr) -> bool {
    addr.ip().to_canonical().is_ipv6()
}

fn check_free_port(addr: SocketAddr) -> io::Result<()> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // As listeners do: connections of a process that has ended keep nobody from listening.
    socket.set_reuseaddr(true)?;
    if is_ipv6_alone(addr) {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    socket.bind(addr)
}

/// A file left by a process that ended may be replaced, one that somebody answers on may not.
fn check_free_path(path: &Path) -> Result<(), String> {
    if UnixStream::connect(path).is_ok() {
        return Err("another process listens there".into());
    }
    match path.parent() {
        Some(dir) if !dir.is_dir() => Err(format!("no directory {}", dir.display())),
        _ => Ok(()),
    }
}

/// An unspecified address listens everywhere, but is no place to connect to.
fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    addr
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn addresses_are_read_and_written_alike() {
        for text in ["127.0.0.1:80", "[::1]:8080", "unix:/run/proxy.sock"] {
            assert_eq!(
                text.parse::<ListenAddress>().map(|a| a.to_string()),
                Ok(text.into())
            );
        }
    }

    #[test]
    fn nobody_can_connect_to_an_address_that_is_found_free() {
        // No other test has this address.
        let listener = TcpListener::bind("127.99.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        std::thread::scope(|threads| {
            let look = || (0..2000).for_each(|_| ListenAddress::Inet(addr).check_free().unwrap());
            let looks = threads.spawn(look);
            while !looks.is_finished() {
                TcpStream::connect(addr).expect_err("nobody listens");
            }
        });
    }

    #[test]
    fn a_bad_address_is_named_and_the_form_is_told() {
        for text in [
            "",
            "localhost:80",
            "127.0.0.1",
            "127.0.0.1:65536",
            "unix:",
            "unix:a/b",
        ] {
            let error = text.parse::<ListenAddress>().expect_err(text);
            assert!(
                error.starts_with(&format!("bad address '{text}': ")),
                "{error}"
            );
        }
    }

    #[test]
    fn an_occupied_port_is_not_free() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = ListenAddress::Inet(taken.local_addr().expect("an address"));
        let error = addr.check_free().expect_err("the port is taken");
        assert!(
            error.starts_with(&format!("cannot listen on {addr}: ")),
            "{error}"
        );
    }

    #[test]
    fn all_addresses_of_ipv6_are_free_beside_one_of_ipv4() {
        // A system without IPv6 has nothing to test.
        if TcpListener::bind("[::1]:0").is_err() {
            return;
        }
        // No other test has this address.
        let taken = TcpListener::bind("127.99.0.2:0").unwrap();
        let addr = SocketAddr::new(
            Ipv6Addr::UNSPECIFIED.into(),
            taken.local_addr().unwrap().port(),
        );
        ListenAddress::Inet(addr).check_free().unwrap();
    }

    #[test]
    fn the_curl_line_connects_to_where_everywhere_is_reached() {
        let curl = |text: &str| text.parse::<ListenAddress>().map(|a| a.curl_line("/x"));
        assert_eq!(
            curl("0.0.0.0:80"),
            Ok("curl -i http://127.0.0.1:80/x".into())
        );
        assert_eq!(curl("[::]:80"), Ok("curl -i http://[::1]:80/x".into()));
        assert_eq!(
            curl("unix:/run/s"),
            Ok("curl -i --unix-socket /run/s http://localhost/x".into())
        );
    }
}
