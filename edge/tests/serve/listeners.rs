//! The addresses that are listened on: their change by a reload, and their options.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::tools::*;

const SITES: &str = "sites:\n  - routes: {respond: {body: '{client_ip}'}}\n";

fn listening(listen: &str) -> String {
    format!("listen: {listen}\n{SITES}")
}

/// Runs a proxy that listens at an address with these options.
#[track_caller]
fn with(options: &str) -> Edge {
    let address = free();
    let text = listening(&format!("{{address: '{address}', {options}}}"));
    Edge::start_whole(address, &text)
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    answer(TcpStream::connect(address)?)
}

fn answer(mut stream: impl Read + Write) -> std::io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
    match answer.starts_with("HTTP/1.1 200 ") {
        true => Ok(body.to_owned()),
        false => Err(std::io::Error::other(answer)),
    }
}

#[test]
fn all_addresses_of_ipv6_stand_beside_one_of_ipv4_at_the_same_port() {
    // A system without IPv6 has nothing to test.
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let address = free();
    let port = address.port();
    let edge = Edge::start_whole(
        address,
        &listening(&format!("['{address}', '[::]:{port}']")),
    );
    assert_eq!(ask(edge.address).unwrap(), "127.0.0.1");
    assert_eq!(ask(([0, 0, 0, 0, 0, 0, 0, 1], port).into()).unwrap(), "::1");
}

#[test]
fn a_reload_adds_and_removes_addresses_under_load_and_loses_no_request() {
    for accept in ["shared", "exclusive", "reuseport", "mutex"] {
        let (stays, moves) = (free(), [free(), free()]);
        let of = |n: usize| {
            let mut listeners = format!("[{{address: '{stays}', accept: {accept}");
            // The one that stays changes too.
            listeners.push_str(&format!(", backlog: {}}}", 1000 + n));
            listeners.push_str(&format!(
                ", {{address: '{}', accept: {accept}}}]",
                moves[n % 2]
            ));
            listening(&listeners)
        };
        let edge = Edge::start_whole(stays, &of(0));
        let kept = edge.connect();
        let (ended, served) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        let body = ask(stays).expect("an answer");
                        assert_eq!(body, "127.0.0.1");
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let end = SetAtEnd(&ended);
            for n in 1..=6 {
                edge.write_whole(&of(n));
                edge.hang_up();
                eventually("the new address is served", || ask(moves[n % 2]).is_ok());
                eventually("the old address is closed", || {
                    TcpStream::connect(moves[(n + 1) % 2]).is_err()
                });
            }
            drop(end);
        });
        assert!(served.load(Ordering::Relaxed) > 10);
        // A connection of before all that goes on.
        let mut kept = kept;
        assert_eq!(kept.ask("GET", "a", "/", "").status, 200);
    }
}

