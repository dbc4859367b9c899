//! The reverse-proxy with TLS and HTTP/2.

use super::certs::{Authority, Leaf, Pair};
use super::tools::*;
use edge::{HAS_TLS, WITHOUT_TLS};
use std::process::Command;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_reverse-proxy");

/// What curl is told of the version, and what it says it was.
const VERSIONS: [(&str, &str); 2] = [("--http1.1", "1.1"), ("--http2", "2")];

struct Chain {
    _front: Program,
    _back: Program,
    dir: TempDir,
}

impl Chain {
    /// A proxy in front of a proxy with the demo origin.
    fn new(front: &[&str], back: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let back_at = dir.path().join("back");
        let back = Program::start(BINARY, &back_at, back);
        let upstream = format!("unix:{}", back_at.display());
        let front = [&["--upstream", &upstream], front].concat();
        let front = Program::start(BINARY, &dir.path().join("front"), &front);
        Chain {
            _front: front,
            _back: back,
            dir,
        }
    }

    /// The status and the version of an answer, or why there is none.
    fn curl(&self, url: &str, args: &[&str]) -> Result<String, String> {
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "60", "-o", "/dev/null"])
            .args(["-w", "%{http_code} %{http_version}", "--unix-socket"])
            .arg(self.dir.path().join("front"))
            .args(args)
            .arg(url)
            .output()
            .expect("these tests need curl");
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

fn pair(authority: &Authority) -> Pair {
    let names = Leaf {
        names: &["localhost"],
        ..Leaf::default()
    };
    authority.issue("pair", &names)
}

#[test]
fn every_version_over_tls_on_both_sides() {
    if !HAS_TLS {
        return;
    }
    let authority = Authority::new();
    let (pair, ca) = (pair(&authority), authority.file());
    let tls = ["--tls-cert", &pair.cert, "--tls-key", &pair.key];
    let upstream = [
        "--upstream-tls",
        "--upstream-ca",
        &ca,
        "--upstream-sni",
        "localhost",
    ];
    for h2 in [&[][..], &["--upstream-h2"]] {
        let chain = Chain::new(&[&tls[..], &upstream, h2].concat(), &tls);
        for (flag, version) in VERSIONS {
            let answer = chain.curl("https://localhost/", &["--cacert", &ca, flag]);
            assert_eq!(answer, Ok(format!("200 {version}")), "{h2:?}");
        }
    }
}

/// Whoever accepts a connection, the handshake is the serving worker's.
#[test]
fn tls_with_each_accept_strategy() {
    if !HAS_TLS {
        return;
    }
    let authority = Authority::new();
    let (pair, ca) = (pair(&authority), authority.file());
    for strategy in ["shared", "exclusive", "reuseport", "mutex"] {
        for more in [&[][..], &["--work-stealing"]] {
            let address = free();
            let listen = address.to_string();
            let args = ["--listen", &listen, "--threads", "2", "--accept", strategy];
            let tls = ["--tls-cert", &pair.cert, "--tls-key", &pair.key];
            let chain = Chain::new(&[&args[..], &tls, more].concat(), &[]);
            wait_for_listener(address);
            let at = format!("https://localhost:{}/", address.port());
            let resolve = format!("localhost:{}:{}", address.port(), address.ip());
            for (flag, version) in VERSIONS {
                let curl = ["-4", "-sS", "--max-time", "60", "-o", "/dev/null"];
                let output = Command::new("curl")
                    .args(curl)
                    .args([
                        "-w",
                        "%{http_code} %{http_version}",
                        "--cacert",
                        &ca,
                        "--resolve",
                        &resolve,
                        flag,
                        &at,
                    ])
                    .output()
                    .expect("these tests need curl");
                let answer = String::from_utf8_lossy(&output.stdout);
                assert_eq!(answer, format!("200 {version}"), "{strategy} {more:?}");
            }
            let answer = chain.curl("https://localhost/", &["--cacert", &ca]);
            assert!(answer.is_ok(), "{strategy} {more:?}: {answer:?}");
        }
    }
}

#[test]
fn an_upstream_whom_nobody_vouches_for_is_a_502() {
    if !HAS_TLS {
        return;
    }
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (pair, ca) = (pair(&authority), stranger.file());
    let tls = ["--tls-cert", &pair.cert, "--tls-key", &pair.key];
    let upstream = ["--upstream-tls", "--upstream-ca", &ca, "--upstream-sni"];
    let chain = Chain::new(&[&upstream[..], &["localhost"]].concat(), &tls);
    let answer = chain.curl("http://localhost/", &[]);
    assert_eq!(answer.as_deref(), Ok("502 1.1"));
    let right = authority.file();
    let upstream = ["--upstream-tls", "--upstream-ca", &right, "--upstream-sni"];
    let chain = Chain::new(&[&upstream[..], &["elsewhere"]].concat(), &tls);
    let answer = chain.curl("http://localhost/", &[]);
    assert_eq!(answer.as_deref(), Ok("502 1.1"));
}

