use super::*;
use proptest::prelude::*;

impl RequestHeader {
    /// The spellings that a header stores.
    pub(crate) fn cases(&self) -> &CaseMap {
        self.head.cases.as_ref().unwrap()
    }
}

fn get(path: &[u8]) -> RequestHeader {
    RequestHeader::build("GET", path, None).unwrap()
}

#[test]
fn targets() {
    for (target, uri, raw, is_utf8) in [
        (&b"/"[..], "/", &b"/"[..], true),
        (b"/a?b", "/a?b", b"/a?b", true),
        (b"//h/p", "//h/p", b"//h/p", true),
        (b"/\"|^\\%zz", "/\"|^\\%zz", b"/\"|^\\%zz", true),
        (b"", "/", b"/", true),
        (b"*", "*", b"*", true),
        (b"**", "/", b"**", true),
        (b"?q", "/?q", b"?q", true),
        (b"/a#frag?x", "/a", b"/a", true),
        (b"#", "/", b"/", true),
        (b"/\xc3\xa9", "/\u{e9}", b"/\xc3\xa9", true),
        (b"/\xff?\xfe", "/\u{fffd}?\u{fffd}", b"/\xff?\xfe", false),
        (b"/\xff#x", "/\u{fffd}", b"/\xff", false),
        (b"host:443", "/", b"host:443", true),
        (b"http://h:80/p?q", "/p?q", b"http://h:80/p?q", true),
        (b"http://h", "/", b"http://h", true),
        (b"http://h?q", "/?q", b"http://h?q", true),
        (b"http://h/p#f", "/p", b"http://h/p", true),
        (b"http://h/\xff", "/\u{fffd}", b"http://h/\xff", false),
        (b"http://h\xff/p", "/p", b"http://h\xff/p", false),
        (b"http://u@h/p", "/", b"http://u@h/p", true),
        (b"http:h", "/", b"http:h", true),
        (b"a/b", "/", b"a/b", true),
    ] {
        let name = target.escape_ascii();
        let request = get(target);
        assert_eq!(request.uri.to_string(), uri, "{name}");
        assert_eq!(request.uri.host(), None, "{name}");
        assert_eq!(request.raw_path(), raw, "{name}");
        assert_eq!(request.raw_path_is_utf8(), is_utf8, "{name}");
        let copy = get(request.raw_path());
        assert_eq!(copy.uri, request.uri, "{name}");
        assert_eq!(copy.raw_path(), raw, "{name}");
    }
}

#[test]
fn refused_targets_change_nothing() {
    let mut request = get(b"http://h/\xff");
    let long = [b"/", &[b'a'; 70_000][..]].concat();
    for target in [
        &b" "[..],
        b"/ ",
        b"/\r\n",
        b"/\t",
        b"/\0\xff",
        b"/\x7f",
        b"http://h i/",
        b"/#\n",
        b"/<",
        b"http://h/<",
        b"/`\xff",
        &long,
    ] {
        let error = request.set_raw_path(target).unwrap_err();
        assert_eq!(
            error.etype(),
            &InvalidHTTPHeader,
            "{}",
            target.escape_ascii()
        );
        assert_eq!(request.raw_path(), b"http://h/\xff");
        assert_eq!(request.uri.path(), "/\u{fffd}");
    }
}

#[test]
fn a_new_target_replaces_all_of_the_old() {
    let mut request = get(b"/\xff");
    request.set_raw_path(b"/b").unwrap();
    assert_eq!(
        (request.raw_path(), request.raw_path_is_utf8()),
        (&b"/b"[..], true)
    );
    request.set_raw_path(b"/\xff").unwrap();
    for (uri, raw) in [
        ("/c?d", "/c?d"),
        ("http://h:80/x?y", "/x?y"),
        ("http://h", "/"),
        ("h:443", "h:443"),
        ("*", "*"),
    ] {
        request.set_uri(uri.parse().unwrap());
        assert_eq!(request.raw_path(), raw.as_bytes(), "{uri}");
        assert!(request.raw_path_is_utf8());
    }
}

#[test]
fn methods() {
    for (method, expected) in [
        ("GET", Some("GET")),
        ("get", Some("get")),
        ("X-Y", Some("X-Y")),
        ("", None),
        ("G T", None),
        ("G\r\n", None),
    ] {
        let built = RequestHeader::build(method, b"/", None);
        assert_eq!(
            built.as_ref().ok().map(|r| r.method.as_str()),
            expected,
            "{method:?}"
        );
        if let Err(error) = built {
            assert_eq!(error.etype(), &InvalidHTTPHeader);
        }
    }
    let mut request = get(b"/");
    request.set_method(Method::PUT);
    assert_eq!(request.method, Method::PUT);
}

