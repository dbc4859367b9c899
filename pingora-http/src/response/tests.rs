use super::*;
use bytes::Bytes;

fn ok() -> ResponseHeader {
    ResponseHeader::build(200, None).unwrap()
}

#[test]
fn codes() {
    for (code, phrase) in [
        (100, Some("Continue")),
        (404, Some("Not Found")),
        (299, None),
        (999, None),
    ] {
        let response = ResponseHeader::build(code, None).unwrap();
        assert_eq!(
            (response.status.as_u16(), response.get_reason_phrase()),
            (code, phrase)
        );
        assert_eq!(
            (response.version, response.has_case()),
            (Version::HTTP_11, true)
        );
        assert!(!ResponseHeader::build_no_case(code, None)
            .unwrap()
            .has_case());
    }
    let mut response = ok();
    for code in [0, 99, 1000, u16::MAX] {
        assert_eq!(
            ResponseHeader::build(code, None).unwrap_err().etype(),
            &InvalidHTTPHeader
        );
        assert_eq!(
            response.set_status(code).unwrap_err().etype(),
            &InvalidHTTPHeader
        );
    }
    assert_eq!(response.status, StatusCode::OK);
    assert!(ResponseHeader::build("abc", None).is_err());
}

#[test]
fn reason_phrases() {
    let mut response = ok();
    for phrase in ["Just Fine", "", "OK", "a\tb", "\u{e9}"] {
        response.set_reason_phrase(Some(phrase)).unwrap();
        assert_eq!(response.get_reason_phrase(), Some(phrase));
        assert_eq!(response.clone().get_reason_phrase(), Some(phrase));
    }
    for phrase in ["a\r\nb", "\0", "\x7f", "\n"] {
        let error = response.set_reason_phrase(Some(phrase)).unwrap_err();
        assert_eq!(error.etype(), &InvalidHTTPHeader);
        assert_eq!(response.get_reason_phrase(), Some("\u{e9}"));
    }
    response.set_status(404).unwrap();
    assert_eq!(response.get_reason_phrase(), Some("\u{e9}"));
    response.set_reason_phrase(None).unwrap();
    assert_eq!(response.get_reason_phrase(), Some("Not Found"));
}

#[test]
fn the_usual_phrase_follows_the_status() {
    let mut response = ok();
    response.set_reason_phrase(Some("Fine")).unwrap();
    response.set_reason_phrase(Some("OK")).unwrap();
    response.set_status(404).unwrap();
    assert_eq!(response.get_reason_phrase(), Some("Not Found"));
}

#[test]
fn a_header_that_forgets_is_as_a_blank_one() {
    let mut used = ResponseHeader::blank();
    used.start(StatusCode::CREATED, b"Yes", Version::HTTP_10, 2);
    used.raw_fields()
        .append(b"TE", HeaderValue::from_static("a"))
        .unwrap();
    used.forget();
    used.start(StatusCode::OK, b"OK", Version::HTTP_11, 1);
    let mut blank = ResponseHeader::blank();
    blank.start(StatusCode::OK, b"OK", Version::HTTP_11, 1);
    assert_eq!(format!("{used:?}"), format!("{blank:?}"));
}

#[test]
fn received_heads() {
    for (reason, expected) in [
        (&b"OK"[..], Some("OK")),
        (b"Fine", Some("Fine")),
        (b"", Some("")),
        (b"\xff", Some("OK")),
        (b"a\rb", Some("OK")),
    ] {
        let mut response = ResponseHeader::blank();
        response.start(StatusCode::OK, reason, Version::HTTP_10, 3);
        assert_eq!(
            response.get_reason_phrase(),
            expected,
            "{}",
            reason.escape_ascii()
        );
        assert_eq!(
            (response.version, response.has_case()),
            (Version::HTTP_10, true)
        );
    }
}

#[test]
fn content_length_is_set_once() {
    let mut response = ok();
    for len in [5, 0, usize::MAX] {
        response.append_header("content-length", "7").unwrap();
        response.set_content_length(len).unwrap();
        let mut wire = Vec::new();
        response.header_to_h1_wire(&mut wire);
        assert_eq!(wire, format!("Content-Length: {len}\r\n").into_bytes());
    }
}

#[test]
fn parts_and_back() {
    let mut response = ok();
    response
        .append_header("X-A", HeaderValue::from_bytes(b"\xff").unwrap())
        .unwrap();
    response.set_version(Version::HTTP_2);
    response.extensions_mut().insert(7u8);
    let parts = response.as_owned_parts();
    assert_eq!(AsRef::<Parts>::as_ref(&response).headers, parts.headers);
    let copy = ResponseHeader::from(parts);
    assert_eq!((copy.has_case(), copy.version), (false, Version::HTTP_2));
    assert_eq!(copy.extensions.get(), Some(&7u8));
    assert_eq!(copy.case_header_iter().count(), 0);
    assert!(format!("{copy:?}").contains(r#""\xff""#));
    assert_eq!(Parts::from(response).status, StatusCode::OK);
}

#[test]
fn headers_are_small_and_shared() {
    fn shared<T: Send + Sync + Unpin>() {}
    shared::<ResponseHeader>();
    assert!(size_of::<ResponseHeader>() <= size_of::<Parts>() + 80);
}

#[test]
fn a_detached_header_is_the_same_and_shares_nothing() {
    let received = Bytes::from_static(b"value");
    let mut response = ResponseHeader::build(200, None).unwrap();
    let value = crate::header_value_from_raw(received.clone());
    response.append_header("X-Kept", value).unwrap();
    response.detach();
    assert_eq!(response.headers["x-kept"], "value");
    let kept = response.headers["x-kept"].as_bytes().as_ptr();
    assert!(!received.as_ptr_range().contains(&kept));
}