/// Lines of the form that Wireshark reads: what a secret is for, the random number of the client, the secret.
#[test]
fn secrets_are_logged_where_the_settings_want_it() {
    if !HAS_TLS {
        return;
    }
    let authority = Authority::new();
    let (pair, ca) = (pair(&authority), authority.file());
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (back_at, front_at) = (dir.path().join("back"), dir.path().join("front"));
    let tls = ["--tls-cert", &pair.cert, "--tls-key", &pair.key];
    let _back = Program::start(BINARY, &back_at, &tls);
    for wanted in [false, true] {
        let (keys, conf) = (at("keys"), at("conf.yaml"));
        std::fs::write(&conf, format!("upstream_debug_ssl_keylog: {wanted}\n")).unwrap();
        let env = format!("SSLKEYLOGFILE={keys}");
        let listen = format!("unix:{}", front_at.display());
        let upstream = format!("unix:{}", back_at.display());
        let args = [&env, BINARY, "--listen", &listen, "--conf", &conf];
        let to = [
            "--upstream",
            &upstream,
            "--upstream-tls",
            "--upstream-ca",
            &ca,
        ];
        let name = ["--upstream-sni", "localhost"];
        let args = [&args[..], &to, &name].concat();
        let mut front = Program::spawn_as_written("env", &front_at, &args);
        front.wait_until_it_listens();
        assert_eq!(status(&front.get("/")), "200");
        let logged = std::fs::read_to_string(&keys).ok();
        if !wanted {
            assert_eq!(logged, None);
            continue;
        }
        let logged = logged.expect("there is a file");
        let mut labels = Vec::new();
        for line in logged.lines() {
            let [label, random, secret] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("three words, not {line:?}");
            };
            let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(random.len() == 64 && is_hex(random), "{line}");
            assert!([64, 96].contains(&secret.len()) && is_hex(secret), "{line}");
            labels.push(label);
        }
        for label in [
            "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            "CLIENT_TRAFFIC_SECRET_0",
            "SERVER_TRAFFIC_SECRET_0",
        ] {
            assert!(labels.contains(&label), "no {label}: {labels:?}");
        }
    }
}

#[test]
fn a_renewed_certificate_is_used_without_a_restart() {
    if !HAS_TLS {
        return;
    }
    let (old, new) = (Authority::new(), Authority::new());
    let (pair_used, next) = (pair(&old), pair(&new));
    let chain = Chain::new(
        &["--tls-cert", &pair_used.cert, "--tls-key", &pair_used.key],
        &[],
    );
    let by = |ca: &str| chain.curl("https://localhost/", &["--cacert", ca]);
    assert!(by(&old.file()).is_ok());
    assert!(by(&new.file()).is_err());
    std::fs::copy(&next.cert, &pair_used.cert).unwrap();
    std::fs::copy(&next.key, &pair_used.key).unwrap();
    eventually("the new certificate is served", || by(&new.file()).is_ok());
    assert!(by(&old.file()).is_err());
}

#[test]
fn http2_without_tls_on_both_sides() {
    let chain = Chain::new(&["--h2c", "--upstream-h2"], &["--h2c"]);
    let prior = chain.curl("http://localhost/", &["--http2-prior-knowledge"]);
    assert_eq!(prior.as_deref(), Ok("200 2"));
    let old = chain.curl("http://localhost/", &["--http1.1"]);
    assert_eq!(old.as_deref(), Ok("200 1.1"));
}

#[test]
fn what_cannot_be_done_with_tls_is_told_in_one_line() {
    let authority = Authority::new();
    let pair = pair(&authority);
    let other = authority.issue("other", &Leaf::default());
    let missing: &[&str] = &["--tls-cert", "/no/such.pem", "--tls-key", &pair.key];
    let mixed: &[&str] = &["--tls-cert", &pair.cert, "--tls-key", &other.key];
    let upstream = "--upstream=unix:/x";
    let no_ca: &[&str] = &["--upstream-tls", upstream, "--upstream-ca", "/no/ca", "-t"];
    let no_name: &[&str] = &["--upstream-tls", upstream, "-t", "--h2c"];
    for (args, names) in [
        (missing, "/no/such.pem"),
        (mixed, "--tls-cert"),
        (no_ca, "/no/ca"),
        (
            no_name,
            if HAS_TLS {
                "--upstream-sni"
            } else {
                WITHOUT_TLS
            },
        ),
    ] {
        let (code, stdout, stderr) = run(BINARY, args);
        assert_eq!(code, Some(1), "{args:?}: {stderr}");
        assert_eq!(stdout, "", "{args:?}");
        assert!(stderr.contains(names), "{args:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    }
    // One without the other is told by the reader of the command line.
    for (args, names) in [
        (&["--tls-cert", &pair.cert], "--tls-key"),
        (&["--upstream-tls", "-t"], "--upstream"),
    ] {
        let (code, _, stderr) = run(BINARY, args);
        assert_eq!(code, Some(2));
        assert!(stderr.contains(names), "{stderr}");
    }
}
