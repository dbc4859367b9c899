//! The policy as tables: what is asked, what is answered, and what becomes of it.

#![allow(clippy::unwrap_used)]

mod selection;

use super::*;
use pingora_cache::ForcedFreshness::{ForceExpired, ForceFresh};
use std::time::UNIX_EPOCH;

/// A second to count from.
const NOON: &str = "Mon, 02 Jan 2023 12:00:00 GMT";

fn noon() -> SystemTime {
    httpdate::parse_http_date(NOON).unwrap()
}

fn at(seconds_after_noon: i64) -> String {
    let seconds = noon().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 + seconds_after_noon;
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds as u64))
}

/// A request from its lines: the first one is `METHOD target`.
fn request(lines: &[&str]) -> RequestHeader {
    let (method, target) = lines[0].split_once(' ').unwrap();
    let mut request = RequestHeader::build(method, target.as_bytes(), None).unwrap();
    request.insert_header("Host", "a.test").unwrap();
    for line in &lines[1..] {
        let (name, value) = line.split_once(": ").unwrap();
        match name {
            "Host" => request.insert_header("Host", value).unwrap(),
            _ => drop(request.append_header(name.to_owned(), value).unwrap()),
        }
    }
    request
}

fn get(fields: &[&str]) -> RequestHeader {
    request(&[&["GET /"], fields].concat())
}

fn response(status: u16, fields: &[&str]) -> ResponseHeader {
    let mut response = ResponseHeader::build(status, None).unwrap();
    for line in fields {
        let (name, value) = line.split_once(": ").unwrap();
        response.append_header(name.to_owned(), value).unwrap();
    }
    response
}

/// Seconds of freshness that are left at noon, less than 0 for a stale response; `None` when it is not stored.
fn left(policy: &Policy, request: &RequestHeader, response: &ResponseHeader) -> Option<i64> {
    match policy.response(request, response, noon()) {
        RespCacheable::Uncacheable(_) => None,
        RespCacheable::Cacheable(meta) => Some(match meta.fresh_until().duration_since(noon()) {
            Ok(left) => left.as_secs() as i64,
            Err(e) => -(e.duration().as_secs() as i64),
        }),
    }
}

#[track_caller]
fn assert_left(fields: &[&str], expected: Option<i64>) {
    let policy = Policy::default();
    let left = left(&policy, &get(&[]), &response(200, fields));
    assert_eq!(left, expected, "{fields:?}");
}

#[test]
fn freshness_is_what_the_response_says() {
    for (fields, expected) in [
        (&["Cache-Control: max-age=60"][..], Some(60)),
        (&["Cache-Control: MAX-AGE=60"], Some(60)),
        (&["Cache-Control: max-age=\"60\""], Some(60)),
        (&["Cache-Control: max-age=0060"], Some(60)),
        (&["Cache-Control: max-age=60, s-maxage=10"], Some(10)),
        (
            &["Cache-Control: max-age=1", "Cache-Control: s-maxage=9"],
            Some(9),
        ),
        (&["Cache-Control: x=\"max-age=60\", max-age=1"], Some(1)),
        (&["Cache-Control: max-age=60, max-age=60"], Some(60)),
        // Which one counts is anybody's guess.
        (&["Cache-Control: max-age=1, Max-Age=60"], Some(-1)),
        (
            &["Cache-Control: max-age=60", "Cache-Control: max-age=1"],
            Some(-1),
        ),
        (
            &["Cache-Control: s-maxage=9, max-age=1, max-age=2"],
            Some(9),
        ),
        (&["Cache-Control: x=\"é\", no-cache, max-age=60"], Some(-1)),
        (&["Cache-Control: x=\"é\", private, max-age=60"], None),
        (&["Cache-Control: x=\"é\", no-store, max-age=60"], None),
        (&["Cache-Control: x=\"é\", max-age=60"], Some(60)),
        (
            &["Cache-Control: max-age=99999999999"],
            Some(i64::from(i32::MAX)),
        ),
        // What is no number makes it stale.
        (&["Cache-Control: max-age=-60"], Some(-1)),
        (&["Cache-Control: max-age='60'"], Some(-1)),
        (&["Cache-Control: s-maxage=x, max-age=60"], Some(-1)),
        (&["Cache-Control: max-age=0"], Some(-1)),
        (&["Cache-Control: no-cache, max-age=60"], Some(-1)),
        (
            &["Cache-Control: max-age=60, no-cache, no-cache=\"a\""],
            Some(-1),
        ),
        (&["Cache-Control: max-age=60, no-cache=\"a\""], Some(60)),
        // Nothing says how long it is good, nor how to ask.
        (&[], None),
        (&["Cache-Control: public"], None),
        (&["ETag: \"1\""], Some(-1)),
    ] {
        assert_left(fields, expected);
    }
}

