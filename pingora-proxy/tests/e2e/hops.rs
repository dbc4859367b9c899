//! How far TRACE and OPTIONS go: Max-Forwards (RFC 9110 section 7.6.2).

use super::common::*;

/// What the proxy makes of a request line and these fields: the answer, and the Max-Forwards that the origin got, if it
/// got the request.
fn told(line: &str, fields: &str) -> (Response, Option<Option<String>>) {
    let (tell, told) = std::sync::mpsc::channel();
    let origin = Origin::scripted(move |mut wire, _| {
        while wire.has_more() {
            let request = wire.read_message();
            tell.send(request.field("Max-Forwards").map(str::to_string))
                .unwrap();
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\norigin");
        }
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send(format!(
        "{line} HTTP/1.1\r\nHost: a\r\nCookie: secret\r\nAuthorization: Basic c2VjcmV0\r\n{fields}\r\n"
    ));
    let response = client.read_response();
    let seen = told.try_recv().ok();
    if response.status() < 400 || response.status() == 405 {
        // An answer of the proxy's own ends the exchange and not the connection.
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.read_response().text(), "origin");
    }
    (response, seen)
}

#[test]
fn the_last_hop_answers_itself() {
    for target in ["*", "/", "http://a/x"] {
        for fields in ["Max-Forwards: 0\r\n", "Max-Forwards: 00\r\n"] {
            let (response, seen) = told(&format!("OPTIONS {target}"), fields);
            assert_eq!((response.status(), seen), (200, None));
            assert_eq!(response.field("Allow"), Some("OPTIONS"));
            assert_eq!(response.field("Content-Length"), Some("0"));
        }
    }
    let body = "Max-Forwards: 0\r\nContent-Length: 2\r\n\r\nok";
    let (tell, told_by) = std::sync::mpsc::channel::<()>();
    let origin = Origin::scripted(move |mut wire, _| {
        if wire.has_more() {
            tell.send(()).unwrap();
        }
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send(format!("OPTIONS / HTTP/1.1\r\nHost: a\r\n{body}"));
    assert_eq!(client.read_response().status(), 200);
    assert!(told_by.try_recv().is_err());

    let (response, seen) = told("TRACE /", "Max-Forwards: 0\r\n");
    assert_eq!((response.status(), seen), (405, None));
    assert_eq!(response.field("Allow"), Some("OPTIONS"));
    let all = format!("{}{}", response.head, response.text());
    assert!(
        !all.contains("secret") && !all.contains("c2VjcmV0"),
        "{all}"
    );
}

#[test]
fn each_hop_counts() {
    for (line, fields, expected) in [
        ("OPTIONS *", "Max-Forwards: 1\r\n", Some("0")),
        ("OPTIONS /", "Max-Forwards: 10\r\n", Some("9")),
        ("TRACE /", "Max-Forwards: 5\r\n", Some("4")),
        ("OPTIONS /", "", None),
        // It means nothing to other methods.
        ("GET /", "Max-Forwards: 0\r\n", Some("0")),
        ("POST /", "Max-Forwards: x\r\n", Some("x")),
    ] {
        let (response, seen) = told(line, fields);
        assert_eq!(response.text(), "origin", "{line} {fields}");
        let seen = seen.expect("the origin is asked");
        assert_eq!(seen.as_deref(), expected, "{line} {fields}");
    }
}

#[test]
fn what_cannot_be_counted_is_refused() {
    for fields in [
        "Max-Forwards: x\r\n",
        "Max-Forwards: -1\r\n",
        "Max-Forwards:\r\n",
        "Max-Forwards: 1\r\nMax-Forwards: 1\r\n",
    ] {
        let (response, seen) = told("OPTIONS /", fields);
        assert_eq!((response.status(), seen), (400, None), "{fields}");
    }
}
