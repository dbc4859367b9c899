//! Many connections at once, and what they cost.

#![allow(unsafe_code)]

use crate::common::resident;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::*;

/// As many as there are, on a system that lets one process have both ends of so many.
const HALF_OPEN: usize = 5_000;
/// What one may cost: the socket's and the task's state, and what TLS has read.
const BYTES_EACH: usize = 5 * 1024;

/// How many files this process may have open, after asking for as many as it may ask for.
fn open_files() -> usize {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls are given a valid structure of the right type.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
    }
    limit.rlim_cur as usize
}

/// Alone in its process when it runs, since its memory is what it looks at: run by the test below.
#[test]
#[ignore = "run by itself by the next test"]
fn half_open_handshakes() {
    let count = HALF_OPEN.min(open_files().saturating_sub(200) / 2);
    let authority = Authority::new();
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    let setup = Setup {
        handshake_timeout: Duration::from_secs(5),
        ..setup(&authority)
    };
    let proxy = Proxy::start_with(setup, common::forward_to(origin.path()));
    assert_eq!(curl(&proxy, &authority, &[], &["/"]), b"hi");
    let before = resident();
    let mut clients: Vec<TcpStream> = Vec::with_capacity(count);
    for i in 0..count {
        let mut client = TcpStream::connect(proxy.tls()).unwrap();
        // Half of them say nothing at all.
        if i % 2 == 0 {
            client.write_all(b"\x16\x03\x01\x02\x00\x01\x00").unwrap();
        }
        clients.push(client);
    }
    assert_eq!(curl(&proxy, &authority, &[], &["/"]), b"hi");
    let grown = resident().saturating_sub(before);
    println!("{count} handshakes: {} bytes each", grown / count);
    assert!(grown / count <= BYTES_EACH, "{} bytes each", grown / count);
    for mut client in clients {
        let patience = Some(common::PATIENCE);
        client.set_read_timeout(patience).unwrap();
        let mut rest = Vec::new();
        match client.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    assert_eq!(curl(&proxy, &authority, &[], &["/"]), b"hi");
}

#[test]
fn half_open_handshakes_are_cheap_and_end_at_the_limit() {
    let run = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crowds::half_open_handshakes",
            "--ignored",
            "--nocapture",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}

const IDLE: usize = 1_000;
/// What an idle connection may cost, with its socket's and its task's state. The task's is the larger half of it in
/// a build that is not optimized: 12 KiB is what all may come to in one that is.
const IDLE_BYTES: usize = match cfg!(feature = "openssl") {
    // What a session of the library holds, whatever it is told to release.
    true => 36 * 1024,
    false => 16 * 1024,
};

/// The clients of the test below, in a process of their own: its memory is not the proxy's.
#[tokio::test]
#[ignore = "run by the next test"]
async fn idle_clients() {
    let address: SocketAddr = std::env::var("PROXY").unwrap().parse().unwrap();
    let connector = pingora_core::connectors::TransportConnector::new(None);
    let mut peer = over_tls(address);
    peer.options.verify_cert = false;
    let mut clients = Vec::new();
    for _ in 0..IDLE {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut client = connector.new_stream(&peer).await.unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: name.example\r\n\r\n")
            .await
            .unwrap();
        client.flush().await.unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n\r\nhi") {
            assert_ne!(client.read_buf(&mut got).await.unwrap(), 0);
        }
        clients.push(client);
    }
    println!("all are idle");
    // Until nobody is interested any more.
    let _ = std::io::stdin().read(&mut [0]);
}

/// Alone in its process too.
#[test]
#[ignore = "run by itself by the next test"]
fn idle_connections() {
    assert!(open_files() > IDLE + 200);
    let authority = Authority::new();
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    let proxy = Proxy::start_with(setup(&authority), common::forward_to(origin.path()));
    assert_eq!(curl(&proxy, &authority, &[], &["/"]), b"hi");
    let before = resident();
    let mut clients = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crowds::idle_clients",
            "--ignored",
            "--nocapture",
        ])
        .env("PROXY", proxy.tls().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    while !said.contains("all are idle") {
        let mut byte = [0];
        clients
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut byte)
            .unwrap();
        said.push(byte[0] as char);
    }
    let each = resident().saturating_sub(before) / IDLE;
    println!("{IDLE} idle connections: {each} bytes each");
    assert!(each <= IDLE_BYTES, "{each} bytes each");
    drop(clients.stdin.take());
    assert!(clients.wait().unwrap().success());
}

#[test]
fn an_idle_connection_is_cheap() {
    let run = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crowds::idle_connections",
            "--ignored",
            "--nocapture",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}
