//! A request head, scanned in pieces. The first byte chooses the limits and where the input is cut.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pingora_core::protocols::http::authority::{
    is_http_family_scheme, raw_target_authority, RawTargetAuthority,
};
use pingora_core::protocols::http::v1::client::http_req_header_to_wire;
use pingora_core::protocols::http::v1::proto::framing::Framing;
use pingora_core::protocols::http::v1::proto::head::{check_host, parse_request, Found, Limits, Scanner};
use pingora_core::protocols::http::v1::proto::Refusal;
use pingora_http::internal::is_valid_host;

fn scan(pieces: &[usize], input: &[u8], limits: &Limits) -> Result<Option<Found>, Refusal> {
    let mut scanner = Scanner::default();
    for end in pieces {
        let Some(found) = scanner.scan(&input[..*end], limits)? else {
            continue;
        };
        // In a head that comes whole, line ends are looked at when it is parsed.
        let head = &input[found.start..found.end];
        let bare = |lf: usize| head[lf] == b'\n' && (lf == 0 || head[lf - 1] != b'\r');
        if !limits.lenient_line_ends && (0..head.len()).any(bare) {
            let refusal = parse_request(&Bytes::copy_from_slice(head), limits).map(|_| ());
            assert_eq!(refusal, Err(Refusal::BareLineEnd));
            return Err(Refusal::BareLineEnd);
        }
        return Ok(Some(found));
    }
    Ok(None)
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, input)) = data.split_first() else {
        return;
    };
    let limits = Limits {
        lenient_line_ends: choice & 1 != 0,
        head: if choice & 2 != 0 { 64 } else { 1 << 20 },
        target: if choice & 4 != 0 { 8 } else { 1 << 15 },
    };
    let whole = scan(&[input.len()], input, &limits);
    let step = 1 + usize::from(choice >> 3);
    let cut: Vec<usize> = (0..input.len())
        .step_by(step)
        .chain([input.len()])
        .collect();
    assert_eq!(scan(&cut, input, &limits), whole);

    let Ok(Some(found)) = whole else {
        return;
    };
    let head = Bytes::copy_from_slice(&input[found.start..found.end]);
    let Ok((request, framing)) = parse_request(&head, &limits) else {
        return;
    };
    let count = |name: &str| request.headers.get_all(name).iter().count();
    match framing {
        Framing::Chunked => {
            assert_eq!(count("content-length"), 0);
            assert!(request.headers["transfer-encoding"]
                .as_bytes()
                .eq_ignore_ascii_case(b"chunked"));
        }
        Framing::Length(n) => {
            assert_eq!(count("transfer-encoding"), 0);
            match request.headers.get("content-length") {
                Some(length) => assert_eq!(length.to_str().unwrap().parse::<u64>().unwrap(), n),
                None => assert_eq!(n, 0),
            }
            assert!(count("content-length") <= 1);
        }
        other => panic!("a request framed as {other:?}"),
    }
    // Whoever looks at the target or at Host sees the same one.
    let named = raw_target_authority(request.raw_path());
    if let RawTargetAuthority::Absolute {
        scheme, authority, ..
    } = named
    {
        let is_meant = is_http_family_scheme(scheme) && is_valid_host(authority);
        if is_meant && request.method != "CONNECT" && check_host(&request).is_ok() {
            assert_eq!(count("host"), 1);
            assert_eq!(request.headers["host"].as_bytes(), authority);
        }
    }
    // What goes to an upstream is the same request to every reader who wants CR LF.
    let wire = http_req_header_to_wire(&request).expect("HTTP/1").freeze();
    let found = Scanner::default().scan(&wire, &Limits::default());
    assert_eq!(
        found,
        Ok(Some(Found {
            start: 0,
            end: wire.len()
        }))
    );
    let (again, same) = parse_request(&wire, &Limits::default()).expect("what we write we read");
    assert_eq!(same, framing);
    assert_eq!(again.method, request.method);
    assert_eq!(again.raw_path(), request.raw_path());
    assert_eq!(again.headers, request.headers);
});
