//! The terms of TLS with clients: kinds of keys, OCSP, versions, key exchange, client certificates.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, NamedGroup, RootCertStore, StreamOwned};

use crate::certs::{Authority, Leaf, Pair};
use crate::tools::*;

/// A client of TLS over HTTP/1.1.
type Secure = Client<StreamOwned<ClientConnection, TcpStream>>;

/// Returns a configuration that trusts `authority`, and shows `own`.
fn client(authority: &Authority, own: Option<&Pair>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().into()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match own {
        None => config.with_no_client_auth(),
        Some(pair) => config
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(&pair.cert).unwrap()],
                PrivateKeyDer::from_pem_file(&pair.key).unwrap(),
            )
            .unwrap(),
    }
}

/// Ends a handshake for `name`.
fn connect(edge: &Edge, config: &ClientConfig, name: &'static str) -> Result<Secure, String> {
    let name = ServerName::try_from(name).unwrap();
    let mut tls = ClientConnection::new(Arc::new(config.clone()), name).unwrap();
    let mut tcp = TcpStream::connect(edge.address).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp).map_err(|e| e.to_string())?;
    }
    // A refused certificate of TLS 1.3 is told of after the handshake: see whether tickets come.
    while tls.tls13_tickets_received() == 0 {
        tls.complete_io(&mut tcp).map_err(|e| e.to_string())?;
    }
    Ok(Client::over(StreamOwned::new(tls, tcp)))
}

/// Ends a handshake for `name` in which this protocol is selected.
pub fn secure(
    address: SocketAddr,
    authority: &Authority,
    name: &'static str,
    protocol: &[u8],
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut config = client(authority, None);
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from(name).unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp).unwrap();
    }
    assert_eq!(tls.alpn_protocol(), Some(protocol));
    StreamOwned::new(tls, tcp)
}

fn issue(authority: &Authority, name: &str) -> Pair {
    let names = &[name];
    authority.issue(
        name,
        &Leaf {
            names,
            ..Leaf::default()
        },
    )
}

fn shown(pair: &Pair) -> String {
    format!("cert: '{}', key: '{}'", pair.cert, pair.key)
}

/// Runs a proxy with one TLS listener.
fn start(text: &str) -> Edge {
    let address = free();
    Edge::start_whole(
        address,
        &format!("listen: {{address: '{address}', tls: true}}\n{text}"),
    )
}

/// Runs `openssl` with these arguments.
fn openssl(arguments: &[&str]) -> String {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The end of its input ends the session.
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn the_key_is_of_a_kind_that_the_client_knows() {
    let authority = Authority::new();
    let ecdsa = issue(&authority, "a.test");
    let (cert, key) = (authority.path("rsa.pem"), authority.path("rsa.key"));
    let made = openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=a.test",
        "-addext",
        "subjectAltName=DNS:a.test",
        "-keyout",
        &key,
        "-out",
        &cert,
    ]);
    let ocsp = authority.path("ocsp");
    std::fs::write(&ocsp, [0x30, 3, 0x0a, 1, 0]).unwrap();
    let edge = start(&format!(
        "sites: {{hosts: a.test, tls: [{{{}, ocsp: '{ocsp}'}}, {{cert: '{cert}', key: '{key}'}}], routes: {{respond: 200}}}}\n",
        shown(&ecdsa)
    ));
    let at = edge.address.to_string();
    let session = |more: &[&str]| {
        let common = ["s_client", "-connect", &at, "-servername", "a.test"];
        openssl(&[&common[..], more].concat())
    };
    let text = session(&["-status"]);
    assert!(text.contains("Peer signature type: ECDSA"), "{made}{text}");
    // Not a whole response, but the bytes of the file.
    assert!(!text.contains("no response sent"), "{text}");
    let text = session(&["-sigalgs", "rsa_pss_rsae_sha256", "-status"]);
    assert!(text.contains("Peer signature type: RSA-PSS"), "{text}");
    assert!(text.contains("no response sent"), "{text}");
    let text = session(&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]);
    assert!(
        text.contains("Cipher is ECDHE-RSA-AES128-GCM-SHA256"),
        "{text}"
    );
}