#[test]
fn expires_counts_from_date_and_below_cache_control() {
    let (later, sooner) = (
        format!("Expires: {}", at(60)),
        format!("Expires: {}", at(-60)),
    );
    let date = format!("Date: {NOON}");
    let early = format!("Date: {}", at(-30));
    for (fields, expected) in [
        (&[later.as_str(), &date][..], Some(60)),
        (&[&later], Some(60)),
        (&[&sooner, &date], Some(-1)),
        // Half of the lifetime is over already.
        (&[&later, &early], Some(60)),
        (&["Expires: 0", &date], Some(-1)),
        (&[&later, &later, &date], Some(-1)),
        (&[&later, "Cache-Control: max-age=5"], Some(5)),
        (&[&sooner, "Cache-Control: max-age=5"], Some(5)),
        (&[&later, "Cache-Control: max-age=x"], Some(-1)),
    ] {
        assert_left(fields, expected);
    }
}

#[test]
fn the_age_that_a_response_comes_with_is_taken_off() {
    let early = format!("Date: {}", at(-40));
    for (age, expected) in [
        (&["Age: 10"][..], 50),
        (&["Age: 100"], -40),
        (&["Age: 0"], 60),
        (&["Age: 10,100"], 50),
        (&[early.as_str()], 20),
        (&[&early, "Age: 50"], 10),
        // Nobody knows how old these are.
        (&["Age: x"], 60 - i64::from(u32::MAX)),
        (&["Age: -1"], 60 - i64::from(u32::MAX)),
        (&["Age: +1"], 60 - i64::from(u32::MAX)),
        (&["Age: 1.5"], 60 - i64::from(u32::MAX)),
        (&["Age: 1;x=1"], 60 - i64::from(u32::MAX)),
        (&["Age: 1", "Age: 1"], 60 - i64::from(u32::MAX)),
        (&["Age: 1, 1"], 60 - i64::from(u32::MAX)),
    ] {
        assert_left(
            &[&["Cache-Control: max-age=60"], age].concat(),
            Some(expected),
        );
    }
}

#[test]
fn without_a_word_a_tenth_of_the_time_since_the_last_change_is_fresh() {
    let modified = format!("Last-Modified: {}", at(-1000));
    let fields = [modified.as_str(), "Date: Mon, 02 Jan 2023 12:00:00 GMT"];
    for (status, expected) in [
        (200, Some(100)),
        (203, Some(100)),
        (404, Some(100)),
        (501, Some(100)),
        (201, None),
        (302, None),
        (403, None),
        (502, None),
        (599, None),
    ] {
        let left = left(&Policy::default(), &get(&[]), &response(status, &fields));
        assert_eq!(left, expected, "{status}");
    }
    let public = [&fields[..], &["Cache-Control: public"]].concat();
    let response = |fields| response(599, fields);
    assert_eq!(
        left(&Policy::default(), &get(&[]), &response(&public)),
        Some(100)
    );

    let off = Policy {
        heuristic_percent: 0,
        ..Policy::default()
    };
    assert_eq!(left(&off, &get(&[]), &response(&public)), Some(-1));
    let old = format!("Last-Modified: {}", at(-100_000_000));
    assert_left(&[&old], Some(24 * 60 * 60));
}

