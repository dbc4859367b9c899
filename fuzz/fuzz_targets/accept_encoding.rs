//! What a client accepts (the first line), and a body in a coding that it does: it comes out as it went in.
//! The byte after the line is the level, the next one the size of the pieces.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pingora_core::protocols::http::compression::{Algorithm, ResponseCompressionCtx};
use pingora_http::{RequestHeader, ResponseHeader};

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |b| *b == b'\n');
    let (Some(accept), Some([level, size, body @ ..])) = (parts.next(), parts.next()) else {
        return;
    };
    let mut request = RequestHeader::build("GET", b"/", None).expect("a header");
    if request.insert_header("Accept-Encoding", accept).is_err() {
        return;
    }
    let mut ctx = ResponseCompressionCtx::new(u32::from(level % 7), false, false);
    ctx.request_filter(&request);
    let mut response = ResponseHeader::build(200, None).expect("a header");
    response
        .insert_header("Content-Type", "text/html")
        .expect("a value");
    response.set_content_length(body.len()).expect("a number");
    ctx.response_header_filter(&mut response, false);
    let Some(coding) = response.headers.get("content-encoding") else {
        assert!(ctx
            .response_body_filter(Some(&Bytes::copy_from_slice(body)), true)
            .is_none());
        return;
    };
    let algorithm = match coding.as_bytes() {
        b"gzip" => Algorithm::Gzip,
        b"br" => Algorithm::Brotli,
        b"zstd" => Algorithm::Zstd,
        other => panic!("an unknown coding: {}", other.escape_ascii()),
    };
    // Only what was named, or anything at all.
    let accept = accept.to_ascii_lowercase();
    let names = |name: &[u8]| accept.windows(name.len()).any(|part| part == name);
    assert!(names(coding.as_bytes()) || names(b"*"));
    assert!(!response.headers.contains_key("content-length"));

    let mut coded = Vec::new();
    for piece in body.chunks(1 + usize::from(*size)) {
        let piece = Bytes::copy_from_slice(piece);
        coded.extend_from_slice(
            &ctx.response_body_filter(Some(&piece), false)
                .expect("a coding"),
        );
    }
    coded.extend_from_slice(&ctx.response_body_filter(None, true).expect("a coding"));
    if let Some(mut decompressor) = algorithm.decompressor(true) {
        let decoded = decompressor
            .encode(&coded, true)
            .expect("what we write we read");
        assert_eq!(decoded, body);
    }
});
