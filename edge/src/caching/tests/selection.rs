//! Which stored response a request selects, by key and by variant, and which ones it makes invalid.

use super::*;
use pingora_cache::CacheKey;

fn selects_the_same(vary: &str, one: &[&str], other: &[&str]) -> bool {
    let fields = [&format!("Vary: {vary}"), "Cache-Control: max-age=60"];
    let meta = Policy::default()
        .response(&get(&[]), &response(200, &fields), noon())
        .unwrap_meta();
    variance(&meta, &get(one)) == variance(&meta, &get(other))
}

#[test]
fn a_variant_is_what_the_selecting_fields_say() {
    for (vary, one, other, same) in [
        ("A", &["A: 1"][..], &["A: 1"][..], true),
        ("a", &["A: 1", "B: 1"], &["A: 1"], true),
        ("A", &["A: 1"], &["A: 2"], false),
        ("A", &["A: 1"], &[], false),
        ("A", &["A: "], &[], false),
        ("A, B", &["A: 1"], &["B: 1"], false),
        ("A", &["A: 1, 2"], &["A: 1", "A: 2"], true),
        ("A", &["A: 1,2"], &["A: 1 , 2"], true),
        (
            "Cookie",
            &["Cookie: a=1; b=2"],
            &["Cookie: a=1", "Cookie: b=2"],
            true,
        ),
        (
            "Cookie",
            &["Cookie: a=1; b=2"],
            &["Cookie: a=1, b=2"],
            false,
        ),
        ("A", &["A: 1,2"], &["A: 2,1"], false),
        ("A", &["A: x"], &["A: X"], false),
        (
            "Accept-Language",
            &["Accept-Language: en, DE"],
            &["Accept-Language: de,en"],
            true,
        ),
        (
            "Accept-Encoding",
            &["Accept-Encoding: gzip"],
            &["Accept-Encoding: br"],
            false,
        ),
        (
            "Accept-Encoding",
            &["Accept-Encoding: gzip;q=0"],
            &["Accept-Encoding: gzip"],
            false,
        ),
        (
            "Accept-Encoding",
            &["Accept-Encoding: gzip; q=0.5"],
            &["Accept-Encoding: GZIP;q=0.5"],
            true,
        ),
    ] {
        assert_eq!(
            selects_the_same(vary, one, other),
            same,
            "{vary}: {one:?} {other:?}"
        );
    }
    let meta = Policy::default()
        .response(
            &get(&[]),
            &response(200, &["Cache-Control: max-age=1"]),
            noon(),
        )
        .unwrap_meta();
    assert_eq!(variance(&meta, &get(&["A: 1"])), None);
}

fn text(key: &CacheKey) -> String {
    String::from_utf8_lossy(key.primary_key()).into_owned()
}

#[test]
fn a_key_is_the_host_and_the_target() {
    let of = |lines: &[&str]| key(&request(lines)).map(|key| text(&key));
    let same = of(&["GET /x?y", "Host: a.test"]);
    assert_eq!(same.as_deref(), Some("6:a.test/x?y"));
    for lines in [
        &["GET /x?y", "Host: A.TEST"][..],
        &["GET /x?y", "Host: a.test:80"],
        &["HEAD /x?y"],
        &["PURGE /x?y"],
    ] {
        assert_eq!(of(lines), same, "{lines:?}");
    }
    for lines in [
        &["GET /x"][..],
        &["GET /x?Y"],
        &["GET /x?y", "Host: b.test"],
        &["GET /x?y", "Host: a.test:81"],
    ] {
        assert_ne!(of(lines), same, "{lines:?}");
    }
    // As in HTTP/2, where the target says it.
    let mut absolute = request(&["GET /x?y", "Host: other"]);
    absolute.set_uri("http://a.test/x?y".parse().unwrap());
    assert_eq!(key(&absolute).map(|key| text(&key)), same);
    let mut nameless = request(&["GET /"]);
    nameless.remove_header("Host");
    assert!(key(&nameless).is_none());
}

#[test]
fn what_an_unsafe_request_changes_is_forgotten() {
    let keys = |method: &str, status, fields: &[&str]| -> Vec<String> {
        let request = request(&[&format!("{method} /a/b?c")]);
        invalidated(&request, &response(status, fields))
            .iter()
            .map(|key| text(key)["6:a.test".len()..].to_owned())
            .collect()
    };
    for (method, status, fields, expected) in [
        ("POST", 200, &[][..], &["/a/b?c"][..]),
        ("PUT", 204, &[], &["/a/b?c"]),
        ("DELETE", 303, &[], &["/a/b?c"]),
        ("M-SEARCH", 200, &[], &["/a/b?c"]),
        ("POST", 404, &[], &[]),
        ("POST", 500, &[], &[]),
        ("GET", 200, &["Location: /x"], &[]),
        ("OPTIONS", 200, &[], &[]),
        ("POST", 201, &["Location: /x#y"], &["/a/b?c", "/x"]),
        (
            "POST",
            201,
            &["Content-Location: x?y"],
            &["/a/b?c", "/a/x?y"],
        ),
        (
            "POST",
            201,
            &["Location: http://A.test:80/x"],
            &["/a/b?c", "/x"],
        ),
        ("POST", 201, &["Location: http://a.test"], &["/a/b?c", "/"]),
        // Another origin does not get a say about this one.
        ("POST", 201, &["Location: http://b.test/x"], &["/a/b?c"]),
        ("POST", 201, &["Location: https://a.test/x"], &["/a/b?c"]),
        ("POST", 201, &["Location: //b.test/x"], &["/a/b?c"]),
        ("POST", 201, &["Location: ../x"], &["/a/b?c"]),
    ] {
        assert_eq!(
            keys(method, status, fields),
            expected,
            "{method} {status} {fields:?}"
        );
    }
}
