//! Content codings in both directions. What is compressed in any pieces is decompressed to the same, in any pieces and
//! step by step; what decodes is what the libraries' own readers make of it; no step is too large, and no limit passed.
#![no_main]

use std::io::Read;

use bytes::Bytes;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pingora_core::protocols::http::compression::{
    Algorithm, Decompression, Encode, ResponseCompressionCtx,
};
use pingora_core::protocols::http::HttpTask;
use pingora_http::{RequestHeader, ResponseHeader};

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Coding {
    Gzip,
    Brotli,
    Zstd,
}

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    /// A body, so many times.
    Body {
        level: u8,
        piece: &'a [u8],
        times: u16,
    },
    /// What an origin may send.
    Coded(&'a [u8]),
}

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    coding: Coding,
    /// Where the input is cut.
    cuts: Vec<u16>,
    max_size: Option<u32>,
    input: Input<'a>,
}

/// What one step may give out.
const STEP: usize = 64 * 1024;
/// Outputs that are compared byte by byte.
const ENOUGH: usize = 8 << 20;

fn algorithm(coding: Coding) -> Algorithm {
    match coding {
        Coding::Gzip => Algorithm::Gzip,
        Coding::Brotli => Algorithm::Brotli,
        Coding::Zstd => Algorithm::Zstd,
    }
}

fn pieces<'a>(mut data: &'a [u8], cuts: &[u16]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for cut in cuts.iter().take(16) {
        let (piece, rest) = data.split_at(usize::from(*cut).min(data.len()));
        pieces.push(piece);
        data = rest;
    }
    pieces.push(data);
    pieces
}

/// Step by step, up to [`ENOUGH`]; `None` when it fails.
fn decode(decoder: &mut dyn Encode, pieces: &[&[u8]]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        let end = n + 1 == pieces.len();
        let mut input = *piece;
        loop {
            let (output, more) = decoder.encode_step(input, end).ok()?;
            assert!(output.len() <= STEP);
            assert!(!more || !output.is_empty(), "a step that leads to nothing");
            all.extend_from_slice(&output);
            if !more || all.len() > ENOUGH {
                break;
            }
            input = &[];
        }
        if all.len() > ENOUGH {
            break;
        }
    }
    Some(all)
}

/// By the libraries' own readers.
fn reference(coding: Coding, coded: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let read = match coding {
        Coding::Gzip => flate2::read::MultiGzDecoder::new(coded)
            .take(1 << 24)
            .read_to_end(&mut all),
        Coding::Brotli => brotli::Decompressor::new(coded, 4096)
            .take(1 << 24)
            .read_to_end(&mut all),
        Coding::Zstd => zstd::Decoder::new(coded)
            .expect("a decoder")
            .take(1 << 24)
            .read_to_end(&mut all),
    };
    read.expect("what decodes here decodes there");
    all
}

/// A response that is decompressed for its client; `None` when it fails.
fn through_ctx(case: &Case, coded: &[u8]) -> Option<usize> {
    let mut ctx = ResponseCompressionCtx::new(0, true, false);
    let mut limits = Decompression::default();
    limits.max_size = case.max_size.map(u64::from);
    ctx.set_decompression_limits(limits);
    ctx.request_filter(&RequestHeader::build("GET", b"/", None).expect("a header"));
    let mut response = ResponseHeader::build(200, None).expect("a header");
    response
        .insert_header("Content-Encoding", algorithm(case.coding).as_str())
        .expect("a value");
    ctx.response_header_filter(&mut response, false);
    assert!(!response.headers.contains_key("content-encoding"));
    let pieces = pieces(coded, &case.cuts);
    let mut size = 0;
    for (n, piece) in pieces.iter().enumerate() {
        let last = n + 1 == pieces.len();
        let mut task = HttpTask::Body(Some(Bytes::copy_from_slice(piece)), last);
        loop {
            ctx.response_filter_step(&mut task);
            let HttpTask::Body(output, end) = &task else {
                return None;
            };
            size += output.as_ref().map_or(0, Bytes::len);
            assert!(case.max_size.is_none_or(|max| size <= max as usize));
            assert_eq!(*end, last && !ctx.is_pending());
            if !ctx.is_pending() || size > ENOUGH {
                break;
            }
            task = HttpTask::Body(None, false);
        }
        if size > ENOUGH {
            break;
        }
    }
    Some(size)
}

fn hostile(case: &Case, coded: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = algorithm(case.coding)
        .decompressor(true)
        .expect("a decoder");
    let decoded = decode(&mut *decoder, &pieces(coded, &case.cuts));
    let passed = through_ctx(case, coded);
    match &decoded {
        Some(all) if all.len() <= ENOUGH => {
            // An origin that sends nothing at all meant an empty body.
            if !coded.is_empty() {
                assert!(*all == reference(case.coding, coded));
            }
            let fits = case.max_size.is_none_or(|max| all.len() <= max as usize);
            assert_eq!(passed.is_some(), fits);
            let mut at_once = algorithm(case.coding)
                .decompressor(true)
                .expect("a decoder");
            let output = at_once.encode(coded, true).expect("what decodes by steps");
            assert!(output == *all);
        }
        Some(_) => {}
        None => assert!(passed.is_none()),
    }
    decoded
}

fuzz_target!(|case: Case| {
    match &case.input {
        Input::Coded(coded) => {
            hostile(&case, coded);
        }
        Input::Body {
            level,
            piece,
            times,
        } => {
            let body = piece.repeat(usize::from(*times).min((1 << 20) / piece.len().max(1)));
            let level = 1 + u32::from(level % 9);
            let mut encoder = algorithm(case.coding)
                .compressor(level)
                .expect("an encoder");
            let mut coded = Vec::new();
            for piece in pieces(&body, &case.cuts) {
                coded.extend_from_slice(&encoder.encode(piece, false).expect("a piece"));
            }
            coded.extend_from_slice(&encoder.encode(&[], true).expect("the end"));
            assert!(hostile(&case, &coded).as_deref() == Some(&body[..]));
        }
    }
});
