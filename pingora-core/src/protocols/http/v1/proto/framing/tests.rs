use super::*;
use http::header::{HeaderName, HeaderValue};

type Fields<'a> = &'a [(&'a str, &'a str)];

fn map(fields: Fields) -> HeaderMap {
    let mut m = HeaderMap::new();
    for (n, v) in fields {
        m.append(
            HeaderName::from_bytes(n.as_bytes()).unwrap(),
            HeaderValue::from_str(v).unwrap(),
        );
    }
    m
}

#[test]
fn request_framing() {
    use Refusal::*;
    const CL: &str = "content-length";
    const TE: &str = "transfer-encoding";
    let rows: &[(Fields, Result<Framing, Refusal>)] = &[
        (&[], Ok(Framing::Length(0))),
        (&[(CL, "0")], Ok(Framing::Length(0))),
        (
            &[(CL, "18446744073709551615")],
            Ok(Framing::Length(u64::MAX)),
        ),
        (&[(CL, "18446744073709551616")], Err(ContentLength)),
        (&[(CL, "")], Err(ContentLength)),
        (&[(CL, "+5")], Err(ContentLength)),
        (&[(CL, "-5")], Err(ContentLength)),
        (&[(CL, "0x5")], Err(ContentLength)),
        (&[(CL, "5 5")], Err(ContentLength)),
        (&[(CL, "5,")], Err(ContentLength)),
        (&[(CL, "5, 5")], Ok(Framing::Length(5))),
        (&[(CL, "5"), (CL, "5")], Ok(Framing::Length(5))),
        (&[(CL, "5"), (CL, "05")], Ok(Framing::Length(5))),
        (&[(CL, "5, 6")], Err(ContentLengthDiffers)),
        (&[(CL, "5"), (CL, "6")], Err(ContentLengthDiffers)),
        (&[(CL, "5"), (CL, "x")], Err(ContentLength)),
        (&[(TE, "chunked")], Ok(Framing::Chunked)),
        (&[(TE, "Chunked")], Ok(Framing::Chunked)),
        (&[(TE, "chunked"), (CL, "5")], Err(LengthAndCoding)),
        (&[(TE, "chunked, chunked")], Err(CodingOrder)),
        (&[(TE, "chunked"), (TE, "chunked")], Err(CodingOrder)),
        (&[(TE, "gzip")], Err(CodingOrder)),
        (&[(TE, "chunked, gzip")], Err(CodingOrder)),
        (&[(TE, "gzip, chunked")], Err(UnknownCoding)),
        (&[(TE, "identity")], Err(UnknownCoding)),
        (&[(TE, "xchunked")], Err(UnknownCoding)),
        (&[(TE, "chunked;q=1")], Err(UnknownCoding)),
        (&[(TE, "\"chunked\"")], Err(UnknownCoding)),
        (&[(TE, "")], Err(CodingOrder)),
        (&[(TE, ",chunked")], Err(CodingOrder)),
    ];
    for (fields, want) in rows {
        assert_eq!(
            request(http::Version::HTTP_11, &map(fields)),
            *want,
            "{fields:?}"
        );
    }
    let coded = map(&[(TE, "chunked")]);
    assert_eq!(request(http::Version::HTTP_10, &coded), Err(CodingInHttp10));
}

#[test]
fn response_framing() {
    use Answered::*;
    const CL: &str = "content-length";
    const TE: &str = "transfer-encoding";
    type Row<'a> = (
        Answered,
        u16,
        &'a [(&'a str, &'a str)],
        Result<Framing, Refusal>,
    );
    let rows: &[Row] = &[
        (Other, 200, &[], Ok(Framing::UntilClose)),
        (Other, 200, &[(CL, "7")], Ok(Framing::Length(7))),
        (Head, 200, &[(CL, "7")], Ok(Framing::Empty)),
        (Head, 200, &[(TE, "chunked")], Ok(Framing::Empty)),
        (Other, 204, &[(CL, "7")], Ok(Framing::Empty)),
        (Other, 304, &[(CL, "7")], Ok(Framing::Empty)),
        (Other, 103, &[], Ok(Framing::Empty)),
        (Connect, 200, &[(CL, "7")], Ok(Framing::Empty)),
        (Connect, 403, &[(CL, "7")], Ok(Framing::Length(7))),
        (Other, 200, &[(TE, "chunked")], Ok(Framing::Chunked)),
        (
            Other,
            200,
            &[(TE, "chunked"), (CL, "7")],
            Ok(Framing::Chunked),
        ),
        (Other, 200, &[(TE, "gzip")], Err(Refusal::UnknownCoding)),
        (
            Other,
            200,
            &[(TE, "deflate"), (CL, "7")],
            Err(Refusal::UnknownCoding),
        ),
        (
            Other,
            200,
            &[(TE, "chunked, gzip")],
            Err(Refusal::CodingOrder),
        ),
        (Head, 200, &[(TE, "gzip")], Ok(Framing::Empty)),
        (
            Other,
            200,
            &[(TE, "gzip, chunked")],
            Err(Refusal::UnknownCoding),
        ),
        (
            Other,
            200,
            &[(CL, "7"), (CL, "8")],
            Err(Refusal::ContentLengthDiffers),
        ),
        (Other, 200, &[(CL, "x")], Err(Refusal::ContentLength)),
    ];
    for (answered, status, fields, want) in rows {
        let status = StatusCode::from_u16(*status).unwrap();
        let got = response(*answered, status, Version::HTTP_11, &map(fields), false);
        assert_eq!(got, *want, "{answered:?} {status} {fields:?}");
    }
    let bad = map(&[(CL, "x")]);
    let lenient = response(Other, StatusCode::OK, Version::HTTP_11, &bad, true);
    assert_eq!(lenient, Ok(Framing::UntilClose));
    let coded = map(&[(TE, "chunked")]);
    let old = response(Other, StatusCode::OK, Version::HTTP_10, &coded, false);
    assert_eq!(old, Err(Refusal::CodingInHttp10));
}

#[test]
fn repeated_lengths_are_seen() {
    const CL: &str = "content-length";
    assert!(!length_is_repeated(&map(&[])));
    assert!(!length_is_repeated(&map(&[(CL, "5")])));
    assert!(length_is_repeated(&map(&[(CL, "5"), (CL, "5")])));
    assert!(length_is_repeated(&map(&[(CL, "5, 5")])));
}

#[test]
fn persistence_by_version_and_option() {
    use Persistence::*;
    let rows: &[(Version, Fields, Persistence)] = &[
        (Version::HTTP_11, &[], KeepAlive),
        (Version::HTTP_11, &[("connection", "close")], Close),
        (Version::HTTP_11, &[("connection", "x, CLOSE")], Close),
        (
            Version::HTTP_11,
            &[("connection", "keep-alive"), ("connection", "close")],
            Close,
        ),
        (Version::HTTP_10, &[], Close),
        (Version::HTTP_10, &[("connection", "Keep-Alive")], KeepAlive),
        (
            Version::HTTP_10,
            &[("connection", "keep-alive, close")],
            Close,
        ),
    ];
    for (version, fields, want) in rows {
        assert_eq!(
            persistence(*version, &map(fields)),
            *want,
            "{version:?} {fields:?}"
        );
    }
}
