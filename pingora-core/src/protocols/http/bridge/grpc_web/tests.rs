use super::*;

fn request(content_type: &str) -> RequestHeader {
    let mut req = RequestHeader::build("POST", b"/pkg.Service/Method", None).unwrap();
    req.insert_header("content-type", content_type).unwrap();
    req
}

fn response(content_type: &str) -> ResponseHeader {
    let mut resp = ResponseHeader::build(200, None).unwrap();
    resp.insert_header("content-type", content_type).unwrap();
    resp.insert_header("content-length", "10").unwrap();
    resp
}

#[test]
fn requests_that_are_bridged() {
    for (given, expected) in [
        ("application/grpc-web", Some("application/grpc")),
        ("application/grpc-web+proto", Some("application/grpc+proto")),
        ("Application/gRPC-Web+json", Some("application/grpc+json")),
        (
            "application/grpc-web; charset=utf-8",
            Some("application/grpc; charset=utf-8"),
        ),
        ("application/grpc-web-text", None),
        ("application/grpc-web-text+proto", None),
        ("application/grpc", None),
        ("application/grpc+proto", None),
        ("application/json", None),
        ("", None),
    ] {
        let mut ctx = GrpcWebCtx::default();
        ctx.init();
        let mut req = request(given);
        ctx.request_header_filter(&mut req);
        assert_eq!(req.headers["content-type"], expected.unwrap_or(given));
        match expected {
            Some(_) => {
                assert_eq!(ctx, GrpcWebCtx::Upgrade);
                assert_eq!(req.headers["te"], "trailers");
            }
            None => {
                assert_eq!(ctx, GrpcWebCtx::Disabled);
                assert!(!req.headers.contains_key("te"));
            }
        }
    }
}

#[test]
fn responses_that_are_bridged() {
    for (version, chunked) in [(Version::HTTP_11, true), (Version::HTTP_2, false)] {
        let mut ctx = GrpcWebCtx::Upgrade;
        let mut resp = response("application/grpc+proto");
        resp.set_version(version);
        ctx.response_header_filter(&mut resp);
        assert_eq!(ctx, GrpcWebCtx::Trailers);
        assert_eq!(resp.headers["content-type"], "application/grpc-web+proto");
        assert!(!resp.headers.contains_key("content-length"));
        assert_eq!(resp.headers.contains_key("transfer-encoding"), chunked);
    }
}

#[test]
fn other_responses_pass() {
    let mut ctx = GrpcWebCtx::Upgrade;
    let mut early = ResponseHeader::build(103, None).unwrap();
    ctx.response_header_filter(&mut early);
    assert_eq!(ctx, GrpcWebCtx::Upgrade);

    for content_type in ["text/html", "application/grpc-web", "application/grpcx"] {
        let mut ctx = GrpcWebCtx::Upgrade;
        let mut resp = response(content_type);
        ctx.response_header_filter(&mut resp);
        assert_eq!(ctx, GrpcWebCtx::Disabled);
        assert_eq!(resp.headers["content-type"], content_type);
        assert_eq!(resp.headers["content-length"], "10");
    }
}

#[test]
fn trailers_become_the_last_frame() {
    let mut trailers = HeaderMap::new();
    trailers.insert("Grpc-Status", HeaderValue::from_static("0"));
    trailers.append("grpc-message", HeaderValue::from_static("OK"));
    let mut ctx = GrpcWebCtx::Trailers;
    let frame = ctx.response_trailer_filter(&mut trailers).unwrap().unwrap();
    assert_eq!(ctx, GrpcWebCtx::Done);
    assert!(trailers.is_empty());
    assert_eq!(frame[..5], [0x80, 0, 0, 0, 34]);
    assert_eq!(frame[5..], *b"grpc-status: 0\r\ngrpc-message: OK\r\n");

    assert_eq!(ctx.response_trailer_filter(&mut trailers).unwrap(), None);
}

#[test]
fn no_trailers_are_a_frame_too() {
    let mut ctx = GrpcWebCtx::Trailers;
    let frame = ctx.response_trailer_filter(&mut HeaderMap::new()).unwrap();
    assert_eq!(frame.unwrap()[..], [0x80, 0, 0, 0, 0]);
}

#[test]
fn is_off_unless_asked_for() {
    let mut ctx = GrpcWebCtx::default();
    let mut req = request("application/grpc-web");
    ctx.request_header_filter(&mut req);
    assert_eq!(req.headers["content-type"], "application/grpc-web");
    let mut resp = response("application/grpc");
    ctx.response_header_filter(&mut resp);
    assert_eq!(resp.headers["content-type"], "application/grpc");
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    assert_eq!(ctx.response_trailer_filter(&mut trailers).unwrap(), None);
    assert_eq!(trailers.len(), 1);
}
