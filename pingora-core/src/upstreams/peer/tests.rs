use std::path::Path;
use std::time::Duration;

use super::*;
use crate::connectors::l4::BindTo;
use crate::protocols::tls::{no_ca, some_cert_key};

fn http() -> HttpPeer {
    HttpPeer::new("127.0.0.1:80", false, String::new())
}

#[test]
fn display() {
    let headers = BTreeMap::from([("Host".to_string(), b"x".to_vec())]);
    let ip = IpAddr::from([10, 0, 0, 1]);
    let table = [
        (http(), "addr: 127.0.0.1:80, scheme: HTTP"),
        (
            HttpPeer::new("127.0.0.1:443", true, "a.example".into()),
            "addr: 127.0.0.1:443, scheme: HTTPS, sni: a.example",
        ),
        (
            HttpPeer::new_uds("/tmp/a.sock", false, String::new()).unwrap(),
            "addr: /tmp/a.sock, scheme: HTTP",
        ),
        (
            HttpPeer::new_proxy("/tmp/hop", ip, 443, true, "b", headers),
            "addr: 10.0.0.1:443, scheme: HTTPS, sni: b, \
             proxy: next_hop: /tmp/hop, host: 10.0.0.1, port: 443",
        ),
    ];
    for (peer, shown) in table {
        assert_eq!(peer.to_string(), shown);
    }
    let mtls = HttpPeer::new_mtls("127.0.0.1:1", "c".into(), Arc::new(some_cert_key()));
    assert!(mtls.is_tls());
    assert!(mtls.to_string().contains(", client cert: "));
    let basic = BasicPeer::new("127.0.0.1:80");
    assert_eq!(basic.to_string(), format!("{basic:?}"));
}

#[test]
fn the_key_covers_what_a_connection_cannot_change() {
    type Change = fn(&mut HttpPeer);
    let changes: [Change; 13] = [
        |_| (),
        |p| p._address.set_port(81),
        |p| p.scheme = Scheme::HTTPS,
        |p| p.sni = "x".into(),
        |p| {
            p.proxy = Some(Proxy {
                next_hop: Path::new("/x").into(),
                host: String::new(),
                port: 0,
                headers: BTreeMap::new(),
            })
        },
        |p| p.client_cert_key = Some(Arc::new(some_cert_key())),
        |p| p.group_key = 1,
        |p| p.options.verify_cert = false,
        |p| p.options.verify_hostname = false,
        |p| p.options.alternative_cn = Some("x".into()),
        |p| p.options.max_h2_streams = 2,
        |p| p.options.curves = Some("X25519".into()),
        |p| p.options.ca = Some(no_ca()),
    ];
    let mut keys: Vec<u64> = changes
        .iter()
        .map(|change| {
            let mut peer = http();
            change(&mut peer);
            peer.reuse_hash()
        })
        .collect();
    keys.push({
        let mut peer = http();
        peer.options.second_keyshare = false;
        peer.reuse_hash()
    });
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all);
}

#[test]
fn the_key_leaves_out_what_may_differ() {
    type Change = fn(&mut PeerOptions);
    let changes: [Change; 6] = [
        |o| o.set_http_version(2, 1),
        |o| o.connection_timeout = Some(Duration::from_secs(1)),
        |o| o.bind_to = Some(BindTo::default()),
        |o| o.h2_stream_window_size = Some(1),
        |o| o.tcp_recv_buf = Some(1),
        |o| o.dscp = Some(1),
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut peer = http();
        change(&mut peer.options);
        assert_eq!(peer.reuse_hash(), http().reuse_hash(), "change {i}");
    }
    // Nobody is sent the fields for a proxy where there is none.
    let mut direct = http();
    let extra = BTreeMap::from([("Proxy-Authorization".to_string(), b"x".to_vec())]);
    direct.options.extra_proxy_headers = extra;
    assert_eq!(direct.reuse_hash(), http().reuse_hash());
}

