//! A chunked body, cut anyhow: the first byte says how many of the next are places to cut.
#![no_main]

use bytes::BytesMut;
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use pingora_core::protocols::http::v1::proto::decode::{Decoded, Decoder};
use pingora_core::protocols::http::v1::proto::framing::Framing;
use pingora_core::protocols::http::v1::proto::Refusal;

/// The body so far, and what ended it: its end with trailers and the bytes that follow, or a refusal.
#[derive(Debug, PartialEq)]
struct Outcome {
    body: Vec<u8>,
    end: Option<Result<(Option<Box<HeaderMap>>, Vec<u8>), Refusal>>,
}

fn decode(mut input: &[u8], cuts: &[u8], lenient: bool) -> Outcome {
    let mut decoder = Decoder::new(Framing::Chunked, lenient);
    let mut cuts = cuts.iter();
    let (mut body, mut received) = (Vec::new(), BytesMut::new());
    loop {
        match decoder.decode(&mut received) {
            Ok(Decoded::Data(data)) => {
                assert!(!data.is_empty());
                body.extend_from_slice(&data);
            }
            Ok(Decoded::NeedMore) if input.is_empty() => {
                assert!(decoder.eof().is_err());
                return Outcome { body, end: None };
            }
            Ok(Decoded::NeedMore) => {
                let n = cuts
                    .next()
                    .map_or(input.len(), |cut| usize::from(*cut).min(input.len()));
                let (piece, rest) = input.split_at(n.max(1));
                received.extend_from_slice(piece);
                input = rest;
            }
            Ok(Decoded::End(trailers)) => {
                assert!(decoder.is_done() && decoder.eof().is_ok());
                let rest = [&received, input].concat();
                let end = Some(Ok((trailers, rest)));
                return Outcome { body, end };
            }
            Err(refusal) => {
                let end = Some(Err(refusal));
                return Outcome { body, end };
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let lenient = choice & 1 != 0;
    let (cuts, input) = rest.split_at(usize::from(choice >> 1).min(rest.len()));
    let whole = decode(input, &[], lenient);
    assert_eq!(decode(input, cuts, lenient), whole);
    let strict = decode(input, cuts, false);
    if matches!(strict.end, None | Some(Ok(_))) {
        // Being lenient changes nothing for what is right.
        assert_eq!(decode(input, &[], true), strict);
    }
});
