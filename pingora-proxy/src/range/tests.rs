use super::*;
use proptest::prelude::*;

const TAG: &str = r#""a""#;
const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATE: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

fn request(method: Method, fields: &[(&'static str, &str)]) -> RequestHeader {
    let mut req = RequestHeader::build(method, b"/", None).unwrap();
    for (name, value) in fields {
        req.append_header(*name, *value).unwrap();
    }
    req
}

fn asking(range: &str) -> RequestHeader {
    request(Method::GET, &[("range", range)])
}

fn response(fields: &[(&'static str, &str)]) -> ResponseHeader {
    let mut resp = ResponseHeader::build(200, None).unwrap();
    for (name, value) in fields {
        resp.append_header(*name, *value).unwrap();
    }
    resp
}

fn of_length(length: usize) -> ResponseHeader {
    response(&[
        ("content-length", &length.to_string()),
        ("content-type", "text/plain"),
        ("etag", TAG),
        ("cache-control", "max-age=9"),
    ])
}

fn field<'a>(resp: &'a ResponseHeader, name: &str) -> Option<&'a str> {
    resp.headers.get(name).map(|value| value.to_str().unwrap())
}

/// The ranges that are sent; no ranges for an unsatisfiable one, `None` for the whole.
fn ranges(found: RangeType) -> Option<Vec<Range<usize>>> {
    match found {
        RangeType::None => None,
        RangeType::Invalid => Some(vec![]),
        RangeType::Single(range) => Some(vec![range]),
        RangeType::Multi(info) => {
            assert!(info.ranges.len() > 1);
            Some(info.ranges)
        }
    }
}

#[test]
#[allow(clippy::single_range_in_vec_init)]
fn what_is_asked_for() {
    let big = "99999999999999999999999999";
    for (asked, length, expected) in [
        ("bytes=0-4", 10, Some(&[0..5][..])),
        ("bytes=0-", 10, Some(&[0..10])),
        ("bytes=9-", 10, Some(&[9..10])),
        ("bytes=-3", 10, Some(&[7..10])),
        ("bytes=-30", 10, Some(&[0..10])),
        ("bytes=5-100", 10, Some(&[5..10])),
        ("BYTES=0-0", 10, Some(&[0..1])),
        (&format!("bytes=1-{big}"), 10, Some(&[1..10])),
        (&format!("bytes=-{big}"), 10, Some(&[0..10])),
        // Unsatisfiable.
        ("bytes=10-", 10, Some(&[])),
        ("bytes=10-20", 10, Some(&[])),
        ("bytes=-0", 10, Some(&[])),
        ("bytes=0-", 0, Some(&[])),
        (&format!("bytes={big}-"), 10, Some(&[])),
        ("bytes=10-, -0", 10, Some(&[])),
        // Nothing of nothing.
        ("bytes=-5", 0, None),
        ("bytes=0-1, -5", 0, None),
        // Several.
        ("bytes=0-1,3-4", 10, Some(&[0..2, 3..5])),
        ("bytes= 0-1 ,\t3-4 ,", 10, Some(&[0..2, 3..5])),
        ("bytes=,0-1,,3-4", 10, Some(&[0..2, 3..5])),
        ("bytes=3-4,0-1", 10, Some(&[0..2, 3..5])),
        ("bytes=0-1,2-3", 10, Some(&[0..2, 2..4])),
        ("bytes=0-1,-1", 10, Some(&[0..2, 9..10])),
        ("bytes=0-1,50-60", 10, Some(&[0..2])),
        // Overlapping ones are one.
        ("bytes=0-4,3-7", 10, Some(&[0..8])),
        ("bytes=3-7,0-4", 10, Some(&[0..8])),
        ("bytes=0-,0-,0-", 10, Some(&[0..10])),
        ("bytes=0-9,2-3,5-6", 10, Some(&[0..10])),
        ("bytes=0-1,1-2,5-6,6-6", 10, Some(&[0..3, 5..7])),
        // Malformed, or of another unit.
        ("bytes=", 10, None),
        ("bytes=,", 10, None),
        ("bytes", 10, None),
        ("", 10, None),
        ("bytes 0-4", 10, None),
        ("bytes =0-4", 10, None),
        ("items=0-4", 10, None),
        ("bytes=4-0", 10, None),
        ("bytes=a-4", 10, None),
        ("bytes=0-b", 10, None),
        ("bytes=-", 10, None),
        ("bytes=--1", 10, None),
        ("bytes=0--1", 10, None),
        ("bytes=+0-1", 10, None),
        ("bytes=0 - 1", 10, None),
        ("bytes=0-1;2-3", 10, None),
        ("bytes=0-1,x", 10, None),
        ("bytes=0-1,4-3", 10, None),
    ] {
        let found = range_header_filter(&asking(asked), &mut of_length(length), None);
        assert_eq!(ranges(found).as_deref(), expected, "{asked} of {length}");
    }
}

#[test]
fn too_many_ranges_are_ignored() {
    for (asked, max, partial) in [
        ("bytes=0-0", None, true),
        ("bytes=0-0", Some(0), true),
        ("bytes=0-0,2-2", None, true),
        ("bytes=0-0,2-2", Some(2), true),
        ("bytes=0-0,2-2", Some(1), false),
        ("bytes=0-0,2-2", Some(0), false),
        ("bytes=0-0,2-2,4-4", Some(2), false),
        // They count as they were asked for.
        ("bytes=0-5,0-5,0-5", Some(2), false),
        ("bytes=0-0,70-70,80-80", Some(2), false),
    ] {
        let found = range_header_filter(&asking(asked), &mut of_length(10), max);
        assert_eq!(found != RangeType::None, partial, "{asked} {max:?}");
    }
}

#[test]
fn only_whole_responses_to_get() {
    let ask = &[("range", "bytes=0-1")];
    for (method, status, fields, partial) in [
        (Method::GET, 200, &[("content-length", "10")][..], true),
        (Method::HEAD, 200, &[("content-length", "10")], false),
        (Method::POST, 200, &[("content-length", "10")], false),
        (Method::GET, 206, &[("content-length", "10")], false),
        (Method::GET, 203, &[("content-length", "10")], false),
        (Method::GET, 404, &[("content-length", "10")], false),
        (Method::GET, 304, &[("content-length", "10")], false),
        (Method::GET, 200, &[], false),
        (Method::GET, 200, &[("content-length", "x")], false),
        (
            Method::GET,
            200,
            &[("content-length", "10"), ("content-length", "10")],
            false,
        ),
        (
            Method::GET,
            200,
            &[("content-length", "10"), ("accept-ranges", "none")],
            false,
        ),
    ] {
        let mut resp = response(fields);
        resp.set_status(status).unwrap();
        let found = range_header_filter(&request(method.clone(), ask), &mut resp, None);
        assert_eq!(
            found != RangeType::None,
            partial,
            "{method} {status} {fields:?}"
        );
        let expected = if partial { 206 } else { status };
        assert_eq!(resp.status, expected);
    }
    let twice = request(
        Method::GET,
        &[("range", "bytes=0-1"), ("range", "bytes=0-1")],
    );
    assert_eq!(
        range_header_filter(&twice, &mut of_length(10), None),
        RangeType::None
    );
}

#[test]
fn if_range() {
    let tag = ("etag", TAG);
    let modified = ("last-modified", EARLY);
    for (validator, fields, holds) in [
        (TAG, &[tag][..], true),
        (r#""b""#, &[tag], false),
        (r#"W/"a""#, &[("etag", r#"W/"a""#)], false),
        (TAG, &[("etag", r#"W/"a""#)], false),
        (TAG, &[], false),
        (EARLY, &[modified], true),
        (EARLY, &[modified, ("date", LATE)], true),
        (EARLY, &[modified, ("date", EARLY)], false),
        (EARLY, &[modified, ("date", "today")], false),
        // Later is not the same.
        (LATE, &[modified], false),
        (EARLY, &[], false),
        ("yesterday", &[modified], false),
        ("", &[tag], false),
        ("a", &[tag], false),
    ] {
        let mut resp = response(fields);
        resp.append_header("content-length", "10").unwrap();
        let req = request(
            Method::GET,
            &[("range", "bytes=0-1"), ("if-range", validator)],
        );
        let found = range_header_filter(&req, &mut resp, None);
        assert_eq!(found != RangeType::None, holds, "{validator} {fields:?}");
    }
    let twice = request(
        Method::GET,
        &[("range", "bytes=0-1"), ("if-range", TAG), ("if-range", TAG)],
    );
    assert_eq!(
        range_header_filter(&twice, &mut of_length(10), None),
        RangeType::None
    );
}

#[test]
fn the_header_of_the_whole() {
    for req in [
        request(Method::GET, &[]),
        request(Method::HEAD, &[("range", "bytes=0-1")]),
        asking("bytes=4-0"),
    ] {
        let mut resp = of_length(10);
        assert_eq!(range_header_filter(&req, &mut resp, None), RangeType::None);
        assert_eq!(resp.status, 200);
        assert_eq!(field(&resp, "content-length"), Some("10"));
        assert_eq!(field(&resp, "content-range"), None);
        assert_eq!(field(&resp, "accept-ranges"), Some("bytes"));
    }
}

#[test]
fn the_header_of_a_range() {
    let mut resp = of_length(10);
    range_header_filter(&asking("bytes=2-4"), &mut resp, None);
    assert_eq!(resp.status, 206);
    assert_eq!(field(&resp, "content-length"), Some("3"));
    assert_eq!(field(&resp, "content-range"), Some("bytes 2-4/10"));
    assert_eq!(field(&resp, "content-type"), Some("text/plain"));
    assert_eq!(field(&resp, "etag"), Some(TAG));
}

#[test]
fn the_header_of_an_unsatisfiable_range() {
    let mut resp = of_length(10);
    range_header_filter(&asking("bytes=10-"), &mut resp, None);
    assert_eq!(resp.status, 416);
    assert_eq!(field(&resp, "content-length"), Some("0"));
    assert_eq!(field(&resp, "content-range"), Some("bytes */10"));
    for gone in ["content-type", "etag", "cache-control"] {
        assert_eq!(field(&resp, gone), None);
    }
}

#[test]
fn the_header_of_several_ranges() {
    let mut resp = of_length(10);
    let RangeType::Multi(info) = range_header_filter(&asking("bytes=0-1,7-9"), &mut resp, None)
    else {
        panic!("two ranges lie within the whole");
    };
    let boundary = &info.boundary;
    let body = format!(
        "\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\
         \r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 7-9/10\r\n\r\n789\
         \r\n--{boundary}--\r\n"
    );
    let length = body.len().to_string();
    assert_eq!(info.calculate_multipart_length(), body.len());
    assert_eq!(resp.status, 206);
    assert_eq!(field(&resp, "content-length"), Some(&length[..]));
    assert_eq!(field(&resp, "content-range"), None);
    let content_type = format!("multipart/byteranges; boundary={boundary}");
    assert_eq!(field(&resp, "content-type"), Some(&content_type[..]));
    assert_eq!(MultiRangeInfo::new(vec![]).calculate_multipart_length(), 0);
}

proptest! {
    #[test]
    fn any_field_is_survived(
        field in "(bytes=)?[0-9, -]{0,30}|[ -~]{0,30}",
        if_range in prop::option::of("[ -~]{0,30}"),
        length in any::<usize>(),
        max in prop::option::of(0usize..5),
    ) {
        let mut req = asking(&field);
        if let Some(value) = if_range {
            req.insert_header("if-range", value).unwrap();
        }
        let _ = range_header_filter(&req, &mut of_length(length), max);
    }
}