#[test]
fn file_extensions() {
    for (path, extension) in [
        ("/", None),
        ("/a", None),
        ("/a.txt", Some("txt")),
        ("/a.tar.gz?x=1.z", Some("gz")),
        ("/a.PNG", Some("PNG")),
        ("/a.", Some("")),
        ("/.b", Some("b")),
        ("/a.b/c", None),
        ("/a.b/", None),
        ("*", None),
    ] {
        assert_eq!(
            get(path.as_bytes()).uri_file_extension(),
            extension,
            "{path}"
        );
    }
}

#[test]
fn the_end_of_stream_is_a_matter_of_http2() {
    let mut request = get(b"/");
    assert_eq!(
        (request.version, request.send_end_stream()),
        (Version::HTTP_11, None)
    );
    request.set_version(Version::HTTP_2);
    assert_eq!(request.send_end_stream(), Some(true));
    request.set_send_end_stream(false);
    assert_eq!(request.send_end_stream(), Some(false));
    request.set_version(Version::HTTP_3);
    assert_eq!(request.send_end_stream(), None);
}

#[test]
fn room_is_bounded() {
    for (hint, least, most) in [
        (None, 8, 64),
        (Some(0), 0, 8),
        (Some(100), 100, 400),
        (Some(usize::MAX), 4096, 8192),
    ] {
        let capacity = RequestHeader::build("GET", b"/", hint)
            .unwrap()
            .headers
            .capacity();
        assert!((least..=most).contains(&capacity), "{hint:?}: {capacity}");
    }
}

fn started(target: Bytes, fields: usize) -> Result<RequestHeader> {
    let mut request = RequestHeader::blank();
    request.start(Method::GET, target, Version::HTTP_10, fields)?;
    Ok(request)
}

#[test]
fn a_header_that_forgets_is_as_a_blank_one() {
    let mut used = started(Bytes::from_static(b"/a?\xff"), 3).unwrap();
    used.raw_fields()
        .append(b"HOST", HeaderValue::from_static("a"))
        .unwrap();
    used.raw_fields()
        .append(b"Content-length", HeaderValue::from_static("1"))
        .unwrap();
    used.set_method(Method::PUT);
    used.set_send_end_stream(false);
    used.extensions_mut().insert(1u8);
    let room = used.headers.capacity();
    used.forget();
    assert!(used.extensions_mut().is_empty());
    assert_eq!(used.headers.capacity(), room);
    used.start(Method::GET, Bytes::from_static(b"/b"), Version::HTTP_11, 1)
        .unwrap();
    let mut blank = RequestHeader::blank();
    blank
        .start(Method::GET, Bytes::from_static(b"/b"), Version::HTTP_11, 1)
        .unwrap();
    assert_eq!(format!("{used:?}"), format!("{blank:?}"));
}

#[test]
fn what_forgets_keeps_no_large_map() {
    let mut used = started(Bytes::from_static(b"/"), 200).unwrap();
    used.forget();
    assert_eq!(used.headers.capacity(), 0);
}

#[test]
fn received_heads() {
    let head = Bytes::from_static(b"GET /path HTTP/1.0\r\nx-A: 1\r\n\r\n");
    let mut request = started(head.slice(4..9), 1).unwrap();
    request
        .raw_fields()
        .append(
            &head[20..23],
            crate::header_value_from_raw(head.slice(25..26)),
        )
        .unwrap();
    assert!(request.has_case());
    assert_eq!(request.version, Version::HTTP_10);
    assert_eq!(
        request.raw_path().as_ptr(),
        head[4..].as_ptr(),
        "the path is not copied"
    );
    let mut wire = Vec::new();
    request.header_to_h1_wire(&mut wire);
    assert_eq!(wire, b"x-A: 1\r\n");
    let bad = started(Bytes::from("/ "), 0);
    assert!(bad.is_err());
}

#[test]
fn parts_and_back() {
    let mut request = get(b"/\xff");
    request.append_header("X-A", "1").unwrap();
    request.extensions_mut().insert(7u8);
    let parts = request.as_owned_parts();
    assert_eq!(parts.headers["x-a"], "1");
    assert_eq!(AsRef::<Parts>::as_ref(&request).uri, parts.uri);
    let copy = RequestHeader::from(parts);
    assert!(!copy.has_case());
    assert_eq!(copy.extensions.get(), Some(&7u8));
    assert_eq!(copy.raw_path(), "/\u{fffd}".as_bytes());
    assert_eq!(copy.case_header_iter().count(), 0);
    assert_eq!(Parts::from(request).method, Method::GET);
}

#[test]
fn headers_are_small_and_shared() {
    fn shared<T: Send + Sync + Unpin>() {}
    shared::<RequestHeader>();
    assert!(size_of::<RequestHeader>() <= size_of::<Parts>() + 72);
}