#[test]
fn the_key_covers_what_a_proxy_was_told() {
    let proxied = |by_peer: &[u8], by_options: &[u8]| {
        let headers = |value: &[u8]| BTreeMap::from([("x".to_string(), value.to_vec())]);
        let ip = IpAddr::from([10, 0, 0, 1]);
        let mut peer = HttpPeer::new_proxy("/hop", ip, 443, true, "b", headers(by_peer));
        peer.options.extra_proxy_headers = headers(by_options);
        peer.reuse_hash()
    };
    assert_eq!(proxied(b"a", b"b"), proxied(b"a", b"b"));
    assert_ne!(proxied(b"a", b"b"), proxied(b"a", b"c"));
    assert_ne!(proxied(b"a", b"b"), proxied(b"c", b"b"));
}

#[test]
fn the_key_of_a_basic_peer() {
    type Change = fn(&mut BasicPeer);
    let basic = || BasicPeer::new("127.0.0.1:80");
    let mut plain = basic();
    plain.options.verify_cert = false;
    plain.options.ca = Some(no_ca());
    assert_eq!(plain.reuse_hash(), basic().reuse_hash());
    let changes: [Change; 8] = [
        |_| (),
        |p| p._address.set_port(81),
        |p| p.sni = "y".into(),
        |p| p.options.alternative_cn = Some("y".into()),
        |p| p.options.verify_cert = false,
        |p| p.options.verify_hostname = false,
        |p| p.options.ca = Some(no_ca()),
        |p| p.options.curves = Some("X25519".into()),
    ];
    let changed = changes.iter().map(|change| {
        let mut peer = basic();
        peer.sni = "x".into();
        change(&mut peer);
        assert!(peer.tls());
        peer.reuse_hash()
    });
    let keys: Vec<u64> = changed.chain([basic().reuse_hash()]).collect();
    assert!(keys
        .iter()
        .enumerate()
        .all(|(n, key)| !keys[..n].contains(key)));
}

#[test]
fn options_by_the_trait() {
    let mut peer = http();
    assert!(peer.verify_cert() && peer.verify_hostname());
    assert_eq!(peer.get_alpn(), Some(&ALPN::H1));
    let options = peer.get_mut_peer_options().unwrap();
    options.set_http_version(2, 2);
    options.idle_timeout = Some(Duration::from_secs(7));
    options.tcp_fast_open = true;
    options.bind_to = Some(BindTo::default());
    assert_eq!(peer.get_alpn(), Some(&ALPN::H2));
    assert_eq!(peer.idle_timeout(), Some(Duration::from_secs(7)));
    assert!(peer.tcp_fast_open());
    assert!(peer.bind_to().is_some());
    assert!(peer.connection_timeout().is_none());

    let mut basic = BasicPeer::new("unix:/tmp/a");
    basic.options.bind_to = Some(BindTo::default());
    assert!(basic.bind_to().is_none());
    assert!(basic.address().as_unix().is_some());
}

/// A peer of a user, who implements the least possible.
#[derive(Clone)]
struct Bare(SocketAddr);

impl fmt::Display for Bare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Peer for Bare {
    fn address(&self) -> &SocketAddr {
        &self.0
    }
    fn tls(&self) -> bool {
        false
    }
    fn sni(&self) -> &str {
        ""
    }
    fn reuse_hash(&self) -> u64 {
        0
    }
}

#[test]
fn without_options() {
    let mut peer = Bare("127.0.0.1:80".parse().unwrap());
    assert!(!peer.verify_cert() && !peer.verify_hostname() && !peer.tcp_fast_open());
    assert!(peer.get_mut_peer_options().is_none());
    assert!(peer.get_alpn().is_none() && peer.get_ca().is_none() && peer.get_proxy().is_none());
    assert!(peer.idle_timeout().is_none() && peer.tcp_keepalive().is_none());
    assert!(peer.get_tracer().is_none() && peer.get_client_cert_key().is_none());
}

