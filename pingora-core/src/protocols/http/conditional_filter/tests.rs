use super::*;
use http::header::HeaderValue;
use proptest::prelude::*;

const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATE: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

fn request(method: Method, fields: &[(&'static str, &str)]) -> RequestHeader {
    let mut req = RequestHeader::build(method, b"/", None).unwrap();
    for (name, value) in fields {
        req.append_header(*name, *value).unwrap();
    }
    req
}

fn response(status: u16, fields: &[(&'static str, &str)]) -> ResponseHeader {
    let mut resp = ResponseHeader::build(status, None).unwrap();
    for (name, value) in fields {
        resp.append_header(*name, *value).unwrap();
    }
    resp
}

#[test]
fn entity_tags_are_compared_weakly() {
    for (listed, target, expected) in [
        (r#""a""#, r#""a""#, true),
        (r#"W/"a""#, r#""a""#, true),
        (r#""a""#, r#"W/"a""#, true),
        (r#"W/"a""#, r#"W/"a""#, true),
        (r#""a""#, r#""b""#, false),
        (r#""b", "a""#, r#""a""#, true),
        (r#" "b" ,W/"a" , "c""#, r#""a""#, true),
        (r#""b",,"a""#, r#""a""#, true),
        (r#""x,"a"#, r#""a""#, false),
        (r#""x, y""#, r#""x, y""#, true),
        (r#""x, "a"""#, r#""a""#, false),
        ("*", r#""a""#, true),
        (" * ", "", true),
        (r#""*""#, r#""a""#, false),
        ("", r#""a""#, false),
        ("", "", false),
        (",", "", false),
        ("W/", "W/", false),
        (r#"w/"a""#, r#""a""#, false),
        // Not entity tags, but origins send them.
        ("a", "a", true),
        ("b, a", "a", true),
        (r#"a"#, r#""a""#, false),
    ] {
        assert_eq!(
            weak_validate_etag(listed.as_bytes(), target.as_bytes()),
            expected,
            "{listed} against {target}"
        );
    }
}

#[test]
fn preconditions_in_their_order() {
    let tag = ("etag", r#""a""#);
    let modified = ("last-modified", EARLY);
    let has = ("if-none-match", r#""a""#);
    let other = ("if-none-match", r#""b""#);
    let since_early = ("if-modified-since", EARLY);
    let since_late = ("if-modified-since", LATE);
    #[allow(clippy::type_complexity)]
    let cases: &[(&[(&'static str, &str)], &[(&'static str, &str)], bool)] = &[
        (&[], &[tag, modified], false),
        (&[has], &[tag], true),
        (&[other], &[tag], false),
        (&[other, has], &[tag], true),
        (&[has], &[], false),
        (&[("if-none-match", "*")], &[], true),
        (&[since_early], &[modified], true),
        (&[since_late], &[modified], true),
        (&[since_early], &[("last-modified", LATE)], false),
        (&[since_early], &[], false),
        // If-None-Match overrules the date, also where it cannot be evaluated.
        (&[other, since_late], &[tag, modified], false),
        (&[has, since_early], &[tag, ("last-modified", LATE)], true),
        (&[has, since_late], &[modified], false),
        // No date, no precondition.
        (&[("if-modified-since", "yesterday")], &[modified], false),
        (&[since_late, since_late], &[modified], false),
        (&[since_late], &[("last-modified", "yesterday")], false),
    ];
    for (req, resp, expected) in cases {
        let found = not_modified_filter(&request(Method::GET, req), &response(200, resp));
        assert_eq!(found, *expected, "{req:?} for {resp:?}");
    }
}

#[test]
fn only_safe_methods_and_successful_responses() {
    let fields = &[("if-none-match", r#""a""#)];
    let tag = &[("etag", r#""a""#)];
    for (method, status, expected) in [
        (Method::GET, 200, true),
        (Method::HEAD, 200, true),
        (Method::GET, 203, true),
        (Method::POST, 200, false),
        (Method::PUT, 200, false),
        (Method::GET, 304, false),
        (Method::GET, 404, false),
        (Method::GET, 500, false),
        (Method::GET, 100, false),
    ] {
        let found = not_modified_filter(&request(method.clone(), fields), &response(status, tag));
        assert_eq!(found, expected, "{method} {status}");
    }
}

#[test]
fn dates_of_fields() {
    let resp = response(200, &[("date", EARLY), ("expires", "0")]);
    let date = resp_header_as_http_date(&resp, header::DATE).unwrap();
    assert_eq!(date.unwrap().to_string(), EARLY);
    assert_eq!(
        resp_header_as_http_date(&resp, "last-modified").unwrap(),
        None
    );
    let error = resp_header_as_http_date(&resp, "expires").unwrap_err();
    assert_eq!(*error.etype(), ErrorType::InvalidHTTPHeader);

    // The obsolete forms of RFC 9110 5.6.7.
    for date in ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
        let req = request(Method::GET, &[("if-modified-since", date)]);
        let date = req_header_as_http_date(&req, header::IF_MODIFIED_SINCE).unwrap();
        assert_eq!(date.unwrap().to_string(), EARLY);
    }
}

#[test]
fn a_304_has_no_content_fields() {
    let mut resp = response(
        200,
        &[
            ("content-length", "5"),
            ("content-type", "text/plain"),
            ("content-encoding", "gzip"),
            ("transfer-encoding", "chunked"),
            ("content-language", "de"),
            ("content-range", "bytes 0-4/5"),
            ("etag", r#""a""#),
            ("vary", "accept"),
            ("cache-control", "max-age=3"),
            ("content-location", "/a"),
            ("date", EARLY),
            ("expires", LATE),
        ],
    );
    to_304(&mut resp);
    assert_eq!(resp.status, 304);
    let mut names: Vec<_> = resp.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "cache-control",
            "content-location",
            "date",
            "etag",
            "expires",
            "vary"
        ]
    );
}

proptest! {
    #[test]
    fn any_list_is_survived(list: Vec<u8>, target: Vec<u8>) {
        let _ = weak_validate_etag(&list, &target);
    }

    #[test]
    fn a_listed_tag_is_found(tags in prop::collection::vec("(W/)?\"[a-c,* ]{0,3}\"", 1..5),
                             at: prop::sample::Index, weak: bool) {
        let target = at.get(&tags).trim_start_matches("W/");
        let target = if weak { format!("W/{target}") } else { target.to_string() };
        prop_assert!(weak_validate_etag(tags.join(", ").as_bytes(), target.as_bytes()));
    }

    #[test]
    fn any_date_is_survived(value in "[ -~]{0,40}") {
        let mut req = request(Method::GET, &[]);
        let value = HeaderValue::try_from(value).unwrap();
        req.insert_header("if-modified-since", value).unwrap();
        let _ = req_header_as_http_date(&req, "if-modified-since");
    }
}