proptest! {
    #[test]
    fn any_target_is_kept_or_refused(target in prop::collection::vec(any::<u8>(), 0..20), prefix in prop::sample::select(&["", "/", "http://", "http:", "/\u{e9}", "*"][..])) {
        let target = [prefix.as_bytes(), &target[..]].concat();
        let refused = target.iter().any(|b| *b <= b' ' || *b == 0x7f);
        if let Ok(request) = RequestHeader::build("GET", &target, None) {
            prop_assert!(!refused);
            let end = target.iter().position(|b| *b == b'#').unwrap_or(target.len());
            let expected = if end == 0 { b"/" } else { &target[..end] };
            prop_assert_eq!(request.raw_path(), expected);
            prop_assert_eq!(request.raw_path_is_utf8(), std::str::from_utf8(expected).is_ok());
            let copy = request.clone();
            prop_assert_eq!(copy.raw_path(), expected);
            let debug = format!("{copy:?} {:?}", copy.uri_file_extension());
            prop_assert!(!debug.is_empty());
        }
        let authority = crate::authority::raw_target_authority(&target);
        if let crate::authority::RawTargetAuthority::Absolute { scheme, authority, path_and_query } = authority {
            prop_assert_eq!([scheme, b"://", authority, path_and_query].concat(), target);
        }
    }
}

/// Every change of a clone, or of what it was made of, is a change of that one alone.
#[test]
fn clones_change_by_themselves() {
    type Change = fn(&mut RequestHeader);
    let changes: [(&str, Change); 12] = [
        ("append", |r| {
            r.append_header("a", "2").unwrap();
        }),
        ("append raw", |r| {
            let two = HeaderValue::from_static("2");
            r.raw_fields().append(b"b", two).unwrap();
        }),
        ("insert", |r| r.insert_header("a", "2").unwrap()),
        ("remove", |r| drop(r.remove_header("a").unwrap())),
        ("remove any", |r| r.remove_any(Names::HOST)),
        ("method", |r| r.set_method(Method::PUT)),
        ("version", |r| r.set_version(Version::HTTP_2)),
        ("uri", |r| r.set_uri(Uri::from_static("/other"))),
        ("raw path", |r| r.set_raw_path(b"/\xff").unwrap()),
        ("extensions", |r| {
            r.extensions_mut().insert(1_u8);
        }),
        ("start", |r| {
            r.start(Method::PUT, "/".into(), Version::HTTP_10, 1)
                .unwrap();
        }),
        ("forget", RequestHeader::forget),
    ];
    let said = |r: &RequestHeader| {
        let mut wire = Vec::new();
        r.header_to_h1_wire(&mut wire);
        let extension = r.extensions.get::<u8>().copied();
        let names = r.may_have(Names::HOST);
        let line = format!("{} {:?} {} {:?}", r.method, r.raw_path(), r.uri, r.version);
        (line, wire, extension, names)
    };
    for (what, change) in changes {
        let mut header = RequestHeader::build("GET", b"/x", None).unwrap();
        header.append_header("Host", "h").unwrap();
        header.append_header("A", "1").unwrap();
        let before = said(&header);
        let mut clone = header.clone();
        change(&mut clone);
        assert_eq!(said(&header), before, "{what}");
        assert_ne!(said(&clone), before, "{what}");
        let clone = header.clone();
        change(&mut header);
        assert_eq!(said(&clone), before, "{what}");
        assert_ne!(said(&header), before, "{what}");
        let parts = Parts::from(clone.clone());
        assert_eq!(parts.headers, clone.headers);
    }
}

/// A change that changes nothing copies nothing.
#[test]
fn clones_are_shared_until_one_is_changed() {
    let mut header = RequestHeader::build("GET", b"/x", None).unwrap();
    header.append_header("Host", "h").unwrap();
    let clone = header.clone();
    header.set_version(Version::HTTP_11);
    header.remove_any(Names::CONNECTION);
    assert_eq!(header.remove_header("absent"), None);
    header.set_send_end_stream(false);
    assert!(std::ptr::eq(&header.headers, &clone.headers));
    header.insert_header("a", "b").unwrap();
    assert!(!std::ptr::eq(&header.headers, &clone.headers));
}

#[test]
fn a_detached_header_is_the_same_and_shares_nothing() {
    let received = Bytes::from_static(b"/path?query\xffvalue");
    let mut request = RequestHeader::blank();
    request
        .start(Method::GET, received.slice(..11), Version::HTTP_11, 1)
        .unwrap();
    let value = crate::header_value_from_raw(received.slice(12..));
    request.raw_fields().append(b"X-Kept", value).unwrap();
    let before = request.clone();
    request.detach();
    assert_eq!(request.uri, before.uri);
    assert_eq!(request.raw_path(), b"/path?query");
    assert_eq!(request.headers, before.headers);
    for kept in [
        request.uri.path().as_ptr(),
        request.headers["x-kept"].as_bytes().as_ptr(),
    ] {
        assert!(!received.as_ptr_range().contains(&kept));
    }
    for uri in ["http://a:80/b?c", "*", "/"] {
        request.set_uri(uri.parse().unwrap());
        request.detach();
        assert_eq!(request.uri, uri);
    }
}

