//! Claims about the client, and who is believed.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{client, Trusted};
use crate::config::model::ForwardedFields;
use crate::config::section::Scalar;
use crate::config::values::Network;
use crate::plan::networks::Networks;

type Claims<'a> = &'a [(&'a str, &'a str)];

fn trusted(fields: ForwardedFields) -> Trusted {
    let all = ["10.0.0.0/8", "2001:db8:1::/48"].map(|n| Network::parse(n).unwrap());
    Trusted {
        networks: Networks::new(all.iter().map(|n| (n, true))),
        unix: false,
        fields,
    }
}

/// Returns the client as `address scheme host`.
fn found(fields: ForwardedFields, peer: &str, claims: &[(&str, &str)]) -> String {
    let mut headers = HeaderMap::new();
    for (name, value) in claims {
        headers.append(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let trusted = trusted(fields);
    let client = client(Some(&trusted), Some(peer.parse().unwrap()), false, &headers);
    let Some(client) = client else {
        return "none".into();
    };
    format!(
        "{} {} {}",
        client.ip.unwrap(),
        if client.secure { "https" } else { "http" },
        client.host.unwrap_or("-")
    )
}

#[test]
fn x_forwarded_fields_count_from_their_end_and_from_trusted_proxies_only() {
    let xff = "x-forwarded-for";
    let table: [(&str, Claims<'_>, &str); 16] = [
        // Nobody but a trusted proxy is believed.
        (
            "192.0.2.9",
            &[(xff, "10.0.0.1"), ("x-forwarded-proto", "https")],
            "192.0.2.9 http -",
        ),
        ("10.0.0.1", &[], "10.0.0.1 http -"),
        ("10.0.0.1", &[(xff, "192.0.2.1")], "192.0.2.1 http -"),
        // What a client put there first.
        (
            "10.0.0.1",
            &[(xff, "127.0.0.1, 192.0.2.1")],
            "192.0.2.1 http -",
        ),
        (
            "10.0.0.1",
            &[(xff, "10.9.9.9, 192.0.2.1, 10.0.0.2")],
            "192.0.2.1 http -",
        ),
        (
            "10.0.0.1",
            &[(xff, "127.0.0.1"), (xff, "192.0.2.1")],
            "192.0.2.1 http -",
        ),
        ("10.0.0.1", &[(xff, "192.0.2.1,")], "10.0.0.1 http -"),
        (
            "10.0.0.1",
            &[(xff, "192.0.2.1, unknown, 10.0.0.2")],
            "10.0.0.2 http -",
        ),
        (
            "10.0.0.1",
            &[(xff, "192.0.2.1, 10.0.0.2 10.0.0.3")],
            "10.0.0.1 http -",
        ),
        // All of them are proxies: the first is the client.
        (
            "10.0.0.1",
            &[(xff, "10.0.0.3, 10.0.0.2")],
            "10.0.0.3 http -",
        ),
        ("10.0.0.1", &[(xff, "192.0.2.1:4711")], "192.0.2.1 http -"),
        (
            "10.0.0.1",
            &[(xff, "[2001:db8::7]:4711")],
            "2001:db8::7 http -",
        ),
        (
            "::ffff:10.0.0.1",
            &[(xff, "::ffff:192.0.2.1")],
            "192.0.2.1 http -",
        ),
        (
            "2001:db8:1::1",
            &[(xff, "192.0.2.1"), ("x-forwarded-host", "a.test:81")],
            "192.0.2.1 http a.test:81",
        ),
        (
            "10.0.0.1",
            &[
                (xff, "192.0.2.1"),
                ("x-forwarded-proto", "http, HTTPS"),
                ("x-forwarded-host", "a/b"),
            ],
            "192.0.2.1 https -",
        ),
        // The other field is not this proxy's.
        (
            "10.0.0.1",
            &[
                (xff, "192.0.2.1"),
                ("forwarded", "for=192.0.2.66;proto=https"),
            ],
            "192.0.2.1 http -",
        ),
    ];
    for (peer, claims, expected) in table {
        let found = found(ForwardedFields::XForwarded, peer, claims);
        assert_eq!(found, expected, "{peer} {claims:?}");
    }
}

#[test]
fn forwarded_counts_from_its_end_and_from_trusted_proxies_only() {
    let table = [
        ("192.0.2.9", "for=10.0.0.1;proto=https", "192.0.2.9 http -"),
        (
            "10.0.0.1",
            "for=192.0.2.1;proto=https;host=a.test",
            "192.0.2.1 https a.test",
        ),
        (
            "10.0.0.1",
            "For=\"[2001:db8::7]:47\" ; Proto=HTTPS",
            "2001:db8::7 https -",
        ),
        (
            "10.0.0.1",
            "for=127.0.0.1;proto=https, for=192.0.2.1",
            "192.0.2.1 http -",
        ),
        (
            "10.0.0.1",
            "for=192.0.2.1;proto=https;host=a.test, for=10.0.0.2;proto=http;host=b.test",
            "192.0.2.1 https a.test",
        ),
        (
            "10.0.0.1",
            "for=192.0.2.1, for=_hidden, for=10.0.0.2",
            "10.0.0.2 http -",
        ),
        // A client's quote takes in what the proxy says.
        ("10.0.0.1", "for=\"x, for=192.0.2.1", "none"),
        ("192.0.2.9", "for=\"x, for=192.0.2.1", "192.0.2.9 http -"),
        (
            "10.0.0.1",
            "for=\"a, for=127.0.0.1\", for=192.0.2.1",
            "192.0.2.1 http -",
        ),
        ("10.0.0.1", "for=192.0.2.1;for=192.0.2.2", "none"),
        ("10.0.0.1", "for", "none"),
        ("10.0.0.1", "proto=https", "10.0.0.1 https -"),
    ];
    for (peer, value, expected) in table {
        let claims = [("forwarded", value), ("x-forwarded-for", "192.0.2.66")];
        let found = found(ForwardedFields::Forwarded, peer, &claims);
        assert_eq!(found, expected, "{peer} {value}");
    }
}

#[test]
fn a_malformed_value_counts_where_the_client_would_stand_alone() {
    let found = |lines: &[&str]| {
        let claims: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
        found(ForwardedFields::Forwarded, "10.0.0.1", &claims)
    };
    assert_eq!(found(&["for=\"x", "for=192.0.2.1"]), "192.0.2.1 http -");
    assert_eq!(
        found(&["for=\"x", "for=192.0.2.1, for=10.0.0.2"]),
        "192.0.2.1 http -"
    );
    assert_eq!(found(&["for=\"x", "for=10.0.0.2"]), "none");
    assert_eq!(found(&["for=192.0.2.1", "for=\"x"]), "none");
}

#[test]
fn those_without_an_address_are_proxies_where_that_is_said() {
    let mut headers = HeaderMap::new();
    let claim = HeaderValue::from_static("192.0.2.1, 10.0.0.2");
    headers.insert("x-forwarded-for", claim);
    let mut trusted = trusted(ForwardedFields::XForwarded);
    for unix in [false, true] {
        trusted.unix = unix;
        let found = client(Some(&trusted), None, false, &headers).unwrap();
        assert_eq!(found.ip, unix.then(|| "192.0.2.1".parse().unwrap()));
        assert_eq!(found.proxied, unix);
    }
}