#[test]
fn versions_ciphers_and_protocols_are_those_of_the_site() {
    let authority = Authority::new();
    let (a, b) = (issue(&authority, "a.test"), issue(&authority, "b.test"));
    let mut edge = start(&format!(
        "tls_options: {{max_version: TLSv1.2, ciphers: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]}}
sites:
  - {{hosts: a.test, tls: {{{}}}, routes: {{respond: 200}}}}
  - hosts: b.test
    tls: {{{}}}
    tls_options: {{min_version: TLSv1.3, max_version: TLSv1.3, ciphers: [TLS_CHACHA20_POLY1305_SHA256], key_exchange: [secp384r1], alpn: [http/1.1]}}
    routes: {{respond: 200}}\n",
        shown(&a),
        shown(&b)
    ));
    let at = edge.address.to_string();
    let session = |name: &str, more: &[&str]| {
        let common = [
            "s_client",
            "-connect",
            &at,
            "-servername",
            name,
            "-alpn",
            "h2,http/1.1",
        ];
        openssl(&[&common[..], more].concat())
    };
    let text = session("a.test", &[]);
    assert!(
        text.contains("TLSv1.2, Cipher is ECDHE-ECDSA-AES256-GCM-SHA384"),
        "{text}"
    );
    assert!(text.contains("ALPN protocol: h2"), "{text}");
    let text = session("b.test", &[]);
    assert!(
        text.contains("TLSv1.3, Cipher is TLS_CHACHA20_POLY1305_SHA256"),
        "{text}"
    );
    assert!(text.contains("Server Temp Key: ECDH, secp384r1"), "{text}");
    assert!(text.contains("ALPN protocol: http/1.1"), "{text}");
    let text = session("b.test", &["-tls1_2"]);
    assert!(text.contains("alert protocol version"), "{text}");
    let line = edge.wait_for_log("TLS handshakes that failed");
    assert!(line.contains("1 version"), "{line}");
}

#[test]
fn the_key_exchange_is_one_that_quantum_computers_do_not_break() {
    let authority = Authority::new();
    let a = issue(&authority, "a.test");
    let edge = start(&format!(
        "sites: {{hosts: a.test, tls: {{{}}}, routes: {{respond: 200}}}}\n",
        shown(&a)
    ));
    let mut session = connect(&edge, &client(&authority, None), "a.test").unwrap();
    let group = session
        .stream()
        .conn
        .negotiated_key_exchange_group()
        .unwrap();
    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
    assert_eq!(session.ask("GET", "a.test", "/", "").status, 200);
    // Clients without it are served too.
    let at = edge.address.to_string();
    let text = openssl(&["s_client", "-connect", &at, "-servername", "a.test"]);
    assert!(text.contains("Server Temp Key: X25519"), "{text}");
}

#[test]
fn sessions_are_resumed_after_a_reload() {
    let authority = Authority::new();
    let a = issue(&authority, "a.test");
    let sites = |status: u16| {
        format!(
            "sites: {{hosts: a.test, tls: {{{}}}, routes: {{respond: {status}}}}}\n",
            shown(&a)
        )
    };
    let edge = start(&sites(201));
    let config = client(&authority, None);
    drop(connect(&edge, &config, "a.test").unwrap());
    let address = edge.address;
    edge.write_whole(&format!(
        "listen: {{address: '{address}', tls: true}}\n{}",
        sites(202)
    ));
    edge.hang_up();
    eventually("the file is taken", || {
        let mut session = connect(&edge, &config, "a.test").unwrap();
        session.ask("GET", "a.test", "/", "").status == 202
    });
    let session = connect(&edge, &config, "a.test").unwrap();
    let kind = session.stream().conn.handshake_kind();
    assert_eq!(kind, Some(rustls::HandshakeKind::Resumed));
}

