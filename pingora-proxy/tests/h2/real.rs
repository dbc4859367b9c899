//! Clients that people use: curl, h2load and hyper.

use super::common::*;
use super::h2_proxy;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::process::Command;

#[test]
fn curl() {
    let origin = Origin::scripted(|mut wire, _| {
        while wire.has_more() {
            let request = wire.read_message();
            let length = request.body.len().max(5);
            wire.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
            ));
            match request.body.is_empty() {
                true => wire.send("hello"),
                false => wire.send(&request.body),
            }
        }
    });
    let proxy = h2_proxy(&origin);
    let url = format!("http://{}/", proxy.tcp());
    let big = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(big.path(), vec![b'b'; 3_000_000]).unwrap();
    let upload = format!("@{}", big.path().display());
    let cases: [(&[&str], Vec<u8>); 2] = [
        (&["--http2-prior-knowledge"], b"hello".to_vec()),
        (
            &["--http2-prior-knowledge", "--data-binary", &upload],
            vec![b'b'; 3_000_000],
        ),
    ];
    for (args, answer) in cases {
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "60",
                "--write-out",
                "%{http_version}",
            ])
            .args(args)
            .arg(&url)
            .output()
            .expect("these tests need curl");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let expected = [&answer[..], b"2"].concat();
        assert!(output.stdout == expected, "{args:?}");
    }
}

#[test]
fn h2load() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let proxy = h2_proxy(&origin);
    let output = Command::new("h2load")
        .args(["-n", "3000", "-c", "3", "-m", "50"])
        .arg(format!("http://{}/", proxy.tcp()))
        .output()
        .expect("these tests need h2load (nghttp2-client)");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(
        report.contains("3000 succeeded, 0 failed, 0 errored"),
        "{report}"
    );
}

#[tokio::test]
async fn hyper() {
    let origin = HyperOrigin::start(|request| async {
        let body = request.into_body().collect().await.unwrap();
        let trailers = body.trailers().cloned();
        let body = http_body_util::Full::new(body.to_bytes()).map_err(|never| match never {});
        let trailers = async move { trailers.map(Ok) };
        hyper::Response::new(body.with_trailers(trailers).boxed())
    });
    let proxy = Proxy::start_with(super::setup(), forward_to(origin.path()));
    let stream = tokio::net::UnixStream::connect(proxy.path()).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(async { drop(connection.await) });
    for size in [0, 10, 100_000, 2_000_000] {
        let request = hyper::Request::post("http://origin.test/")
            .body(whole(vec![b'h'; size]))
            .unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), size);
    }
}
