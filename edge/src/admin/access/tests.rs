//! Requests, and whether they are refused.

use pingora_http::RequestHeader;

use super::*;
use crate::config::section::Scalar;
use crate::config::values::Address;

const TOKEN: &str = "0123456789abcdef";

fn admin(token: Option<&str>) -> Admin {
    Admin {
        address: Address::parse("127.0.0.1:9900").unwrap(),
        token: token.map(|token| Secret(token.into())),
        allow_hosts: Vec::new(),
    }
}

/// Fields of a request.
type Fields<'a> = &'a [(&'static str, &'a str)];

fn request(method: &str, fields: Fields) -> RequestHeader {
    let mut head = RequestHeader::build(method, b"/api/reload", None).unwrap();
    if !fields.iter().any(|(name, _)| *name == "Host") {
        head.insert_header("Host", "127.0.0.1:9900").unwrap();
    }
    for (name, value) in fields {
        head.append_header(*name, *value).unwrap();
    }
    head
}

#[test]
fn a_host_that_is_not_ours_is_refused() {
    let hosts = [
        ("127.0.0.1:9900", true),
        ("localhost:9900", true),
        ("LOCALHOST", true),
        ("[::1]:9900", true),
        ("evil.example:9900", false),
        ("127.0.0.1.evil.example:9900", false),
        ("localhost@evil.example", false),
        ("", false),
        ("192.0.2.1", false),
    ];
    for (host, allowed) in hosts {
        for method in ["GET", "POST"] {
            let fields = [("Host", host), ("Content-Type", "application/json")];
            let judged = judge(&admin(None), &request(method, &fields));
            let expected = if allowed { Ok(()) } else { Err(Refusal::Host) };
            assert_eq!(judged, expected, "{method} {host}");
        }
    }
}

#[test]
fn a_change_is_taken_only_from_our_own_pages_and_from_programs() {
    const JSON: (&str, &str) = ("Content-Type", "application/json");
    let own = ("Origin", "http://127.0.0.1:9900");
    let cases: &[(Fields, Result<(), Refusal>)] = &[
        (&[], Err(Refusal::Form)),
        (
            &[("Content-Type", "application/x-www-form-urlencoded")],
            Err(Refusal::Form),
        ),
        (
            &[("Content-Type", "text/plain; application/json")],
            Err(Refusal::Form),
        ),
        (&[JSON], Ok(())),
        (
            &[("Content-Type", "Application/JSON; charset=utf-8")],
            Ok(()),
        ),
        (&[("X-Requested-With", "x")], Ok(())),
        (&[JSON, own], Ok(())),
        (&[JSON, own, ("Sec-Fetch-Site", "same-origin")], Ok(())),
        (&[own], Err(Refusal::Form)),
        (
            &[JSON, ("Origin", "http://evil.example")],
            Err(Refusal::CrossSite),
        ),
        (&[JSON, ("Origin", "null")], Err(Refusal::CrossSite)),
        (
            &[JSON, ("Origin", "http://127.0.0.1:9901")],
            Err(Refusal::CrossSite),
        ),
        (
            &[JSON, own, ("Origin", "http://evil.example")],
            Err(Refusal::CrossSite),
        ),
        (
            &[JSON, ("Sec-Fetch-Site", "cross-site")],
            Err(Refusal::CrossSite),
        ),
        (
            &[JSON, ("Sec-Fetch-Site", "same-site")],
            Err(Refusal::CrossSite),
        ),
        (&[JSON, ("Sec-Fetch-Site", "none")], Ok(())),
    ];
    for (fields, expected) in cases {
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let judged = judge(&admin(None), &request(method, fields));
            assert_eq!(judged, *expected, "{method} {fields:?}");
        }
    }
}

#[test]
fn a_token_is_asked_for_where_there_is_one() {
    let sessions = Sessions::default();
    let session = sessions.begin(&Secret(TOKEN.into())).unwrap();
    let bearer = format!("Bearer {TOKEN}");
    let cookie = format!("a=b; {COOKIE_NAME}={session}");
    let other = format!("{COOKIE_NAME}={TOKEN}");
    let longer = format!("{bearer}0");
    let cases: &[(Fields, bool)] = &[
        (&[], false),
        (&[("Authorization", &bearer)], true),
        (
            &[("Authorization", &bearer.replace("Bearer", "bearer"))],
            true,
        ),
        (&[("Authorization", TOKEN)], false),
        (&[("Authorization", "Bearer 0123456789abcdeg")], false),
        (&[("Authorization", &bearer[..bearer.len() - 1])], false),
        (&[("Authorization", &longer)], false),
        (&[("Authorization", "Bearer ")], false),
        (&[("Authorization", "Bear")], false),
        (&[("Cookie", &cookie)], true),
        (&[("Cookie", &other)], false),
        (&[("Cookie", &cookie), ("Authorization", "Bearer x")], false),
    ];
    for (fields, expected) in cases {
        let head = request("GET", fields);
        let judged = authenticate(&admin(Some(TOKEN)), &head, &sessions);
        assert_eq!(judged.is_ok(), *expected, "{fields:?}");
        assert_eq!(authenticate(&admin(None), &head, &sessions), Ok(()));
    }
    let head = request("GET", &[("Cookie", &cookie)]);
    let changed = authenticate(&admin(Some("fedcba9876543210")), &head, &sessions);
    assert_eq!(changed, Err(Refusal::Unknown));
}
