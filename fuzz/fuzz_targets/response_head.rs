//! A response head, and the framing that follows from it. The first byte says what was asked.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pingora_core::protocols::http::v1::proto::framing::{self, Answered, Framing};
use pingora_core::protocols::http::v1::proto::head::{parse_response, Limits, Scanner};

fuzz_target!(|data: &[u8]| {
    let Some((choice, input)) = data.split_first() else {
        return;
    };
    let limits = Limits::response();
    let mut scanner = Scanner::default();
    let Ok(Some(found)) = scanner.scan(input, &limits) else {
        return;
    };
    let head = Bytes::copy_from_slice(&input[found.start..found.end]);
    let Ok(response) = parse_response(&head) else {
        return;
    };
    let answered =
        [Answered::Other, Answered::Head, Answered::Connect][usize::from(choice & 3) % 3];
    let lenient = choice & 4 != 0;
    let framing = framing::response(
        answered,
        response.status,
        response.version,
        &*response,
        lenient,
    );
    let coded = response.headers.contains_key("transfer-encoding");
    match framing {
        Ok(Framing::Empty) => assert!(framing::bodiless(answered, response.status)),
        Ok(Framing::Chunked) => assert!(coded),
        Ok(Framing::Length(n)) => {
            assert!(!coded);
            assert_eq!(framing::content_length(&*response), Ok(Some(n)));
        }
        Ok(Framing::UntilClose) | Err(_) => {}
    }
    // Field lines that go to the client are read as the same fields.
    let mut wire = b"HTTP/1.1 200 OK\r\n".to_vec();
    response.header_to_h1_wire(&mut wire);
    wire.extend_from_slice(b"\r\n");
    let again = parse_response(&wire.into()).expect("what we write we read");
    assert_eq!(again.headers, response.headers);
});
