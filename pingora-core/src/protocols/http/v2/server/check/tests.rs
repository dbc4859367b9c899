use super::*;

fn head(uri: &str, fields: &[(&'static str, &'static str)]) -> RequestHeader {
    let mut request = http::Request::builder()
        .uri(uri)
        .version(http::Version::HTTP_2);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    RequestHeader::from(request.body(()).unwrap().into_parts().0)
}

#[test]
fn what_a_head_promises() {
    for (length, ended, promised) in [
        (None, true, Ok(None)),
        (None, false, Ok(None)),
        (Some("5"), false, Ok(Some(5))),
        (Some("0"), true, Ok(Some(0))),
        (Some("5"), true, Err(Reason::PROTOCOL_ERROR)),
        (Some("5, 5"), false, Err(Reason::PROTOCOL_ERROR)),
        (Some("+5"), false, Err(Reason::PROTOCOL_ERROR)),
    ] {
        let fields: Vec<_> = length.map(|l| ("content-length", l)).into_iter().collect();
        assert_eq!(
            request(&head("http://a/", &fields), ended).map_err(|_| Reason::PROTOCOL_ERROR),
            promised,
            "{length:?}"
        );
    }
}

#[test]
fn what_is_refused_whatever_the_library_does() {
    let bad = [
        head("http://a/", &[("connection", "x")]),
        head("http://a/", &[("transfer-encoding", "chunked")]),
        head("http://a/", &[("te", "trailers, gzip")]),
        head("http://a/", &[("x", " v")]),
        head("http://a/", &[("x", "v\t")]),
        head("http://a/", &[("&&", "v")]),
        head("http://&&&/", &[]),
        head("http://a/", &[("host", "b")]),
        head("http://u@a/", &[]),
        head("/", &[]),
    ];
    for request_head in bad {
        let refused = request(&request_head, true);
        assert!(refused.is_err(), "{request_head:?}");
    }
    let good = [
        head("http://a/", &[("te", "trailers"), ("x", ""), ("a&b", "&")]),
        head("http://a/", &[("host", "a:80")]),
        head("/", &[("host", "a")]),
    ];
    for request_head in good {
        assert_eq!(request(&request_head, true), Ok(None), "{request_head:?}");
    }
}