#[test]
fn lines_are_sent_and_are_fields_for_who_reads_them() {
    let wire = |header: &RequestHeader| {
        let mut wire = Vec::new();
        header.header_to_h1_wire(&mut wire);
        String::from_utf8(wire).unwrap()
    };
    let (ours, host) = (HeaderName::from_static("x-ours"), http::header::HOST);
    let mut header = RequestHeader::build("GET", b"/", None).unwrap();
    header.append_header("Host", "a").unwrap();
    header.append_header("X-Ours", "theirs").unwrap();
    header.remove_named(&ours);
    header.append_line(&ours, b"1").unwrap();
    header.append_line(&ours, b"").unwrap();
    let copy = HeaderName::from_static("x-copy");
    header.append_line_of(&copy, &host).unwrap();
    header.append_line_of(&copy, &http::header::COOKIE).unwrap();
    header.append_line(&http::header::COOKIE, b"c=1").unwrap();
    assert!(header
        .append_line(&ours, b"a\r\nb: c")
        .is_err_and(|e| e.etype() == &InvalidHTTPHeader));
    let sent = "Host: a\r\nCookie: c=1\r\nx-ours: 1\r\nx-ours: \r\nx-copy: a\r\n";
    assert_eq!(wire(&header), sent);
    assert_eq!(header.headers.len(), 2);
    assert!(header.values_of(&ours).eq([&b"1"[..], b""]));
    assert!(header.values_of(&host).eq([b"a"]));
    let mut names = Vec::new();
    let mapped = header.map(|name, value| {
        if let HeaderNameVariant::Titled(name) = name {
            names.push(format!("{name}={}", value.to_str().unwrap()));
        }
        Ok(())
    });
    mapped.unwrap();
    assert_eq!(names, ["x-ours=1", "x-ours=", "x-copy=a"]);
    assert_eq!(header.as_owned_parts().headers.len(), 5);
    assert_eq!(Parts::from(header.clone()).headers["x-copy"], "a");

    let mut settled = header.clone();
    settled.settle_lines().unwrap();
    assert_eq!(settled.headers.get_all(&ours).iter().count(), 2);
    assert_eq!(wire(&settled), sent);
    settled.remove_named(&ours);
    assert_eq!(wire(&settled), "Host: a\r\nCookie: c=1\r\nx-copy: a\r\n");

    let mut changed = header.clone();
    changed.insert_header("X-Ours", "2").unwrap();
    assert_eq!(changed.headers.get_all(&ours).iter().count(), 1);
    assert!(wire(&changed).contains("X-Ours: 2\r\nx-copy: a\r\n"));
    let mut changed = header.clone();
    assert_eq!(changed.remove_header("x-ours").unwrap(), "1");
    assert!(!wire(&changed).contains("x-ours"));
    let mut both = header.clone();
    both.raw_fields()
        .append_named(&ours, HeaderValue::from_static("0"))
        .unwrap();
    assert!(both.values_of(&ours).eq([&b"0"[..], b"1", b""]));
    let mut changed = header.clone();
    assert!(changed.append_header("x-ours", "3").unwrap());

    header.remove_named(&ours);
    assert_eq!(wire(&header), "Host: a\r\nCookie: c=1\r\nx-copy: a\r\n");
    header.forget();
    assert_eq!(wire(&header), "");
}

#[test]
fn a_field_is_named_as_usual_and_removed_with_what_is_known_of_it() {
    let mut header = RequestHeader::build("GET", b"/", None).unwrap();
    let value = HeaderValue::from_static("5");
    let mut fields = header.raw_fields();
    for name in ["content-length", "x-own", "content-length"] {
        let name = HeaderName::from_static(name);
        fields.append_named(&name, value.clone()).unwrap();
    }
    let mut wire = Vec::new();
    header.header_to_h1_wire(&mut wire);
    let expected = b"Content-Length: 5\r\nContent-Length: 5\r\nx-own: 5\r\n";
    assert_eq!(wire, expected);
    header.remove_named(&http::header::CONTENT_LENGTH);
    header.remove_named(&http::header::DATE);
    assert_eq!(header.index().content_length(), None);
    assert!(!header.may_have(Names::CONTENT_LENGTH));
    assert_eq!(header.headers.len(), 1);
}