#[test]
fn clients_show_certificates_where_a_site_wants_them() {
    let (authority, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let origin = Origin::start("o");
    let (a, b, c) = (
        issue(&authority, "a.test"),
        issue(&authority, "b.test"),
        issue(&authority, "c.test"),
    );
    let ca = clients.file();
    let plain = free();
    let address = free();
    let edge = Edge::start_whole(
        address,
        &format!(
            "listen: ['{plain}', {{address: '{address}', tls: true}}]
sites:
  - hosts: a.test
    tls: {{{}}}
    tls_options: {{client_auth: '{ca}'}}
    routes:
      - {{path: /known, tls_client: {{subject: '*,CN=client.test'}}, respond: {{body: 'known {{tls_client.san}}'}}}}
      - {{path: /known, respond: 403}}
      - proxy: '{}'
        request_headers: {{set: {{x-client: '{{tls_client.subject}}', x-print: '{{tls_client.fingerprint}}'}}}}
  - hosts: b.test
    tls: {{{}}}
    tls_options: {{client_auth: {{ca: '{ca}', mode: request}}}}
    routes: {{respond: {{body: 'b {{tls_client.subject}}'}}}}
  - {{hosts: c.test, tls: {{{}}}, routes: {{respond: {{body: 'c {{tls_client.subject}}'}}}}}}\n",
            shown(&a), origin.address, shown(&b), shown(&c)
        ),
    );
    let (known, other) = (
        issue(&clients, "client.test"),
        issue(&clients, "other.test"),
    );
    let unknown = issue(&others, "client.test");
    let with = |own: Option<&Pair>| client(&authority, own);
    let mut session = connect(&edge, &with(Some(&known)), "a.test").unwrap();
    assert_eq!(
        session.ask("GET", "a.test", "/known", "").body,
        "known client.test"
    );
    // Its certificate goes nowhere but where the file says, and no client says it for itself.
    session.ask("GET", "a.test", "/", "x-client: CN=root\r\n");
    let head = origin.last();
    assert!(
        head.contains("x-client: O=Test Organization,CN=client.test\r\n"),
        "{head}"
    );
    assert!(
        !head.contains("CN=root") && !head.contains("BEGIN"),
        "{head}"
    );
    let print = openssl(&[
        "x509",
        "-noout",
        "-fingerprint",
        "-sha256",
        "-in",
        &known.cert,
    ]);
    let print = print
        .trim()
        .rsplit_once('=')
        .unwrap()
        .1
        .replace(':', "")
        .to_lowercase();
    assert!(head.contains(&format!("x-print: {print}\r\n")), "{head}");
    // Another name in the handshake is no way around.
    assert_eq!(session.ask("GET", "c.test", "/", "").body, "c ");
    assert_eq!(session.ask("GET", "b.test", "/", "").status, 421);
    let mut session = connect(&edge, &with(None), "c.test").unwrap();
    assert_eq!(session.ask("GET", "a.test", "/", "").status, 421);
    let mut session = connect(&edge, &with(Some(&other)), "a.test").unwrap();
    assert_eq!(session.ask("GET", "a.test", "/known", "").status, 403);
    for bad in [None, Some(&unknown)] {
        assert!(connect(&edge, &with(bad), "a.test").is_err());
    }
    let mut session = connect(&edge, &with(None), "b.test").unwrap();
    assert_eq!(session.ask("GET", "b.test", "/", "").body, "b ");
    assert_eq!(session.ask("GET", "a.test", "/", "").status, 421);
    let mut session = connect(&edge, &with(Some(&known)), "b.test").unwrap();
    let body = session.ask("GET", "b.test", "/", "").body;
    assert_eq!(body, "b O=Test Organization,CN=client.test");
    assert!(connect(&edge, &with(Some(&unknown)), "b.test").is_err());
    let mut session = Client::of(connect_to(plain));
    assert_eq!(session.ask("GET", "a.test", "/", "").status, 403);
    assert_eq!(session.ask("GET", "b.test", "/", "").body, "b ");
}

#[test]
fn plain_requests_and_noise_are_counted() {
    let authority = Authority::new();
    let a = issue(&authority, "a.test");
    let mut edge = start(&format!(
        "sites: {{hosts: a.test, tls: {{{}}}, routes: {{respond: 200}}}}\n",
        shown(&a)
    ));
    assert_eq!(edge.get("a.test", "/").status, 400);
    let line = edge.wait_for_log("TLS handshakes that failed");
    assert!(line.contains("1 not_tls"), "{line}");
    let _ = TcpStream::connect(edge.address)
        .unwrap()
        .write_all(&[22, 3, 1, 0, 1, 9]);
}

#[test]
fn a_certificate_is_known_after_others_have_decided() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let (service, origin) = (Origin::start("yes"), Origin::start("o"));
    let hash = bcrypt::hash("pass", 4).unwrap();
    let edge = start(&format!(
        "sites:
  - hosts: a.test
    tls: {{{}}}
    tls_options: {{client_auth: '{}'}}
    basic_auth: {{users: {{ali: '{hash}'}}}}
    routes:
      - {{path: /said, respond: {{body: '{{tls_client.san}}'}}}}
      - path: /asked
        forward_auth: {{to: '{}'}}
        request_headers: {{set: {{x-client: '{{tls_client.subject}}'}}}}
        proxy: '{}'\n",
        shown(&issue(&authority, "a.test")),
        clients.file(),
        service.address,
        origin.address
    ));
    let known = issue(&clients, "client.test");
    let mut session = connect(&edge, &client(&authority, Some(&known)), "a.test").unwrap();
    let field = "Authorization: Basic YWxpOnBhc3M=\r\n";
    // The first is checked off the worker, the second is remembered.
    for _ in 0..2 {
        let said = session.ask("GET", "a.test", "/said", field);
        assert_eq!(said.body, "client.test");
    }
    assert_eq!(session.ask("GET", "a.test", "/asked", field).body, "o");
    let told = origin.last();
    let name = "x-client: O=Test Organization,CN=client.test\r\n";
    assert!(told.contains(name), "{told}");
}

