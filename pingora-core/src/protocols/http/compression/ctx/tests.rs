use super::*;
use http::Version;
use proptest::prelude::*;
use std::io::Read;

const TEXT: &[u8] = b"text that is long enough for it to be worth some compression";

const HASH: [u8; 32] = [7; 32];
const HASH_FIELD: &str = ":BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=:";

fn request(fields: &[(&'static str, &str)]) -> RequestHeader {
    let mut req = RequestHeader::build("GET", b"/", None).unwrap();
    for (name, value) in fields {
        req.append_header(*name, *value).unwrap();
    }
    req
}

fn accepting(codings: &str) -> RequestHeader {
    request(&[("accept-encoding", codings)])
}

fn response(fields: &[(&'static str, &str)]) -> ResponseHeader {
    let mut resp = ResponseHeader::build(200, None).unwrap();
    for (name, value) in fields {
        resp.append_header(*name, *value).unwrap();
    }
    resp
}

fn plain() -> ResponseHeader {
    response(&[
        ("content-type", "text/plain"),
        ("content-length", "60"),
        ("accept-ranges", "bytes"),
        ("etag", r#""a""#),
    ])
}

fn coded(coding: &str) -> ResponseHeader {
    let mut resp = plain();
    resp.insert_header("content-encoding", coding).unwrap();
    resp
}

fn coding_of(resp: &ResponseHeader) -> Option<&str> {
    let value = resp.headers.get("content-encoding")?;
    Some(value.to_str().unwrap())
}

fn names(resp: &ResponseHeader) -> Vec<&str> {
    let mut names: Vec<_> = resp.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    names
}

/// Runs a response through, chunk by chunk.
fn run(ctx: &mut ResponseCompressionCtx, chunks: &[&[u8]]) -> Vec<u8> {
    let mut output = Vec::new();
    for (at, chunk) in chunks.iter().enumerate() {
        let chunk = Bytes::copy_from_slice(chunk);
        let end = at + 1 == chunks.len();
        output.extend(ctx.response_body_filter(Some(&chunk), end).unwrap_or(chunk));
    }
    output
}

fn gunzip(wire: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    flate2::read::GzDecoder::new(wire)
        .read_to_end(&mut output)
        .unwrap();
    output
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = Algorithm::Gzip.compressor(5).unwrap();
    encoder.encode(body, true).unwrap().to_vec()
}

#[test]
fn is_small() {
    assert!(size_of::<ResponseCompressionCtx>() <= 80);
}

#[test]
fn compresses() {
    let mut ctx = ResponseCompressionCtx::new(5, false, false);
    assert!(ctx.is_enabled());
    ctx.request_filter(&accepting("gzip"));
    assert!(ctx.is_header_phase());
    let mut resp = plain();
    ctx.response_header_filter(&mut resp, false);
    assert!(!ctx.is_header_phase());
    assert!(ctx.is_enabled());
    assert_eq!(
        names(&resp),
        [
            "content-encoding",
            "content-type",
            "etag",
            "transfer-encoding",
            "vary"
        ]
    );
    assert_eq!(coding_of(&resp), Some("gzip"));
    assert_eq!(resp.headers["transfer-encoding"], "chunked");
    assert_eq!(resp.headers["vary"], "accept-encoding");
    assert_eq!(resp.headers["etag"], r#"W/"a""#);

    let wire = run(&mut ctx, &[&TEXT[..20], b"", &TEXT[20..]]);
    assert_eq!(gunzip(&wire), TEXT);
    let (name, total_in, total_out, _) = ctx.get_info().unwrap();
    assert_eq!(
        (name, total_in, total_out),
        ("gzip", TEXT.len(), wire.len())
    );
}

#[test]
fn decompresses() {
    let mut ctx = ResponseCompressionCtx::new(0, true, true);
    ctx.request_filter(&accepting("br"));
    let mut resp = coded("gzip");
    assert!(ctx.will_decompress(&resp));
    ctx.response_header_filter(&mut resp, false);
    assert!(!ctx.will_decompress(&coded("gzip")));
    assert_eq!(
        names(&resp),
        ["content-type", "etag", "transfer-encoding", "vary"]
    );
    assert_eq!(resp.headers["etag"], r#""a""#);

    let wire = gzip(TEXT);
    let (first, second) = wire.split_at(15);
    assert_eq!(run(&mut ctx, &[first, second]), TEXT);
    assert_eq!(ctx.get_info().unwrap().0, "de-gzip");
}

/// What becomes of the coding of a response, by the request and the settings.
#[test]
fn codings() {
    let all = |level| move || ResponseCompressionCtx::new(level, true, false);
    let only_brotli = || {
        let mut ctx = ResponseCompressionCtx::new(5, true, false);
        ctx.adjust_algorithm_level(Algorithm::Gzip, 0);
        ctx.adjust_algorithm_level(Algorithm::Zstd, 0);
        ctx.adjust_algorithm_decompression(Algorithm::Gzip, false);
        ctx
    };
    #[allow(clippy::type_complexity)]
    let cases: &[(
        &dyn Fn() -> ResponseCompressionCtx,
        &str,
        Option<&str>,
        Option<&str>,
    )] = &[
        // settings, Accept-Encoding, Content-Encoding before, after
        (&all(5), "gzip", None, Some("gzip")),
        (&all(5), "br", None, Some("br")),
        (&all(5), "zstd", None, Some("zstd")),
        (&all(5), "gzip, br", None, Some("gzip")),
        (&all(5), "gzip;q=0.9, br", None, Some("br")),
        (&all(5), "*", None, Some("gzip")),
        (&all(5), "deflate", None, None),
        (&all(5), "", None, None),
        (&all(5), "gzip;q=0", None, None),
        (&all(5), "identity, gzip;q=0.1", None, None),
        (&all(5), "dcz, dcb", None, None),
        (&all(0), "gzip", None, None),
        (&only_brotli, "gzip, zstd, br", None, Some("br")),
        (&only_brotli, "gzip", None, None),
        (&only_brotli, "*", None, Some("br")),
        // Compressed already.
        (&all(5), "gzip", Some("gzip"), Some("gzip")),
        (&all(5), "GZIP", Some("gzip"), Some("gzip")),
        (&all(5), "gzip", Some("x-gzip"), Some("x-gzip")),
        (&all(5), "*", Some("br"), Some("br")),
        (&all(0), "br", Some("gzip"), None),
        (&all(0), "", Some("gzip"), None),
        (&all(0), "", Some("br"), None),
        (&all(0), "", Some("zstd"), None),
        (&all(0), "gzip;q=0, br", Some("gzip"), None),
        (&all(0), "br, identity;q=0", Some("gzip"), Some("gzip")),
        (&all(0), "br", Some("deflate"), Some("deflate")),
        (&all(0), "br", Some("gzip, br"), Some("gzip, br")),
        (&all(0), "br", Some("dcz"), Some("dcz")),
        (&only_brotli, "", Some("gzip"), Some("gzip")),
        (&only_brotli, "", Some("br"), None),
    ];
    for (settings, accept, before, after) in cases {
        let mut ctx = settings();
        ctx.request_filter(&accepting(accept));
        let mut resp = before.map_or_else(plain, coded);
        assert_eq!(
            ctx.will_decompress(&resp),
            before.is_some() && after.is_none(),
            "{accept:?} {before:?}"
        );
        ctx.response_header_filter(&mut resp, false);
        assert_eq!(coding_of(&resp), *after, "{accept:?} {before:?}");
        let changed = before != after;
        assert_eq!(resp.headers.contains_key("content-length"), !changed);
        assert_eq!(ctx.is_enabled(), changed);
    }
}

#[test]
fn responses_without_a_whole_body_pass() {
    let request_of = |method| {
        let mut req = accepting("gzip");
        req.set_method(method);
        req
    };
    for (method, status, end, field) in [
        (Method::HEAD, 200, false, None),
        (Method::GET, 200, true, None),
        (Method::GET, 204, false, None),
        (Method::GET, 206, false, None),
        (Method::GET, 304, false, None),
        (Method::GET, 101, false, None),
        (
            Method::GET,
            200,
            false,
            Some(("content-range", "bytes 0-1/2")),
        ),
        (
            Method::GET,
            200,
            false,
            Some(("cache-control", "no-transform")),
        ),
        (Method::GET, 200, false, Some(("content-length", "19"))),
        (Method::GET, 200, false, Some(("content-type", "image/png"))),
    ] {
        let mut ctx = ResponseCompressionCtx::new(5, true, false);
        ctx.request_filter(&request_of(method.clone()));
        let mut resp = plain();
        resp.set_status(status).unwrap();
        if let Some((name, value)) = field {
            resp.insert_header(name, value).unwrap();
        }
        ctx.response_header_filter(&mut resp, end);
        assert_eq!(coding_of(&resp), None, "{method} {status} {end} {field:?}");
        assert!(resp.headers.contains_key("content-length"));
        assert_eq!(run(&mut ctx, &[TEXT]), TEXT);
        assert_eq!(ctx.get_info(), None);
    }
}

#[test]
fn informational_headers_come_before() {
    let mut ctx = ResponseCompressionCtx::new(5, false, false);
    ctx.request_filter(&accepting("gzip"));
    let mut early = ResponseHeader::build(103, None).unwrap();
    ctx.response_header_filter(&mut early, false);
    assert!(ctx.is_header_phase());
    let mut resp = plain();
    ctx.response_header_filter(&mut resp, false);
    assert_eq!(coding_of(&resp), Some("gzip"));
}

#[test]
fn vary_says_what_the_response_depends_on() {
    let varies = |ctx: &mut ResponseCompressionCtx, mut resp: ResponseHeader| {
        ctx.request_filter(&accepting(""));
        ctx.response_header_filter(&mut resp, false);
        let values = resp.headers.get_all("vary").into_iter();
        let values: Vec<_> = values.map(|value| value.to_str().unwrap()).collect();
        values.join(", ")
    };
    let compress = || ResponseCompressionCtx::new(5, false, false);
    let decompress = || ResponseCompressionCtx::new(0, true, false);
    assert_eq!(varies(&mut compress(), plain()), "accept-encoding");
    assert_eq!(varies(&mut compress(), coded("gzip")), "");
    assert_eq!(varies(&mut compress(), response(&[])), "");
    assert_eq!(varies(&mut decompress(), coded("gzip")), "accept-encoding");
    assert_eq!(varies(&mut decompress(), plain()), "");
    assert_eq!(
        varies(&mut ResponseCompressionCtx::new(0, false, false), plain()),
        ""
    );
    let mut with_dictionary = compress();
    with_dictionary.set_dictionary(Bytes::from_static(TEXT), HASH);
    assert_eq!(
        varies(&mut with_dictionary, plain()),
        "accept-encoding, available-dictionary"
    );
}

/// RFC 9110 section 15.4.5: it has the fields that the 200 had. RFC 9111 section 4.3.4: a cache that has a body with a weak tag
/// takes no 304 with a strong one for it.
#[test]
fn a_304_names_the_body_that_the_client_has() {
    let confirmed = |mut ctx: ResponseCompressionCtx, asked: &str, field| {
        ctx.request_filter(&request(&[
            ("accept-encoding", "gzip"),
            ("if-none-match", asked),
        ]));
        let mut resp = response(&[("etag", r#""a""#)]);
        resp.set_status(304).unwrap();
        if let Some((name, value)) = field {
            resp.insert_header(name, value).unwrap();
        }
        ctx.response_header_filter(&mut resp, true);
        let varies = resp.headers.contains_key("vary");
        let tag = resp.headers["etag"].to_str().unwrap().to_owned();
        assert_eq!(varies, tag.starts_with('W'));
        tag
    };
    let ctx = |preserve| ResponseCompressionCtx::new(5, false, preserve);
    for (asked, tag) in [
        (r#"W/"a""#, r#"W/"a""#),
        (r#""b",W/"a""#, r#"W/"a""#),
        (r#"W/"b", "a""#, r#""a""#),
        (r#""a""#, r#""a""#),
        ("*", r#""a""#),
    ] {
        assert_eq!(confirmed(ctx(false), asked, None), tag, "{asked}");
        // Without compression, and where it leaves the tag, that is the origin's.
        let off = ResponseCompressionCtx::new(0, false, false);
        assert_eq!(confirmed(off, asked, None), r#""a""#, "{asked}");
        assert_eq!(confirmed(ctx(true), asked, None), r#""a""#, "{asked}");
    }
    for field in [
        ("cache-control", "no-transform"),
        ("content-encoding", "gzip"),
    ] {
        let tag = confirmed(ctx(false), r#"W/"a""#, Some(field));
        assert_eq!(tag, r#""a""#, "{field:?}");
    }
}

#[test]
fn etags_are_preserved_by_algorithm() {
    for (preserve, accept, expected) in [
        (Algorithm::Gzip, "gzip", r#""a""#),
        (Algorithm::Gzip, "br", r#"W/"a""#),
        (Algorithm::Brotli, "br", r#""a""#),
    ] {
        let mut ctx = ResponseCompressionCtx::new(1, false, false);
        ctx.adjust_algorithm_preserve_etag(preserve, true);
        ctx.request_filter(&accepting(accept));
        let mut resp = plain();
        ctx.response_header_filter(&mut resp, false);
        assert_eq!(resp.headers["etag"], expected);
    }
}

#[test]
fn settings_can_be_changed_until_the_response() {
    let mut ctx = ResponseCompressionCtx::new(0, false, false);
    assert!(!ctx.is_enabled());
    ctx.adjust_algorithm_level(Algorithm::Gzip, 3);
    assert!(ctx.is_enabled());
    ctx.adjust_level(0);
    assert!(!ctx.is_enabled());
    ctx.adjust_decompression(true);
    assert!(ctx.is_enabled());
    ctx.adjust_algorithm_decompression(Algorithm::Gzip, false);
    assert!(ctx.is_enabled());
    ctx.adjust_decompression(false);
    assert!(!ctx.is_enabled());

    ctx.adjust_level(1);
    ctx.adjust_preserve_etag(true);
    ctx.request_filter(&accepting("gzip"));
    ctx.response_header_filter(&mut plain(), false);
    ctx.adjust_level(0);
    ctx.adjust_decompression(false);
    ctx.set_dictionary(Bytes::new(), HASH);
    assert!(!ctx.has_dictionary());
    assert!(ctx.is_enabled());
    assert_eq!(gunzip(&run(&mut ctx, &[TEXT])), TEXT);
}

#[test]
fn nothing_happens_when_off() {
    let mut ctx = ResponseCompressionCtx::new(0, false, false);
    ctx.request_filter(&request(&[
        ("accept-encoding", "gzip"),
        ("available-dictionary", HASH_FIELD),
    ]));
    let mut resp = plain();
    ctx.response_header_filter(&mut resp, false);
    assert_eq!(names(&resp), names(&plain()));
    assert_eq!(
        ctx.response_body_filter(Some(&Bytes::from_static(TEXT)), true),
        None
    );
    let mut task = HttpTask::Body(Some(Bytes::from_static(TEXT)), true);
    ctx.response_filter(&mut task);
    assert!(matches!(task, HttpTask::Body(Some(body), true) if body == TEXT));
}

#[test]
fn a_shared_dictionary_is_used() {
    for (accept, available, level, expected) in [
        ("gzip, dcz", HASH_FIELD, 3, Some("dcz")),
        ("gzip, dcz;q=0.1", HASH_FIELD, 3, Some("dcz")),
        ("gzip, dcz;q=0", HASH_FIELD, 3, Some("gzip")),
        ("gzip", HASH_FIELD, 3, Some("gzip")),
        ("*", HASH_FIELD, 3, Some("gzip")),
        ("dcz", HASH_FIELD, 0, None),
        ("dcz", ":AAAA:", 3, None),
        (
            "dcz",
            "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
            3,
            None,
        ),
        (
            "dcz",
            ":CAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=:",
            3,
            None,
        ),
        ("dcz", "", 3, None),
    ] {
        let mut ctx = ResponseCompressionCtx::new(3, false, false);
        ctx.adjust_algorithm_level(Algorithm::Dcz, level);
        ctx.request_filter(&request(&[
            ("accept-encoding", accept),
            ("available-dictionary", available),
        ]));
        // Which dictionary there is may be known only after the request header.
        ctx.set_dictionary(Bytes::from_static(TEXT), HASH);
        assert!(ctx.has_dictionary());
        let mut resp = plain();
        ctx.response_header_filter(&mut resp, false);
        assert_eq!(coding_of(&resp), expected, "{accept} {available} {level}");
        if expected == Some("dcz") {
            let wire = run(&mut ctx, &[TEXT]);
            let mut output = Vec::new();
            zstd::Decoder::with_dictionary(&wire[super::super::DCZ_HEADER_SIZE..], TEXT)
                .unwrap()
                .read_to_end(&mut output)
                .unwrap();
            assert_eq!(output, TEXT);
        }
    }
}

#[test]
fn a_dictionary_can_be_taken_back() {
    let mut ctx = ResponseCompressionCtx::new(3, false, false);
    ctx.set_dictionary(Bytes::from_static(TEXT), HASH);
    ctx.clear_dictionary();
    assert!(!ctx.has_dictionary());
    ctx.request_filter(&request(&[
        ("accept-encoding", "dcz"),
        ("available-dictionary", HASH_FIELD),
    ]));
    let mut resp = plain();
    ctx.response_header_filter(&mut resp, false);
    assert_eq!(coding_of(&resp), None);
}

/// The tasks of a response, and what becomes of each.
#[test]
fn tasks() {
    let start = |accept: &str, resp: ResponseHeader| {
        let mut ctx = ResponseCompressionCtx::new(5, true, false);
        ctx.request_filter(&accepting(accept));
        let mut header = HttpTask::Header(Box::new(resp), false);
        ctx.response_filter(&mut header);
        assert!(matches!(header, HttpTask::Header(_, false)));
        ctx
    };
    let body = |ctx: &mut ResponseCompressionCtx, data: &[u8], end| {
        let mut task = HttpTask::Body(Some(Bytes::copy_from_slice(data)), end);
        ctx.response_filter(&mut task);
        task
    };

    // The end may be the last chunk, or Done, or trailers, which are lost then.
    let ends: [fn() -> HttpTask; 3] = [
        || HttpTask::Body(None, true),
        || HttpTask::Done,
        || HttpTask::Trailer(Some(Box::default())),
    ];
    for end in ends {
        let mut ctx = start("gzip", plain());
        let HttpTask::Body(Some(first), false) = body(&mut ctx, TEXT, false) else {
            panic!("the first chunk");
        };
        let mut task = end();
        ctx.response_filter(&mut task);
        let HttpTask::Body(Some(last), true) = task else {
            panic!("the last chunk in place of {}", end().type_str());
        };
        assert_eq!(gunzip(&[first, last].concat()), TEXT);
    }

    // After the last chunk there is nothing left to be sent.
    let mut ctx = start("gzip", plain());
    body(&mut ctx, TEXT, true);
    let mut task = HttpTask::Done;
    ctx.response_filter(&mut task);
    assert!(matches!(task, HttpTask::Done));

    // Nothing to be sent yet.
    let mut ctx = start("", coded("gzip"));
    assert!(matches!(
        body(&mut ctx, &gzip(TEXT)[..4], false),
        HttpTask::Body(None, false)
    ));

    // A broken body ends the response, also after that.
    let mut ctx = start("", coded("gzip"));
    for _ in 0..2 {
        assert!(matches!(
            body(&mut ctx, b"this is not gzip", false),
            HttpTask::Failed(_)
        ));
    }
    let plain_call = ctx.response_body_filter(Some(&Bytes::from_static(TEXT)), true);
    assert_eq!(plain_call, Some(Bytes::new()));

    // A body that is cut short is no whole one.
    let mut ctx = start("", coded("gzip"));
    let wire = gzip(TEXT);
    assert!(matches!(
        body(&mut ctx, &wire[..wire.len() - 1], true),
        HttpTask::Failed(_)
    ));

    // What is no part of the body passes.
    let mut ctx = start("gzip", plain());
    let mut task = HttpTask::UpgradedBody(Some(Bytes::from_static(TEXT)), false);
    ctx.response_filter(&mut task);
    assert!(matches!(task, HttpTask::UpgradedBody(Some(body), false) if body == TEXT));
}

#[test]
fn only_http11_becomes_chunked() {
    for (version, expected) in [
        (Version::HTTP_10, false),
        (Version::HTTP_11, true),
        (Version::HTTP_2, false),
    ] {
        let mut ctx = ResponseCompressionCtx::new(5, false, false);
        ctx.request_filter(&accepting("gzip"));
        let mut resp = plain();
        resp.set_version(version);
        ctx.response_header_filter(&mut resp, false);
        assert_eq!(coding_of(&resp), Some("gzip"));
        assert_eq!(resp.headers.contains_key("transfer-encoding"), expected);
    }
}

proptest! {
    #[test]
    fn any_exchange_is_survived(
        accept in "[ -~]{0,60}",
        available in "[ -~]{0,60}",
        content_type in "(text/plain|[ -~]{0,20})",
        content_encoding in prop::option::of("(gzip|br|zstd|[ -~]{0,20})"),
        length in "[0-9a-z]{0,20}",
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..5),
    ) {
        let mut ctx = ResponseCompressionCtx::new(1, true, false);
        ctx.set_dictionary(Bytes::from_static(TEXT), HASH);
        ctx.request_filter(&request(&[
            ("accept-encoding", &accept),
            ("available-dictionary", &available),
        ]));
        let mut resp = response(&[("content-type", &content_type), ("content-length", &length)]);
        if let Some(coding) = &content_encoding {
            resp.insert_header("content-encoding", &coding[..]).unwrap();
        }
        ctx.response_header_filter(&mut resp, false);
        for chunk in chunks {
            let _ = ctx.response_body_filter(Some(&chunk.into()), false);
        }
        let _ = ctx.response_body_filter(None, true);
    }
}

/// The second of two responses is to a further try of the request.
#[test]
fn another_try_begins_anew() {
    for first in [
        plain(),
        coded("br"),
        response(&[("content-type", "image/png")]),
    ] {
        let mut ctx = ResponseCompressionCtx::new(5, false, false);
        ctx.request_filter(&accepting("gzip"));
        let mut head = first.clone();
        ctx.response_header_filter(&mut head, false);
        assert!(!ctx.is_header_phase());
        run(&mut ctx, &[b"abandoned "]);
        ctx.request_filter(&accepting("gzip"));
        assert!(ctx.is_header_phase());
        let mut head = plain();
        ctx.response_header_filter(&mut head, false);
        assert_eq!(coding_of(&head), Some("gzip"));
        assert_eq!(gunzip(&run(&mut ctx, &[TEXT])), TEXT);
    }
}