#[test]
fn a_socket_matches_the_peer_it_leads_to() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let socket = std::net::TcpStream::connect(addr).unwrap();
    let peer = |a: String| HttpPeer::new(a, false, String::new());
    assert!(peer(addr.to_string()).matches_fd(socket.as_raw_fd()));
    assert!(peer(format!("0.0.0.0:{}", addr.port())).matches_fd(socket.as_raw_fd()));
    assert!(peer(format!("[::ffff:127.0.0.1]:{}", addr.port())).matches_fd(socket.as_raw_fd()));
    assert!(!peer(format!("127.0.0.2:{}", addr.port())).matches_fd(socket.as_raw_fd()));
    assert!(!peer("127.0.0.1:1".into()).matches_fd(socket.as_raw_fd()));
    // Not connected.
    assert!(!peer(addr.to_string()).matches_fd(listener.as_raw_fd()));

    let dir = std::env::temp_dir().join(format!("pc-peer-{}", std::process::id()));
    let _ = std::fs::remove_file(&dir);
    let _listener = std::os::unix::net::UnixListener::bind(&dir).unwrap();
    let socket = std::os::unix::net::UnixStream::connect(&dir).unwrap();
    let path = dir.to_str().unwrap();
    let direct = HttpPeer::new_uds(path, false, String::new()).unwrap();
    let proxied = HttpPeer::new_proxy(path, addr.ip(), 80, false, "", BTreeMap::new());
    let other = HttpPeer::new_uds("/tmp/other", false, String::new()).unwrap();
    assert!(direct.matches_fd(socket.as_raw_fd()) && proxied.matches_fd(socket.as_raw_fd()));
    assert!(!other.matches_fd(socket.as_raw_fd()));
    std::fs::remove_file(&dir).unwrap();
}

#[test]
#[should_panic(expected = "HttpPeer::new")]
fn an_address_that_does_not_resolve() {
    HttpPeer::new("not an address", false, String::new());
}

#[tokio::test]
async fn a_name_without_a_panic() {
    let e = HttpPeer::try_new("not an address", false, String::new()).unwrap_err();
    assert_eq!(e.etype(), &ConnectError);
    let none: &[InetAddr] = &[];
    let e = HttpPeer::try_new(none, false, String::new()).unwrap_err();
    assert!(e.to_string().contains("no address"), "{e}");
    let peer = HttpPeer::try_new("127.0.0.1:80", true, "a".into()).unwrap();
    assert_eq!((peer.is_tls(), peer.sni.as_str()), (true, "a"));

    let peer = HttpPeer::resolve("localhost:80", true, "a".into())
        .await
        .unwrap();
    let address = peer.address().as_inet().unwrap();
    assert!(address.ip().is_loopback() && address.port() == 80);
    assert_eq!((peer.is_tls(), peer.sni.as_str()), (true, "a"));
    let e = HttpPeer::resolve("localhost", false, String::new()).await;
    assert_eq!(e.unwrap_err().etype(), &SocketError);
}

#[test]
#[should_panic(expected = "BasicPeer::new")]
fn a_bad_address() {
    BasicPeer::new("127.0.0.1");
}

#[test]
fn bad_paths() {
    let long = "x".repeat(200);
    assert!(HttpPeer::new_uds(&long, false, String::new()).is_err());
    assert!(BasicPeer::new_uds(&long).is_err());
}

#[test]
fn policies() {
    let standard = HttpUpstreamRequestPolicy::default();
    assert!(standard.strip_hop_by_hop && standard.strip_connection_nominated);
    assert!(standard.reject_malformed_connection_nominations);
    assert_eq!(standard.h1_upgrade, H1UpgradePolicy::WebSocketOnly);
    let deny = HttpUpstreamRequestPolicy::deny_upgrades();
    assert_eq!(deny.h1_upgrade, H1UpgradePolicy::Deny);
    assert!(deny.strip_hop_by_hop);
    let preserve = HttpUpstreamRequestPolicy::preserve();
    assert!(!preserve.strip_hop_by_hop && !preserve.strip_connection_nominated);
    assert!(!preserve.reject_malformed_connection_nominations);
    assert_eq!(preserve.h1_upgrade, H1UpgradePolicy::Preserve);
}

#[test]
fn options_as_text() {
    let mut options = PeerOptions::new();
    assert_eq!(
        options.to_string(),
        "verify_cert: true, verify_hostname: true, alpn: H1"
    );
    options.read_timeout = Some(Duration::from_millis(1500));
    options.tcp_recv_buf = Some(4096);
    let text = options.to_string();
    assert!(
        text.ends_with(", read_timeout: 1.5s, tcp_recv_buf: 4096"),
        "{text}"
    );
    let debug = format!("{options:?}");
    assert!(
        debug.contains("read_timeout: Some(1.5s)") && !debug.contains("hook"),
        "{debug}"
    );
}