/// Without a list of now nobody knows who is revoked since.
#[test]
fn no_client_is_let_in_by_a_revocation_list_that_is_out_of_date() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = issue(&authority, "a.test");
    let of = |serial| {
        let leaf = Leaf {
            names: &["client.test"],
            serial,
            ..Leaf::default()
        };
        clients.issue(&format!("client-{serial}"), &leaf)
    };
    let [good, bad] = [7, 8].map(|serial| client(&authority, Some(&of(serial))));
    let ca = clients.file();
    let start = |crl: &str| {
        start(&format!(
            "sites:\n  - hosts: a.test\n    tls: {{{}}}\n    tls_options: {{client_auth: {{ca: '{ca}', crl: '{crl}', mode: request}}}}\n    routes: {{respond: {{body: '{{tls_client.san}}'}}}}\n",
            shown(&server)
        ))
    };
    let edge = start(&clients.revoke("new.pem", &[8], 2098));
    let mut session = connect(&edge, &good, "a.test").unwrap();
    assert_eq!(session.ask("GET", "a.test", "/", "").body, "client.test");
    assert!(connect(&edge, &bad, "a.test").is_err());
    let mut edge = start(&clients.revoke("old.pem", &[8], 2023));
    edge.wait_for_log("old.pem has expired on 2024-01-01");
    assert!(connect(&edge, &good, "a.test").is_err());
    assert!(connect(&edge, &bad, "a.test").is_err());
    // It may do without one.
    assert!(connect(&edge, &client(&authority, None), "a.test").is_ok());
}
