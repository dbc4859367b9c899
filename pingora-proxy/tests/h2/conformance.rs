//! The cases of RFC 9113 that others wrote: the crate httpwg, run by `conformance/`.

use super::common::*;
use super::setup;
use http_body_util::BodyExt;
use std::process::Command;

/// What fails, and why it may.
const EXCEPTIONS: [&str; 1] = [
    // The client says goodbye while no stream is open. The server has nothing left to do and closes; the case
    // wants a PING answered that comes after.
    "sends goaway frame with unknown error code",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc_9113() {
    // The whole request first: an early answer would end streams before their cases have said all.
    let origin = HyperOrigin::start(|request| async {
        match request.into_body().collect().await {
            Ok(_) => hyper::Response::new(whole("hello world")),
            Err(_) => hyper::Response::new(whole("cut short")),
        }
    });
    let proxy = Proxy::start_with(setup(), forward_to(origin.path()));
    let address = proxy.tcp().to_string();
    let run = move || {
        Command::new(env!("CARGO"))
            .args(["run", "--quiet", "--locked", "--manifest-path"])
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../conformance/Cargo.toml"
            ))
            .arg("--target-dir")
            .arg(concat!(env!("CARGO_TARGET_TMPDIR"), "/conformance"))
            .arg("--")
            .arg(address)
            .output()
            .unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}{said}");
    assert!(
        report.contains(" of 107"),
        "not all cases ran: {report}{said}"
    );
    for failed in report.lines().filter(|line| line.starts_with("failed")) {
        assert!(
            EXCEPTIONS.iter().any(|name| failed.contains(name)),
            "{failed}"
        );
    }
}