#[test]
fn what_must_not_be_stored_is_not() {
    const FRESH: &str = "Cache-Control: max-age=60";
    for (status, asked, fields, stored) in [
        (200, &[][..], &[FRESH][..], true),
        (200, &[], &["Cache-Control: max-age=60, no-store"], false),
        (200, &[], &["Cache-Control: max-age=60, private"], false),
        (
            200,
            &[],
            &["Cache-Control: max-age=60, private, private=\"x\""],
            false,
        ),
        (
            200,
            &[],
            &["Cache-Control: max-age=60, private=\"x\""],
            true,
        ),
        (200, &[], &[FRESH, "Vary: *"], false),
        (200, &[], &[FRESH, "Vary: a, *"], false),
        (200, &[], &[FRESH, "Vary: a", "Vary: ,*"], false),
        (200, &[], &[FRESH, "Vary: a b"], false),
        (200, &[], &[FRESH, "Vary: a"], true),
        (200, &[], &[FRESH, "Set-Cookie: a=b"], false),
        (200, &["Cookie: a=b"], &[FRESH], true),
        (200, &["Authorization: x"], &[FRESH], false),
        (
            200,
            &["Authorization: x"],
            &["Cache-Control: public, max-age=60"],
            true,
        ),
        (
            200,
            &["Authorization: x"],
            &["Cache-Control: s-maxage=60"],
            true,
        ),
        (
            200,
            &["Authorization: x"],
            &["Cache-Control: must-revalidate, max-age=60"],
            true,
        ),
        (206, &[], &[FRESH], false),
        (304, &[], &[FRESH], false),
        (101, &[], &[FRESH], false),
        (600, &[], &[FRESH], false),
        (500, &[], &[FRESH], true),
        (599, &[], &[FRESH], true),
        (
            599,
            &[],
            &["Cache-Control: max-age=60, must-understand"],
            false,
        ),
        (
            200,
            &[],
            &["Cache-Control: max-age=60, must-understand, no-store"],
            true,
        ),
    ] {
        let left = left(&Policy::default(), &get(asked), &response(status, fields));
        assert_eq!(left.is_some(), stored, "{status} {asked:?} {fields:?}");
    }
    let generous = Policy {
        store_set_cookie: true,
        ..Policy::default()
    };
    let cookie = response(200, &[FRESH, "Set-Cookie: a=b"]);
    assert_eq!(left(&generous, &get(&[]), &cookie), Some(60));
}

#[test]
fn fields_for_one_client_or_one_connection_are_not_stored() {
    let response = response(
        200,
        &[
            "Cache-Control: max-age=60, private=\"X-User\", no-cache=\"X-Once\"",
            "X-User: u",
            "X-Once: o",
            "X-All: a",
            "Proxy-Authenticate: Basic",
            "Proxy-Connection: close",
        ],
    );
    let meta = Policy::default()
        .response(&get(&[]), &response, noon())
        .unwrap_meta();
    let mut names: Vec<_> = meta.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "x-all"]);
}

#[test]
fn surrogate_control_takes_the_place_of_cache_control() {
    let policy = Policy {
        surrogate: Some("me"),
        ..Policy::default()
    };
    let expires = format!("Expires: {}", at(60));
    for (fields, expected) in [
        (&["Surrogate-Control: max-age=9"][..], Some(9)),
        (
            &["Surrogate-Control: max-age=9;me", "Cache-Control: no-store"],
            Some(9),
        ),
        (
            &[
                "Surrogate-Control: max-age=9;you",
                "Cache-Control: max-age=5",
            ],
            Some(5),
        ),
        (&["Surrogate-Control: max-age=0", &expires], Some(-1)),
        (&["Surrogate-Control: public", &expires], None),
        (
            &["Surrogate-Control: no-store", "Cache-Control: max-age=5"],
            None,
        ),
        (
            &[
                "Surrogate-Control: content=\"ESI/1.0\"",
                "Cache-Control: max-age=5",
            ],
            Some(5),
        ),
    ] {
        let response = response(200, fields);
        assert_eq!(left(&policy, &get(&[]), &response), expected, "{fields:?}");
        // Nobody who is not addressed heeds it.
        let alone = left(&Policy::default(), &get(&[]), &response);
        let without: Vec<_> = fields
            .iter()
            .filter(|f| !f.starts_with("Surr"))
            .copied()
            .collect();
        assert_left(&without, alone);
    }
}

#[test]
fn a_stale_response_serves_only_as_the_origin_allows() {
    let policy = Policy {
        stale_while_revalidate: 7,
        stale_if_error: 9,
        ..Policy::default()
    };
    for (control, expected) in [
        ("max-age=1", (7, 9)),
        ("max-age=1, stale-while-revalidate=3", (3, 9)),
        ("max-age=1, stale-if-error=4", (7, 4)),
        ("max-age=1, stale-if-error=4, must-revalidate", (0, 0)),
        ("max-age=1, proxy-revalidate", (0, 0)),
        ("s-maxage=1", (0, 0)),
        ("max-age=1, no-cache", (0, 0)),
    ] {
        let field = format!("Cache-Control: {control}");
        let meta = policy
            .response(&get(&[]), &response(200, &[&field]), noon())
            .unwrap_meta();
        let windows = (meta.stale_while_revalidate_sec(), meta.stale_if_error_sec());
        assert_eq!(windows, expected, "{control}");
    }
}

