//! Versions of HTTP to servers.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::origins::*;
use crate::tools::*;

#[test]
fn http_2_in_the_clear_is_spoken_where_it_is_told() {
    let address = free();
    let _nginx = Nginx::start(address, &format!("listen {address} http2;"));
    let h1 = Script::start(|head, _| Act::Answer(200, head.lines().next().unwrap().into()));
    let edge = Edge::start(&format!(
        "  - routes:
      - {{path: /h2c, proxy: {{to: '{address}', protocol: h2c}}}}
      - {{path: /h1, proxy: {{to: '{0}', protocol: h1}}}}
      - {{path: /auto, proxy: '{0}'}}
",
        h1.address
    ));
    assert_eq!(edge.get("a.test", "/h2c").body, "HTTP/2.0 a.test");
    assert_eq!(edge.get("a.test", "/h1").body, "GET /h1 HTTP/1.1");
    assert_eq!(edge.get("a.test", "/auto").body, "GET /auto HTTP/1.1");
}

#[cfg(feature = "rustls")]
#[test]
fn over_tls_the_server_chooses_the_version() {
    use crate::certs::{Authority, Leaf};
    let authority = Authority::new();
    let leaf = Leaf {
        names: &["server.test"],
        ..Leaf::default()
    };
    let pair = authority.issue("server", &leaf);
    let (both, old) = (free(), free());
    let server = |listen: &str| {
        format!(
            "listen {listen}; ssl_certificate {}; ssl_certificate_key {};",
            pair.cert, pair.key
        )
    };
    let _both = Nginx::start(both, &server(&format!("{both} ssl http2")));
    let _old = Nginx::start(old, &server(&format!("{old} ssl")));
    let tls = format!("tls: {{name: server.test, ca: '{}'}}", authority.file());
    let edge = Edge::start(&format!(
        "  - routes:
      - {{path: /auto, proxy: {{to: '{both}', {tls}}}}}
      - {{path: /h1, proxy: {{to: '{both}', {tls}, protocol: h1}}}}
      - {{path: /h2, proxy: {{to: '{both}', {tls}, protocol: h2}}}}
      - {{path: /old, proxy: {{to: '{old}', {tls}}}}}
      - {{path: /none, proxy: {{to: '{old}', {tls}, protocol: h2}}}}
"
    ));
    for (path, answer) in [
        ("/auto", "HTTP/2.0 a"),
        ("/h1", "HTTP/1.1 a"),
        ("/h2", "HTTP/2.0 a"),
        ("/old", "HTTP/1.1 a"),
    ] {
        assert_eq!(edge.get("a", path).body, answer, "{path}");
    }
    assert_eq!(edge.get("a", "/none").status, 502);
}

#[cfg(feature = "rustls")]
#[test]
fn servers_with_tls_and_in_the_clear_stand_side_by_side() {
    use crate::certs::{Authority, Leaf};
    let authority = Authority::new();
    let leaf = Leaf {
        names: &["server.test"],
        ..Leaf::default()
    };
    let pair = authority.issue("server", &leaf);
    let (secure, clear) = (free(), free());
    let _secure = Nginx::start(
        secure,
        &format!(
            "listen {secure} ssl http2; ssl_certificate {}; ssl_certificate_key {};",
            pair.cert, pair.key
        ),
    );
    let _clear = Nginx::start(clear, &format!("listen {clear} http2;"));
    let h1 = Script::start(|head, _| Act::Answer(200, head.lines().next().unwrap().into()));
    let (ca, h1) = (authority.file(), h1.address);
    let edge = Edge::start(&format!(
        "  - routes:
      - path: /some
        proxy: {{to: [{{address: '{secure}', tls: true}}, '{h1}'], tls: {{enabled: false, name: server.test, ca: '{ca}'}}}}
      - path: /most
        proxy:
          to: ['{secure}', {{address: '{clear}', tls: false, protocol: h2c}}, {{address: '{h1}', tls: false}}]
          tls: {{name: server.test, ca: '{ca}'}}
"
    ));
    for (path, others) in [("/some", 1), ("/most", 2)] {
        let mut client = edge.connect();
        // As many as take one turn, of the one worker that has the connection.
        let answers: Vec<_> = (0..=others)
            .map(|_| client.ask("GET", "a", path, "").body)
            .collect();
        let h2 = answers.iter().filter(|body| *body == "HTTP/2.0 a");
        assert_eq!(h2.count(), others, "{answers:?}");
        assert!(
            answers.contains(&format!("GET {path} HTTP/1.1")),
            "{answers:?}"
        );
    }
}

#[cfg(feature = "rustls")]
#[test]
fn calls_of_grpc_pass_with_their_trailers() {
    use crate::certs::{Authority, Leaf};
    let authority = Authority::new();
    let leaf = Leaf {
        names: &["a.test"],
        ..Leaf::default()
    };
    let pair = authority.issue("a", &leaf);
    let (origin, address) = (Grpc::start(), free());
    let edge = Edge::start_whole(
        address,
        &format!(
            "listen: {{address: '{address}', tls: true}}
sites:
  - tls: {{cert: '{}', key: '{}'}}
    routes: {{proxy: {{to: '{}', protocol: h2c}}}}
",
            pair.cert, pair.key, origin.address
        ),
    );
    let port = edge.address.port();
    let output = std::process::Command::new("curl")
        .args([
            "-s",
            "--http2",
            "-D",
            "-",
            "--noproxy",
            "*",
            "--cacert",
            &authority.file(),
        ])
        .args(["--resolve", &format!("a.test:{port}:{}", edge.address.ip())])
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers"])
        .args([
            "--data-binary",
            "hello",
            &format!("https://a.test:{port}/app.Echo/Say"),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("HTTP/2 200"), "{said}");
    assert!(
        said.contains("hello") && said.contains("grpc-status: 0"),
        "{said}"
    );
    let calls = origin.calls.lock().unwrap().clone();
    assert_eq!(calls, [("/app.Echo/Say".to_owned(), b"hello".to_vec())]);
}

#[test]
fn a_websocket_becomes_a_tunnel() {
    let switching =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let origin = Script::start(move |_, _| Act::Echo(switching.into()));
    // A limit of bodies is none of what passes it.
    let edge = Edge::start(&format!(
        "  - max_body_size: 5B\n    routes: {{proxy: '{}'}}\n",
        origin.address
    ));
    let mut stream = TcpStream::connect(edge.address).unwrap();
    let ask = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
               Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(ask.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    for message in [&b"\x81\x05hello"[..], b"\x88\x00"] {
        stream.write_all(message).unwrap();
        let mut back = vec![0; message.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, message);
    }
}
