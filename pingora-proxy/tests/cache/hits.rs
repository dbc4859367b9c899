//! How a stored response is served.

use crate::common::*;
use crate::fixture::*;
use pingora_cache::CachePhase;
use pingora_core::apps::HttpServerOptions;
use pingora_core::Error;
use std::time::Duration;

const DIGITS: &str = "0123456789";
const HEAD: &str = "200\r\nContent-Type: text/plain\r\nContent-Length: 10\r\nETag: \"1\"\r\n\
    Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT";

/// A proxy with ten digits at /digits, and an origin that is not to be asked.
fn digits(set: impl FnOnce(&mut Caching)) -> (Counting, Proxy, Log) {
    let origin = Counting::answering(|_, _| ok("", "origin"));
    let mut app = Caching::to(&origin.origin);
    set(&mut app);
    store(app.storage, &key("/digits"), &meta(60, HEAD), DIGITS);
    let seen = app.seen();
    (origin, Proxy::start(app), seen)
}

#[test]
fn a_fresh_response_is_served_without_the_origin() {
    let (origin, proxy, seen) = digits(|_| ());
    let mut client = proxy.connect();
    for request in 1..=3 {
        let response = get(&mut client, "/digits", "");
        assert_eq!(response.status(), 200);
        assert_eq!(response.text(), DIGITS);
        let age: u64 = response.field("Age").unwrap().parse().unwrap();
        assert!(age < 60, "{age}");
        assert_eq!(response.field("ETag"), Some("\"1\""));
        assert_eq!(response.field("Accept-Ranges"), Some("bytes"));
        let seen = seen.last(request);
        assert_eq!(seen.phase, CachePhase::Hit);
        assert!(!seen.upstream_used);
        assert!(seen.error.is_none());
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn the_request_body_is_read_over() {
    let (origin, proxy, _) = digits(|_| ());
    let mut client = proxy.connect();
    client.send("GET /digits HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(client.read_response().text(), DIGITS);
    assert_eq!(get(&mut client, "/digits", "").text(), DIGITS);
    assert_eq!(origin.count(), 0);
}

#[test]
fn what_has_no_length_is_chunked() {
    let (_origin, proxy, _) = digits(|app| {
        store(app.storage, &key("/open"), &meta(60, "200"), DIGITS);
        store(app.storage, &key("/empty"), &meta(60, "200"), "");
    });
    let mut client = proxy.connect();
    for (path, body) in [("/open", DIGITS), ("/empty", "")] {
        let response = get(&mut client, path, "");
        assert_eq!(response.field("Transfer-Encoding"), Some("chunked"));
        assert_eq!(response.field("Content-Length"), None);
        assert_eq!(response.text(), body);
    }
    client.send("GET /open HTTP/1.0\r\n\r\n");
    let response = client.read_response();
    assert_eq!(response.field("Transfer-Encoding"), None);
    assert_eq!(response.text(), DIGITS);
    client.expect_end();
}

#[test]
fn responses_without_a_body() {
    let (origin, proxy, _) = digits(|app| {
        store(app.storage, &key("/none"), &meta(60, "204"), "");
        store(
            app.storage,
            &key("/length-0"),
            &meta(60, "200\r\nContent-Length: 0"),
            "",
        );
    });
    let mut client = proxy.connect();
    let none = get(&mut client, "/none", "");
    assert_eq!(
        (none.status(), none.field("Transfer-Encoding")),
        (204, None)
    );
    let empty = get(&mut client, "/length-0", "");
    assert_eq!((empty.status(), empty.text()), (200, ""));
    let head = ask(&mut client, "HEAD", "/digits", "");
    assert_eq!(head.field("Content-Length"), Some("10"));
    assert_eq!(get(&mut client, "/digits", "").text(), DIGITS);
    assert_eq!(origin.count(), 0);
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    let (origin, proxy, _) = digits(|_| ());
    let mut client = proxy.connect();
    let rows = [
        ("If-None-Match: \"1\"\r\n", 304),
        ("If-None-Match: W/\"1\", \"2\"\r\n", 304),
        ("If-None-Match: *\r\n", 304),
        ("If-None-Match: \"2\"\r\n", 200),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 304),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", 200),
        // The tag decides, and before the range.
        ("If-None-Match: \"1\"\r\nRange: bytes=0-1\r\n", 304),
        (
            "If-None-Match: \"2\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            200,
        ),
    ];
    for (fields, status) in rows {
        let response = get(&mut client, "/digits", fields);
        assert_eq!(response.status(), status, "{fields}");
        if status == 304 {
            assert_eq!(response.field("ETag"), Some("\"1\""));
            assert_eq!(response.field("Content-Length"), None);
            assert_eq!(response.field("Transfer-Encoding"), None);
        }
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn one_part() {
    let (origin, proxy, _) = digits(|_| ());
    let mut client = proxy.connect();
    let rows = [
        ("Range: bytes=0-0\r\n", 206, "0", "bytes 0-0/10"),
        ("Range: bytes=2-4\r\n", 206, "234", "bytes 2-4/10"),
        ("Range: bytes=-3\r\n", 206, "789", "bytes 7-9/10"),
        ("Range: bytes=8-\r\n", 206, "89", "bytes 8-9/10"),
        (
            "Range: bytes=2-4\r\nIf-Range: \"1\"\r\n",
            206,
            "234",
            "bytes 2-4/10",
        ),
        ("Range: bytes=2-4\r\nIf-Range: \"2\"\r\n", 200, DIGITS, ""),
        ("Range: lines=2-4\r\n", 200, DIGITS, ""),
        ("Range: bytes=10-\r\n", 416, "", "bytes */10"),
    ];
    for (fields, status, body, range) in rows {
        let response = get(&mut client, "/digits", fields);
        assert_eq!(response.status(), status, "{fields}");
        assert_eq!(response.text(), body, "{fields}");
        let told = response.field("Content-Range");
        assert_eq!(told.unwrap_or_default(), range, "{fields}");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn several_parts() {
    let (_origin, proxy, _) = digits(|_| ());
    let response = get(&mut proxy.connect(), "/digits", "Range: bytes=7-8,0-1\r\n");
    assert_eq!(response.status(), 206);
    let kind = response.field("Content-Type").unwrap();
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let part = |range, body| {
        format!("\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {range}/10\r\n\r\n{body}")
    };
    let parts = [part("0-1", "01"), part("7-8", "78")].concat();
    assert_eq!(response.text(), format!("{parts}\r\n--{boundary}--\r\n"));
}

#[test]
fn ranges_can_be_left_out() {
    let (_origin, proxy, _) = digits(|app| {
        app.set = Box::new(|session| session.ignore_downstream_range = true);
    });
    let response = get(&mut proxy.connect(), "/digits", "Range: bytes=0-0\r\n");
    assert_eq!((response.status(), response.text()), (200, DIGITS));
}

#[test]
fn the_filters_see_what_is_stored() {
    let (_origin, proxy, _) = digits(|app| {
        app.response_filter = Box::new(|header| header.insert_header("filtered", "yes"));
        app.body_filter = Box::new(|body, _| {
            if let Some(some) = body {
                *body = Some(some.to_ascii_lowercase().iter().rev().copied().collect());
            }
            Ok(Some(Duration::from_millis(1)))
        });
    });
    let response = get(&mut proxy.connect(), "/digits", "");
    assert_eq!(response.field("filtered"), Some("yes"));
    assert_eq!(response.text(), "9876543210");
}

#[test]
fn a_refused_header_is_a_500_on_a_connection_that_goes_on() {
    let (origin, proxy, _) = digits(|app| {
        app.response_filter = Box::new(|header| match header.headers.contains_key("etag") {
            true => Error::e_explain(pingora_core::ErrorType::InternalError, "as asked"),
            false => Ok(()),
        });
        store(app.storage, &key("/open"), &meta(60, "200"), DIGITS);
    });
    let mut client = proxy.connect();
    assert_eq!(get(&mut client, "/digits", "").status(), 500);
    assert_eq!(get(&mut client, "/open", "").text(), DIGITS);
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_failed_body_filter_ends_the_connection() {
    let (_origin, proxy, seen) = digits(|app| {
        app.body_filter =
            Box::new(|_, _| Error::e_explain(pingora_core::ErrorType::InternalError, "as asked"));
    });
    let mut client = proxy.connect();
    client.send("GET /digits HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_to_end();
    assert!(seen.last(1).error.is_some());
}

#[test]
fn a_body_that_is_shorter_than_its_header_says_is_cut_short() {
    let (_origin, proxy, seen) = digits(|app| {
        store(app.storage, &key("/short"), &meta(60, HEAD), "01234");
    });
    let mut client = proxy.connect();
    for (request, fields) in ["", "Range: bytes=3-8\r\n"].iter().enumerate() {
        client = proxy.connect();
        client.send(format!("GET /short HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        let read = String::from_utf8(client.read_to_end()).unwrap();
        let (_, body) = read.split_once("\r\n\r\n").unwrap_or_default();
        assert!("01234".contains(body), "{read}");
        assert!(seen.last(request + 1).error.is_some());
    }
    drop(client);
}

#[test]
fn age_counts_from_the_origin() {
    let (_origin, proxy, _) = digits(|app| {
        let head = "200\r\nAge: 100\r\nContent-Length: 10";
        store(app.storage, &key("/old"), &meta(60, head), DIGITS);
    });
    let response = get(&mut proxy.connect(), "/old", "");
    let age: u64 = response.field("Age").unwrap().parse().unwrap();
    assert!((100..160).contains(&age), "{age}");
}

#[test]
fn a_large_body_waits_for_its_client() {
    let body: String = "0123456789abcdef".repeat(1 << 18);
    let whole = body.clone();
    let (_origin, proxy, _) = digits(move |app| {
        let head = format!("200\r\nContent-Length: {}", body.len());
        store(app.storage, &key("/large"), &meta(60, &head), &body);
    });
    let mut client = proxy.connect();
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    // Others are served while this one does not read.
    assert_eq!(get(&mut proxy.connect(), "/digits", "").text(), DIGITS);
    let response = client.read_response();
    assert!(response.body == whole.as_bytes());
}

#[test]
fn over_http2() {
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    let setup = Setup {
        options,
        ..Setup::default()
    };
    let origin = Counting::answering(|_, _| ok("", "origin"));
    let app = Caching::to(&origin.origin);
    store(app.storage, &key("/digits"), &meta(60, HEAD), DIGITS);
    store(app.storage, &key("/open"), &meta(60, "200"), DIGITS);
    let proxy = Proxy::start_with(setup, app);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::UnixStream::connect(proxy.path()).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        for (path, fields, status, body) in [
            ("/digits", ("x", "y"), 200, DIGITS),
            ("/open", ("x", "y"), 200, DIGITS),
            ("/digits", ("range", "bytes=2-4"), 206, "234"),
            ("/digits", ("if-none-match", "\"1\""), 304, ""),
        ] {
            let asked = http::Request::get(format!("http://a{path}"))
                .header(fields.0, fields.1)
                .body(())
                .unwrap();
            let mut client = client.clone().ready().await.unwrap();
            let (response, _) = client.send_request(asked, true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), status, "{path} {fields:?}");
            assert!(response.headers().contains_key("age"));
            let (mut got, mut pieces) = (Vec::new(), response.into_body());
            while let Some(piece) = pieces.data().await {
                got.extend(piece.unwrap());
            }
            assert_eq!(got, body.as_bytes(), "{path} {fields:?}");
        }
    });
    assert_eq!(origin.count(), 0);
}
