//! The normal form of paths: known ways around rules, and what holds for every path.

#![allow(clippy::unwrap_used)]

use edge::plan::path::{normal_query, normalise, BadPath};
use proptest::prelude::*;

#[test]
fn queries_of_other_bytes_are_other_queries() {
    for (query, normal) in [
        (&b"q=%e9&r={}\"+"[..], "q=%e9&r={}\"+"),
        (b"q=\xe9", "q=%E9"),
        (b"q=\xe8", "q=%E8"),
        ("q=\u{e9}".as_bytes(), "q=%C3%A9"),
    ] {
        assert_eq!(normal_query(query), normal);
    }
}

#[test]
fn known_ways_around_rules_are_closed() {
    let same = |path: &'static str| (path, Ok((path, path)));
    let to = |path: &'static str, normal| (path, Ok((normal, normal)));
    let bad = |path: &'static str, why| (path, Err(why));
    let table = [
        to("", "/"),
        same("/"),
        same("/a/b.c/~x"),
        same("/.hidden/..x/x.."),
        to("//admin", "/admin"),
        to("///a//b//", "/a/b/"),
        to("/a/./b/.", "/a/b/"),
        to("/a/b/../c", "/a/c"),
        to("/a/b/..", "/a/"),
        to("/x/%2e%2e/admin", "/admin"),
        to("/x/.%2E/admin", "/admin"),
        to("/%61dmin/%7e", "/admin/~"),
        to("/a%2fb/%5c/%3b", "/a%2Fb/%5C/%3B"),
        to("/a/%2fadmin", "/a/%2Fadmin"),
        to("/%252e%252e/x", "/%252e%252e/x"),
        to("/a\u{e9}{}<>\"", "/a%C3%A9%7B%7D%3C%3E%22"),
        ("/admin;a=1/x;b", Ok(("/admin;a=1/x;b", "/admin/x"))),
        ("/;a/x/;b", Ok(("/;a/x/;b", "/x/"))),
        bad("/..", BadPath::AboveRoot),
        bad("/a/../../b", BadPath::AboveRoot),
        bad("/%2e%2e/", BadPath::AboveRoot),
        bad("/x//../../..", BadPath::AboveRoot),
        bad("/admin/..;/", BadPath::HiddenDots),
        bad("/admin/..;a=1/x", BadPath::HiddenDots),
        bad("/x/.;/admin", BadPath::HiddenDots),
        bad("/x/%2e%2e;/admin", BadPath::HiddenDots),
        bad("/x/..%3bx/admin", BadPath::HiddenDots),
        bad("/x/..%2fadmin", BadPath::HiddenDots),
        bad("/x/a%2f..%2fadmin", BadPath::HiddenDots),
        bad("/x/..%5Cadmin", BadPath::HiddenDots),
        bad("/x/..\\admin", BadPath::Byte(b'\\')),
        bad("/x%00", BadPath::Nul),
        bad("/x%0", BadPath::Encoding),
        bad("/x%", BadPath::Encoding),
        bad("/x%g0", BadPath::Encoding),
        bad("/x%+1", BadPath::Encoding),
        bad("/x y", BadPath::Byte(b' ')),
        bad("/x\t", BadPath::Byte(b'\t')),
        bad("/x#y", BadPath::Byte(b'#')),
        bad("/x?y", BadPath::Byte(b'?')),
        bad("x", BadPath::NotAbsolute),
        bad("*", BadPath::NotAbsolute),
    ];
    for (path, expected) in table {
        let normal = normalise(path.as_bytes());
        let found = normal
            .as_ref()
            .map(|normal| (normal.as_str(), normal.matched()))
            .map_err(|e| *e);
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn a_prefix_is_taken_off_by_segments() {
    let table = [
        ("/api/x", "/api", Some("/x")),
        ("/api", "/api", Some("/")),
        ("/api/", "/api", Some("/")),
        ("/apix", "/api", None),
        ("/x/api", "/api", None),
        ("/;p/api;q=1/v1;r/x;s", "/api/v1", Some("/x;s")),
        ("/api/;p", "/api", Some("/;p")),
        ("/%61pi/x", "/api", Some("/x")),
    ];
    for (path, prefix, expected) in table {
        assert_eq!(
            normalise(path.as_bytes()).unwrap().strip(prefix),
            expected,
            "{path} {prefix}"
        );
    }
}

/// Pieces of paths of which tricks are made.
fn tricky() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "/", ".", "..", "%2e", "%2E", "%2f", "%5c", "%3b", ";", "a", "b", "%61", "%25",
        "2e", "%", "é", "=",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_normal_path_is_its_own_normal_form(path in tricky()) {
        if let Ok(normal) = normalise(path.as_bytes()) {
            let again = normalise(normal.as_str().as_bytes()).unwrap();
            prop_assert_eq!(&again, &normal);
            for view in [normal.as_str(), normal.matched()] {
                prop_assert!(view.starts_with('/') && !view.contains("//"), "{} {}", path, view);
                let dots = view.split(['/', ';']).any(|part| part == "." || part == "..");
                prop_assert!(!dots, "{} {}", path, view);
                let same = normalise(view.as_bytes()).unwrap();
                prop_assert_eq!(same.as_str(), view);
            }
            prop_assert!(!normal.matched().contains(';'));
            prop_assert!(normal.strip("/a").is_none_or(|rest| rest.starts_with('/')));
        }
    }
}
