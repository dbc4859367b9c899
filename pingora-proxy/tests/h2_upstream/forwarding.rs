//! Requests and responses, translated and passed on.

use super::common::*;
use super::origins::*;
use hyper::Response as HyperResponse;

#[test]
fn a_get_is_translated_and_its_answer_comes_back() {
    let origin = H2Origin::hyper(|request| async move {
        assert_eq!(request.version(), hyper::Version::HTTP_2);
        assert_eq!(request.uri().to_string(), "http://origin.test/a?b=c");
        assert_eq!(request.headers()["x-mine"], "kept");
        assert!(!request.headers().contains_key("host"));
        assert!(!request.headers().contains_key("connection"));
        assert!(hyper::body::Body::is_end_stream(request.body()));
        HyperResponse::builder()
            .header("x-yours", "kept too")
            .header("content-length", "5")
            .body(whole("hello"))
            .unwrap()
    });
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    for _ in 0..3 {
        client.send("GET /a?b=c HTTP/1.1\r\nHost: origin.test\r\nX-Mine: kept\r\nConnection: keep-alive\r\n\r\n");
        let response = client.read_response();
        assert_eq!((response.status(), response.text()), (200, "hello"));
        assert_eq!(response.field("X-Yours"), Some("kept too"));
    }
    assert_eq!(origin.accepted(), 1);
}
