use super::*;

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let lines = lines.iter();
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

#[test]
fn a_length_is_known_if_it_is_the_only_framing() {
    let rows: [(&[_], _); 6] = [
        (&[], None),
        (&[("content-length", "5")], Some(5)),
        (&[("content-length", "0")], Some(0)),
        (&[("content-length", "x")], None),
        (&[("content-length", "5"), ("content-length", "5")], None),
        (
            &[("content-length", "5"), ("transfer-encoding", "chunked")],
            None,
        ),
    ];
    for (lines, length) in rows {
        assert_eq!(content_length(&headers(lines)), length, "{lines:?}");
    }
}

#[test]
fn no_reason_of_an_application_is_one_that_the_cache_panics_at() {
    use NoCacheReason::*;
    for reason in [
        NeverEnabled,
        CacheLockGiveUp,
        CacheLockTimeout,
        CacheLockRetryLimit,
    ] {
        assert_eq!(allowed(reason), OriginNotCache);
    }
    assert_eq!(allowed(Custom("x")), Custom("x"));
    assert_eq!(allowed(ResponseTooLarge), ResponseTooLarge);
}
