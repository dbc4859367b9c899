use super::*;
use http::header::HeaderValue;
use http::Uri;
use proptest::prelude::*;

fn request(method: &str, target: &str, version: Version, hosts: &[&str]) -> RequestHeader {
    let mut req = RequestHeader::build(method, target.as_bytes(), None).unwrap();
    req.set_version(version);
    for host in hosts {
        let host = HeaderValue::from_bytes(host.as_bytes()).unwrap();
        req.append_header("host", host).unwrap();
    }
    req
}

#[test]
fn http1_requests_name_one_authority() {
    let old = Version::HTTP_10;
    let new = Version::HTTP_11;
    for (method, target, version, hosts, refused_for) in [
        ("GET", "/", new, &["a.example"][..], None),
        ("GET", "/", new, &[""], None),
        ("GET", "/", new, &[], Some("no Host in HTTP/1.1")),
        ("GET", "/", old, &[], None),
        ("GET", "/", old, &["a b"], Some("malformed Host")),
        ("GET", "/", new, &["a", "a"], Some("more than one Host")),
        ("GET", "/", old, &["a", "b"], Some("more than one Host")),
        ("GET", "/", new, &["a/b"], Some("malformed Host")),
        ("OPTIONS", "*", new, &["a"], None),
        ("GET", "/http://b/", new, &["a"], None),
        ("GET", "http://a/", new, &["a"], None),
        ("GET", "http://a", new, &["a"], None),
        ("GET", "HTTP://A/", new, &["a"], None),
        ("GET", "http://a:80/", new, &["a"], None),
        ("GET", "http://a/", new, &["a:80"], None),
        ("GET", "http://a:/", new, &["a:80"], None),
        ("GET", "https://a/", new, &["a:443"], None),
        ("GET", "http://[::1]:8080/", new, &["[::1]:8080"], None),
        ("GET", "http://a/", old, &[], None),
        ("GET", "http://a/", new, &[], Some("no Host in HTTP/1.1")),
        (
            "GET",
            "http://a/",
            new,
            &["b"],
            Some("Host is not the target's authority"),
        ),
        (
            "GET",
            "http://a/",
            new,
            &[""],
            Some("Host is not the target's authority"),
        ),
        (
            "GET",
            "https://a/",
            new,
            &["a:80"],
            Some("Host is not the target's authority"),
        ),
        (
            "GET",
            "http://a:8080/",
            new,
            &["a"],
            Some("Host is not the target's authority"),
        ),
        ("CONNECT", "a:443", new, &["a:443"], None),
        (
            "CONNECT",
            "a:443",
            new,
            &["a"],
            Some("Host is not the target's authority"),
        ),
        (
            "CONNECT",
            "a:99999",
            new,
            &["a"],
            Some("malformed authority of the target"),
        ),
    ] {
        let found = check(&request(method, target, version, hosts)).err();
        assert_eq!(
            found, refused_for,
            "{method} {target} {version:?} {hosts:?}"
        );
    }
}

#[test]
fn userinfo_is_refused() {
    let req = request("GET", "http://user@a/", Version::HTTP_11, &["a"]);
    let error = validate_request_authority(&req).unwrap_err();
    assert_eq!(*error.etype(), ErrorType::InvalidHTTPHeader);
}

#[test]
fn http2_requests_name_one_authority() {
    for (uri, hosts, refused_for) in [
        ("https://a.example/", &[][..], None),
        ("https://a.example/", &["A.example"], None),
        ("https://a.example/", &["a.example:443"], None),
        (
            "https://a.example/",
            &["b.example"],
            Some("Host is not the target's authority"),
        ),
        ("/", &["b.example"], None),
        ("/", &[], None),
        ("/", &["b", "b"], Some("more than one Host")),
        (
            "https://user@a.example/",
            &[],
            Some("malformed authority of the target"),
        ),
    ] {
        let mut req = request("GET", "/", Version::HTTP_2, hosts);
        req.set_uri(uri.parse::<Uri>().unwrap());
        assert_eq!(check(&req).err(), refused_for, "{uri} {hosts:?}");
    }
}

proptest! {
    #[test]
    fn a_valid_host_is_one_part_of_a_uri(host in "[a-z0-9.:%@/\\[\\]?# -]{0,12}") {
        if is_valid_host(host.as_bytes()) {
            prop_assert!(!host.contains(['@', '/', '?', '#', ' ']));
            // RFC 3986 3.2.2 allows a name to be percent-encoded, `http::Uri` does not.
            prop_assume!(!host.contains('%'));
            let uri: Uri = format!("http://{host}/").parse().unwrap();
            prop_assert_eq!(uri.authority().unwrap().as_str(), host);
        }
    }

    #[test]
    fn any_request_is_survived(target in "[ -~]{1,30}", host in "[ -~]{0,20}") {
        if let Ok(mut req) = RequestHeader::build("GET", target.as_bytes(), None) {
            if let Ok(host) = HeaderValue::try_from(host) {
                req.append_header("host", host).unwrap();
            }
            let _ = validate_request_authority(&req);
        }
    }
}