#[test]
fn a_request_uses_the_cache_if_the_key_says_all_of_it() {
    for (lines, uses) in [
        (&["GET /"][..], true),
        (&["HEAD /"], true),
        (&["GET /", "Content-Length: 0"], true),
        (&["GET /", "Content-Length: 1"], false),
        (&["GET /", "Transfer-Encoding: chunked"], false),
        (&["GET /", "Upgrade: websocket"], false),
        (&["GET /", "Cache-Control: no-store"], false),
        (&["GET /", "Cache-Control: no-cache"], true),
        (&["POST /"], false),
        (&["PURGE /"], false),
    ] {
        assert_eq!(
            Policy::default().uses_cache(&request(lines)),
            uses,
            "{lines:?}"
        );
    }
}

#[test]
fn a_request_may_want_it_fresher_or_take_it_staler() {
    let policy = Policy::default();
    // The response is 100 seconds old, and fresh for 60 more or stale for 40.
    for (stored, wanted, expected) in [
        ("max-age=160", "", None),
        ("max-age=160", "no-cache", Some(ForceExpired)),
        ("max-age=160", "no-cache=\"x\"", None),
        ("max-age=160", "max-age=0", Some(ForceExpired)),
        ("max-age=160", "max-age=99", Some(ForceExpired)),
        ("max-age=160", "max-age=100", None),
        ("max-age=160", "min-fresh=60", None),
        ("max-age=160", "min-fresh=61", Some(ForceExpired)),
        ("max-age=160", "max-stale", None),
        ("max-age=60", "", None),
        ("max-age=60", "max-stale", Some(ForceFresh)),
        ("max-age=60", "max-stale=40", Some(ForceFresh)),
        ("max-age=60", "max-stale=39", None),
        ("max-age=60", "max-stale=x", None),
        ("max-age=60", "max-stale, max-age=50", Some(ForceExpired)),
        ("max-age=60, must-revalidate", "max-stale", None),
        ("s-maxage=60", "max-stale", None),
    ] {
        let fields = [&format!("Cache-Control: {stored}"), "Age: 100"];
        let meta = policy
            .response(&get(&[]), &response(200, &fields), noon())
            .unwrap_meta();
        let request = match wanted {
            "" => get(&[]),
            wanted => get(&[&format!("Cache-Control: {wanted}")]),
        };
        let fresh = meta.is_fresh(noon());
        let demand = policy.demand(&request, &meta, fresh, noon());
        assert_eq!(demand, expected, "{stored} | {wanted}");
    }
}

#[test]
fn only_if_cached_is_for_what_the_cache_can_have() {
    for (lines, expected) in [
        (&["GET /", "Cache-Control: only-if-cached"][..], true),
        (&["POST /", "Cache-Control: only-if-cached"], false),
        (&["GET /"], false),
    ] {
        assert_eq!(Policy::default().only_if_cached(&request(lines)), expected);
    }
}

#[test]
fn the_age_is_that_of_arrival_and_the_time_since() {
    let fields = ["Cache-Control: max-age=60", "Age: 30"];
    let meta = Policy::default()
        .response(&get(&[]), &response(200, &fields), noon())
        .unwrap_meta();
    assert_eq!(current_age(&meta, noon()).as_secs(), 30);
    let later = noon() + Duration::from_secs(5);
    assert_eq!(current_age(&meta, later).as_secs(), 35);
}

#[test]
fn a_304_brings_the_stored_header_up_to_date() {
    let stored = response(
        200,
        &[
            "ETag: \"1\"",
            "Content-Length: 5",
            "Age: 9",
            "Vary: a",
            "X: old",
            "X: older",
            "Y: y",
        ],
    );
    let confirmed = response(
        304,
        &[
            "ETag: \"2\"",
            "Content-Length: 0",
            "Vary: b",
            "X: new",
            "Z: z",
            "Content-Type: t/t",
        ],
    );
    let updated = update(&stored, &confirmed).unwrap();
    assert_eq!(updated.status, 200);
    let mut fields: Vec<_> = updated
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    fields.sort();
    let expected = [
        "content-length: 5",
        "content-type: t/t",
        "etag: \"1\"",
        "vary: a",
        "x: new",
    ];
    assert_eq!(fields, [&expected[..], &["y: y", "z: z"]].concat());
}
