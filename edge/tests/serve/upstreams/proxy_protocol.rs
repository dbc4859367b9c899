//! The PROXY protocol to servers that are not ours.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use super::origins::*;
use crate::tools::*;

/// What a server says of a client: its address and port, and the number of the connection.
const WHO: &str =
    "location /who { return 200 '$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_port $connection'; }";

fn words(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body.split(' ').map(str::to_owned).collect()
}

fn port(client: &Client) -> String {
    client.stream().local_addr().unwrap().port().to_string()
}

#[test]
fn nginx_is_told_the_address_of_each_client_and_no_connection_is_shared() {
    let address = free();
    let _nginx = Nginx::start(address, &format!("listen {address} proxy_protocol; {WHO}"));
    for version in ["v1", "v2"] {
        let edge = Edge::start(&format!(
            "  - routes: {{proxy: {{to: '{address}', proxy_protocol: {version}}}}}\n"
        ));
        // Of two workers, each has several clients.
        let mut clients: Vec<_> = (0..6).map(|_| edge.connect()).collect();
        let mut connections = Vec::new();
        for round in 0..3 {
            for (n, client) in clients.iter_mut().enumerate() {
                let said = words(&client.ask("GET", "a", "/who", ""));
                let own = ["127.0.0.1", &port(client), &edge.address.port().to_string()];
                assert_eq!(said[..3], own, "{version}");
                if round == 0 {
                    assert!(!connections.contains(&said[3]));
                    connections.push(said[3].clone());
                } else {
                    assert_eq!(said[3], connections[n], "its own is kept");
                }
            }
        }
    }
}

#[test]
fn a_client_behind_a_trusted_proxy_is_the_one_that_is_told() {
    let address = free();
    let _nginx = Nginx::start(address, &format!("listen {address} proxy_protocol; {WHO}"));
    let own = free();
    let edge = Edge::start_whole(
        own,
        &format!("listen: '{own}'\ntrusted_proxies: 127.0.0.0/8\nsites:\n  - routes: {{proxy: {{to: '{address}', proxy_protocol: v2}}}}\n"),
    );
    let mut client = edge.connect();
    let mut told = Vec::new();
    for ip in ["203.0.113.9", "2001:db8::9", "203.0.113.9"] {
        let fields = format!("X-Forwarded-For: {ip}\r\n");
        let said = words(&client.ask("GET", "a", "/who", &fields));
        // What nginx makes of port 0.
        assert_eq!(said[..2], [ip, ""]);
        told.push(said[3].clone());
    }
    assert_eq!(told[0], told[2]);
    assert_ne!(told[0], told[1]);
}

#[cfg(feature = "rustls")]
#[test]
fn it_comes_before_tls_and_http_2_and_checks_are_the_proxys_own() {
    use crate::certs::{Authority, Leaf};
    let authority = Authority::new();
    let leaf = Leaf {
        names: &["server.test"],
        ..Leaf::default()
    };
    let pair = authority.issue("server", &leaf);
    let address = free();
    let lines = format!(
        "listen {address} ssl http2 proxy_protocol; ssl_certificate {}; ssl_certificate_key {}; {WHO}",
        pair.cert, pair.key
    );
    let _nginx = Nginx::start(address, &lines);
    for (version, protocol) in [("v1", "h1"), ("v2", "h1"), ("v1", "h2"), ("v2", "h2")] {
        let edge = Edge::start(&format!(
            "  - routes: {{proxy: {{to: '{address}', tls: {{name: server.test, ca: '{}'}}, protocol: {protocol}, proxy_protocol: {version}, health: {{path: /who, interval: 20ms, initially: down, healthy_after: 1}}}}}}\n",
            authority.file()
        ));
        eventually("a check finds it up", || {
            edge.get("a", "/who").status == 200
        });
        let mut client = edge.connect();
        let said = words(&client.ask("GET", "a", "/who", ""));
        assert_eq!(
            said[..2],
            ["127.0.0.1", &port(&client)],
            "{version} {protocol}"
        );
    }
}

/// HAProxy, which says the address and port of its client.
struct HaProxy(Child);

impl HaProxy {
    fn start(dir: &std::path::Path, address: SocketAddr) -> Self {
        let file = dir.join("haproxy.cfg");
        let text = format!(
            "defaults\n mode http\n timeout client 1m\nfrontend f\n bind {address} accept-proxy\n http-request return status 200 content-type text/plain lf-string \"%ci %cp\"\n"
        );
        std::fs::write(&file, text).unwrap();
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(file)
            .env("PATH", "/usr/local/sbin:/usr/sbin:/usr/bin:/bin")
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need haproxy");
        let mut haproxy = Self(child);
        eventually("haproxy listens", || {
            assert_eq!(haproxy.0.try_wait().unwrap(), None, "haproxy ended");
            std::net::TcpStream::connect(address).is_ok()
        });
        haproxy
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn haproxy_is_told_too() {
    let (dir, address) = (tempfile::TempDir::new().unwrap(), free());
    let _haproxy = HaProxy::start(dir.path(), address);
    for version in ["v1", "v2"] {
        let edge = Edge::start(&format!(
            "  - routes: {{proxy: {{to: '{address}', proxy_protocol: {version}}}}}\n"
        ));
        let mut client = edge.connect();
        for _ in 0..2 {
            let said = words(&client.ask("GET", "a", "/", ""));
            assert_eq!(said, ["127.0.0.1", &port(&client)], "{version}");
        }
    }
}

/// The address that connections are made from is not the one that servers are told.
#[test]
fn connections_from_a_told_address_bring_that_of_the_client() {
    let address = free();
    let who =
        "location /who { return 200 '$proxy_protocol_addr $proxy_protocol_port $remote_addr'; }";
    let _nginx = Nginx::start(address, &format!("listen {address} proxy_protocol; {who}"));
    for version in ["v1", "v2"] {
        let (own, from) = (free(), free().ip().to_string());
        let text = format!(
            "listen: '{own}'\nserver: {{client_bind_to_ipv4: ['{from}']}}\nsites:\n  - routes: {{proxy: {{to: '{address}', proxy_protocol: {version}}}}}\n"
        );
        let edge = Edge::start_whole(own, &text);
        let mut client = edge.connect();
        for _ in 0..2 {
            let said = words(&client.ask("GET", "a", "/who", ""));
            assert_eq!(said, ["127.0.0.1", &port(&client), &from], "{version}");
        }
    }
}
