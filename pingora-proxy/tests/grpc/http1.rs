//! gRPC where one side speaks HTTP/1.1: chunked trailers carry the status, and gRPC-web carries it in the body.

use super::common::h2_origin::*;
use super::common::*;
use super::peers::*;
use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::modules::http::grpc_web::{GrpcWeb, GrpcWebBridge};
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;
use pingora_proxy::{ProxyHttp, Session};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request};

/// A message as it stands in a body.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    framed
}

#[track_caller]
fn call(client: &mut Wire, method: &str, content_type: &str, body: &[u8]) -> Response {
    client.send(format!(
        "POST /t.T/{method} HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\n\
         TE: trailers\r\nConnection: TE\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(body);
    client.read_response()
}

#[test]
fn a_client_of_http1_gets_the_status_in_chunked_trailers() {
    let (origin, _) = grpc_origin();
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    let response = call(&mut client, "Unary", "application/grpc", &framed(b"hello"));
    assert_eq!(response.body, framed(b"hello"));
    assert!(
        response.trailers.contains("grpc-status: 0\r\n"),
        "{}",
        response.trailers
    );

    let response = call(&mut client, "Split", "application/grpc", &framed(b"ab"));
    assert_eq!(response.body, [framed(b"a"), framed(b"b")].concat());
    assert!(
        response.trailers.contains("grpc-status: 11\r\n"),
        "{}",
        response.trailers
    );

    let both = [framed(b"one "), framed(b"two")].concat();
    let response = call(&mut client, "Join", "application/grpc", &both);
    assert_eq!(response.body, framed(b"one two"));

    // A response of trailers alone is a head.
    let response = call(&mut client, "Fail", "application/grpc", &framed(b""));
    assert_eq!(response.field("grpc-status"), Some("9"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_of_http1_sends_the_status_in_chunked_trailers() {
    let origin = Origin::scripted(|mut wire, _| {
        while wire.has_more() {
            let request = wire.read_message();
            assert_eq!(request.field("TE"), Some("trailers"));
            assert_eq!(request.field("Host"), Some("grpc.test"));
            assert_eq!(request.body, framed(b"hello"));
            wire.send("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n");
            wire.send("Transfer-Encoding: chunked\r\n\r\n");
            wire.send("a\r\n");
            wire.send(framed(b"hello"));
            wire.send("\r\n0\r\ngrpc-status: 11\r\ngrpc-message: done\r\n\r\n");
        }
    });
    let proxy = h2c_proxy(forward_to(origin.path()));
    let mut client = Channel::connect(&proxy.path()).await;
    client.ready().await.unwrap();
    let request = Request::new(Bytes::from_static(b"hello"));
    let response = client
        .server_streaming(request, PathAndQuery::from_static("/t.T/Unary"), Plain)
        .await
        .unwrap();
    let (messages, status) = all(response.into_inner()).await;
    let status = status.unwrap();
    assert_eq!(messages, ["hello"]);
    assert_eq!(
        (status.code(), status.message()),
        (Code::OutOfRange, "done")
    );
}

/// A proxy for browsers.
struct Bridge {
    peer: HttpPeer,
}

#[async_trait]
impl ProxyHttp for Bridge {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        modules.add_module(Box::new(GrpcWeb));
    }

    async fn early_request_filter(&self, session: &mut Session, _: &mut ()) -> Result<()> {
        let modules = &mut session.downstream_modules_ctx;
        modules.get_mut::<GrpcWebBridge>().unwrap().init();
        Ok(())
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }
}

/// The frames of a body: flags and content.
fn frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = body.split_at_checked(5) {
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        let (content, rest) = rest.split_at(length);
        frames.push((head[0], content.to_vec()));
        body = rest;
    }
    assert!(body.is_empty());
    frames
}

#[test]
fn a_client_of_grpc_web_gets_the_status_in_the_body() {
    let (origin, _) = grpc_origin();
    let proxy = Proxy::start(Bridge {
        peer: h2_peer(&origin.path()),
    });
    let mut client = proxy.connect();
    for (method, messages, status) in [
        ("Unary", vec![&b"ab"[..]], "grpc-status: 0\r\n"),
        ("Split", vec![&b"a"[..], b"b"], "grpc-status: 11\r\n"),
    ] {
        // A browser says nothing of TE.
        let body = framed(b"ab");
        client.send(format!(
            "POST /t.T/{method} HTTP/1.1\r\nHost: a\r\nX-Grpc-Web: 1\r\n\
             Content-Type: application/grpc-web+proto\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        client.send(body);
        let response = client.read_response();
        let content_type = response.field("Content-Type").unwrap();
        assert!(
            content_type.starts_with("application/grpc-web"),
            "{content_type}"
        );
        assert_eq!(response.trailers, "");
        let mut got = frames(&response.body);
        let (flags, trailers) = got.pop().unwrap();
        assert_eq!(flags, 0x80);
        let trailers = String::from_utf8(trailers).unwrap();
        assert!(trailers.contains(status), "{trailers}");
        let expected: Vec<_> = messages.iter().map(|m| (0, m.to_vec())).collect();
        assert_eq!(got, expected);
    }
    // Other requests are left alone.
    let response = call(&mut client, "Unary", "application/grpc", &framed(b"x"));
    assert_eq!(frames(&response.body), [(0, b"x".to_vec())]);
    assert!(response.trailers.contains("grpc-status: 0"));
}
