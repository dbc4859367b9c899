//! Whom a request is for: target and Host, divided by the first line feed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pingora_core::protocols::http::authority::{
    raw_target_authority, validate_request_authority, RawTargetAuthority,
};
use pingora_http::RequestHeader;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |b| *b == b'\n');
    let (method, target, host) = (parts.next(), parts.next(), parts.next());
    let (Some(method), Some(target), Some(host)) = (method, target, host) else {
        return;
    };
    let named = raw_target_authority(target);
    if let RawTargetAuthority::Absolute {
        scheme,
        authority,
        path_and_query,
    } = &named
    {
        // The parts are the target, and nothing that ends an authority is inside of one.
        assert_eq!(
            [scheme, &b"://"[..], authority, path_and_query].concat(),
            target
        );
        assert!(!authority.iter().any(|b| b"/?#\\ ".contains(b)));
        assert_eq!(named.authority(), Some(*authority));
    }
    let Ok(mut request) = RequestHeader::build(method, target, None) else {
        return;
    };
    if request.append_header("Host", host).is_err() {
        return;
    }
    if validate_request_authority(&request).is_err() {
        return;
    }
    let target = raw_target_authority(request.raw_path());
    if request.method != "CONNECT" {
        assert_ne!(target, RawTargetAuthority::AmbiguousAuthority);
        if let Some(authority) = target.authority() {
            // Host and target name the same host.
            let name = |a: &[u8]| {
                let port = a
                    .iter()
                    .rposition(|b| *b == b':')
                    .filter(|at| !a[*at..].contains(&b']'));
                a[..port.unwrap_or(a.len())].to_ascii_lowercase()
            };
            assert_eq!(name(authority), name(request.headers["host"].as_bytes()));
        }
    }
    // Twice the same Host is one too many.
    request.append_header("Host", host).expect("a second field");
    assert!(validate_request_authority(&request).is_err());
});