/// What is under way at an address that goes away is finished.
#[test]
fn requests_at_a_removed_address_are_finished() {
    let (stays, goes) = (free(), free());
    let edge = Edge::start_whole(stays, &listening(&format!("['{stays}', '{goes}']")));
    let mut begun = connect_to(goes);
    begun.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let mut idle = edge.connect_to(goes);
    assert_eq!(idle.ask("GET", "a", "/", "").status, 200);
    edge.write_whole(&listening(&format!("'{stays}'")));
    edge.hang_up();
    eventually("it is closed", || TcpStream::connect(goes).is_err());
    begun
        .write_all(b"Host: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    begun.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(idle.ask("GET", "a", "/", "").status, 200);
}

#[test]
fn an_address_that_is_taken_refuses_the_whole_file() {
    let (stays, new) = (free(), free());
    // At an IP address that nobody else has: it is free again later.
    let taken = TcpListener::bind(free()).unwrap();
    let at = taken.local_addr().unwrap();
    let mut edge = Edge::start_whole(stays, &listening(&format!("'{stays}'")));
    edge.write_whole(&format!(
        "listen: ['{new}', '{at}']\nsites:\n  - routes: {{respond: 202}}\n"
    ));
    edge.hang_up();
    let line = edge.wait_for_log("the configuration is not taken");
    let said = format!("`listen`: cannot listen on {at}: Address already in use");
    assert!(line.contains(&said), "{line}");
    assert_eq!(edge.get("a", "/").status, 200);
    assert!(TcpStream::connect(new).is_err());
    // It is taken once the address is free.
    drop(taken);
    edge.hang_up();
    eventually("both are served", || {
        TcpStream::connect(new).is_ok() && TcpStream::connect(at).is_ok()
    });
    eventually("the old one is closed", || {
        TcpStream::connect(stays).is_err()
    });
}

#[test]
fn an_address_that_overlaps_is_told_by_what() {
    let address = free();
    let mut edge = Edge::start_whole(address, &listening(&format!("'{address}'")));
    let port = address.port();
    edge.write_whole(&listening(&format!("'0.0.0.0:{port}'")));
    edge.hang_up();
    let line = edge.wait_for_log("the configuration is not taken");
    assert!(line.contains(&format!("`{address}` overlaps it")), "{line}");
}

#[test]
fn an_address_of_the_other_family_is_in_nobodys_way() {
    // A system without IPv6 has nothing to test.
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let address = free();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let both = format!("'{address}', '[::]:{port}'");
    let mut edge = Edge::start_whole(address, &listening(&format!("[{both}]")));
    edge.write_whole(&listening(&format!("[{both}, '0.0.0.0:{port}']")));
    edge.hang_up();
    let line = edge.wait_for_log("the configuration is not taken");
    assert!(!line.contains("overlaps"), "{line}");
}

#[test]
fn more_connections_than_allowed_are_closed() {
    let edge = with("max_connections: 2");
    // Until those that looked whether it listens are gone.
    let mut kept = Vec::new();
    eventually("there is room for two", || {
        let mut client = edge.connect();
        if client.try_ask("GET", "a", "/", "").is_some() {
            kept.push(client);
        }
        kept.len() == 2
    });
    assert!(ask(edge.address).is_err());
    // Another limit counts those that are there.
    edge.write_whole(&listening(&format!(
        "{{address: '{}', max_connections: 3}}",
        edge.address
    )));
    edge.hang_up();
    eventually("there is room", || ask(edge.address).is_ok());
    for client in &mut kept {
        assert_eq!(client.ask("GET", "a", "/", "").status, 200);
    }
}

#[test]
fn each_client_has_a_limit_by_the_address_that_it_really_has() {
    let edge = with(
        "max_connections_per_client: 1, proxy_protocol: {trusted: [127.0.0.0/8], timeout: 10s}",
    );
    let told = |ip: &str| {
        let mut stream = TcpStream::connect(edge.address).unwrap();
        let header = format!("PROXY TCP4 {ip} 127.0.0.1 1000 80\r\n");
        stream.write_all(header.as_bytes()).unwrap();
        stream
    };
    let mut kept = Client::of(told("192.0.2.1"));
    assert_eq!(kept.ask("GET", "a", "/", "").body, "192.0.2.1");
    assert!(answer(told("192.0.2.1")).is_err());
    assert_eq!(answer(told("192.0.2.2")).unwrap(), "192.0.2.2");
}

#[test]
fn the_proxy_protocol_is_read_of_trusted_addresses_only() {
    let edge = with("proxy_protocol: 192.0.2.0/24");
    assert_eq!(ask(edge.address).unwrap(), "127.0.0.1");
    let mut stream = TcpStream::connect(edge.address).unwrap();
    // All at once: what comes after the answer to a bad head makes the end of the connection a reset.
    let bad = b"PROXY TCP4 192.0.2.1 127.0.0.1 1000 80\r\nHost: a\r\n\r\n";
    stream.write_all(bad).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 400");
    let edge = with("proxy_protocol: {trusted: 127.0.0.1}");
    let mut stream = TcpStream::connect(edge.address).unwrap();
    let v2 =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xcb\x00\x71\x05\xdc\x04\x01\xbb";
    stream.write_all(v2).unwrap();
    assert_eq!(answer(stream).unwrap(), "192.0.2.7");
    // Without a header it is closed.
    assert!(ask(edge.address).is_err());
}

#[test]
fn idle_clients_and_slow_ones_have_their_time() {
    let edge = with("timeouts: {idle: 1s, read: 1s}");
    let mut client = edge.connect();
    assert_eq!(client.ask("GET", "a", "/", "").status, 200);
    assert!(client.is_closed());
    let mut slow = edge.connect();
    slow.send("GET / HTTP/1.1\r\n");
    let head = slow.rest();
    assert!(
        head.is_empty() || head.starts_with("HTTP/1.1 408 "),
        "{head}"
    );
}

#[test]
fn http2_without_tls_is_spoken_where_it_is_on() {
    let both = |edge: &Edge| {
        let output = std::process::Command::new("curl")
            .args(["-s", "--noproxy", "*", "--http2-prior-knowledge"])
            .args(["-w", " %{http_version}"])
            .arg(format!("http://{}/", edge.address))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let edge = with("h2c: true");
    assert_eq!(both(&edge), "127.0.0.1 2");
    assert_eq!(ask(edge.address).unwrap(), "127.0.0.1");
    // And taken away.
    edge.write_whole(&listening(&format!("'{}'", edge.address)));
    edge.hang_up();
    eventually("it is off", || !both(&edge).ends_with(" 2"));
}

#[test]
fn a_body_of_http2_has_the_time_of_its_address() {
    // It takes connections, and answers nothing: a client that is being answered may leave its body unsent.
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free();
    let text = format!(
        "listen: {{address: '{address}', h2c: true, timeouts: {{read: 1s}}}}
sites:
  - routes: {{proxy: '{}'}}\n",
        origin.local_addr().unwrap()
    );
    let _edge = Edge::start_whole(address, &text);
    let mut client = TcpStream::connect(address).unwrap();
    // SETTINGS, the head of a POST, and a piece of its body, of which no more comes.
    let begins = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
        \0\0\x06\x01\x04\0\0\0\x01\x83\x86\x84\x41\x01a\
        \0\0\x03\0\0\0\0\0\x01abc";
    client.write_all(begins).unwrap();
    let begun = std::time::Instant::now();
    let told = loop {
        let mut head = [0; 9];
        client.read_exact(&mut head).unwrap();
        let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        client.read_exact(&mut payload).unwrap();
        if head[3] == 1 {
            break payload;
        }
    };
    // `:status: 408`.
    assert!(told.starts_with(b"\x48\x83\x68\x0f\x7f"), "{told:?}");
    // Not within the 60 s of addresses that say nothing.
    assert!(begun.elapsed().as_secs() < 30);
}

#[test]
fn a_unix_socket_has_its_mode_and_goes_with_its_address() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("edge.sock");
    let address = free();
    let of = |mode: &str| {
        let unix = format!("{{address: 'unix:{}', mode: '{mode}'}}", path.display());
        listening(&format!("['{address}', {unix}]"))
    };
    let edge = Edge::start_whole(address, &of("0600"));
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    eventually("it is there", || UnixStream::connect(&path).is_ok());
    assert_eq!(mode(), 0o600);
    assert!(answer(UnixStream::connect(&path).unwrap()).is_ok());
    edge.write_whole(&of("0660"));
    edge.hang_up();
    eventually("it has another mode", || {
        mode() == 0o660 && UnixStream::connect(&path).is_ok()
    });
    assert!(answer(UnixStream::connect(&path).unwrap()).is_ok());
    edge.write_whole(&listening(&format!("'{address}'")));
    edge.hang_up();
    eventually("it is gone", || !path.exists());
}

#[test]
fn options_of_tcp_are_taken() {
    let edge =
        with("tcp: {fast_open: 16, keepalive: {idle: 10s, interval: 2s, count: 3}}, backlog: 7");
    assert!(ask(edge.address).is_ok());
}

#[cfg(feature = "rustls")]
#[test]
fn tls_is_turned_on_and_off_at_the_same_address() {
    use super::certs::{Authority, Leaf};
    let authority = Authority::new();
    let names = ["a.test"];
    let pair = authority.issue(
        "a",
        &Leaf {
            names: &names,
            ..Leaf::default()
        },
    );
    let address = free();
    let of = |tls: bool| {
        format!(
            "listen: {{address: '{address}', tls: {tls}}}
sites:
  - {{hosts: [a.test, '*'], tls: {{cert: '{}', key: '{}'}}, routes: {{respond: {{body: '{{scheme}}'}}}}}}\n",
            pair.cert, pair.key
        )
    };
    let edge = Edge::start_whole(address, &of(false));
    assert_eq!(ask(address).unwrap(), "http");
    let mut kept = edge.connect();
    let secure = || {
        let output = std::process::Command::new("curl")
            .args(["-s", "--noproxy", "*", "--cacert"])
            .arg(authority.file())
            .arg("--resolve")
            .arg(format!("a.test:{}:{}", address.port(), address.ip()))
            .arg(format!("https://a.test:{}/", address.port()))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for _ in 0..2 {
        edge.write_whole(&of(true));
        edge.hang_up();
        eventually("TLS is spoken", || secure() == "https");
        // A connection without TLS that was there goes on.
        assert_eq!(kept.ask("GET", "a.test", "/", "").body, "http");
        edge.write_whole(&of(false));
        edge.hang_up();
        eventually("no TLS is spoken", || {
            ask(address).is_ok_and(|body| body == "http")
        });
    }
}
