use super::*;

/// An attribute, where it is defined, the names that have it, and names near them that do not.
type Row = (
    FieldRules,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const ROWS: &[Row] = &[
    (
        FieldRules::HOP_BY_HOP,
        "RFC 9110 sections 7.6.1 and 10.1.4, RFC 7540 section 3.2.1",
        &[
            "connection",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
            "te",
        ],
        // Trailer and Proxy-Authenticate are for the client as well (RFC 9110 sections 6.6.2 and 11.7.1).
        &[
            "trailer",
            "proxy-authenticate",
            "proxy-authorization",
            "via",
            "close",
        ],
    ),
    (
        FieldRules::NOT_IN_HTTP2,
        "RFC 9113 section 8.2.2",
        &[
            "connection",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
        ],
        // TE may say `trailers` there.
        &["te", "trailer", "host", "http2-settings"],
    ),
    (
        FieldRules::FOR_THIS_PROXY,
        "RFC 9110 section 11.7.2",
        &["proxy-authorization"],
        &[
            "proxy-authenticate",
            "proxy-authentication-info",
            "authorization",
        ],
    ),
    (
        FieldRules::NOT_IN_TRAILERS,
        "RFC 9110 section 6.5.1",
        &[
            "connection",
            "content-encoding",
            "content-length",
            "content-range",
            "content-type",
            "host",
            "http2-settings",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ],
        &[
            "authentication-info",
            "content-digest",
            "etag",
            "grpc-status",
            "hosts",
            "retry-after",
            "server-timing",
            "set-cookie",
            "x-sum",
        ],
    ),
    (
        FieldRules::NOT_IN_REQUEST_TRAILERS,
        "RFC 9110 section 6.5.1",
        &[
            "authorization",
            "cache-control",
            "cf-ray",
            "client-ip",
            "content-location",
            "cookie",
            "early-data",
            "expect",
            "forwarded",
            "if-match",
            "max-forwards",
            "origin",
            "pragma",
            "priority",
            "proxy-authorization",
            "range",
            "referer",
            "sec-fetch-site",
            "sec-websocket-accept",
            "sec-websocket-key",
            "true-client-ip",
            "via",
            "x-client-ip",
            "x-forwarded-user",
            "x-http-method",
            "x-http-method-override",
            "x-method-override",
            "x-original-url",
            "x-real-ip",
            "x-rewrite-url",
        ],
        &[
            "content-digest",
            "etag",
            "iffy",
            "server-timing",
            "x-checksum",
            "x-forward",
        ],
    ),
    (
        FieldRules::PROTECTED,
        "RFC 9110 section 7.6.1",
        &[
            "cf-connecting-ip",
            "client-ip",
            "content-length",
            "forwarded",
            "host",
            "true-client-ip",
            "via",
            "x-client-ip",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-original-url",
            "x-real-ip",
            "x-rewrite-url",
        ],
        &[
            "x-forwarded",
            "x-forward",
            "close",
            "keep-alive",
            "te",
            "x-mine",
        ],
    ),
    (
        FieldRules::HTTP1_HANDSHAKE,
        "RFC 6455 section 4.2, RFC 8441 section 5",
        &["sec-websocket-accept", "sec-websocket-key"],
        // These go on in HTTP/2.
        &[
            "sec-websocket-extensions",
            "sec-websocket-protocol",
            "sec-websocket-version",
        ],
    ),
];

#[test]
fn every_attribute_is_on_the_fields_that_its_rfc_names() {
    for (attribute, rfc, with, without) in ROWS {
        for (names, expected) in [(with, true), (without, false)] {
            for name in *names {
                let rules = FieldRules::of(&HeaderName::from_static(name));
                assert_eq!(rules.has_any(*attribute), expected, "{name}: {rfc}");
            }
        }
        for name in attribute.fields() {
            assert!(
                with.contains(&name.as_str()),
                "{name} is not named for {rfc}"
            );
        }
    }
    let tested = ROWS.iter().fold(FieldRules(0), |all, row| all.or(row.0));
    assert_eq!(tested, FieldRules(0x7f), "an attribute has no row here");
}

#[test]
fn the_sets_of_names_are_those_of_the_table() {
    for (set, attribute) in [
        (Names::HOP_BY_HOP, FieldRules::HOP_BY_HOP),
        (Names::OF_CONNECTION, FieldRules::NOT_IN_HTTP2),
        (Names::FOR_THIS_PROXY, FieldRules::FOR_THIS_PROXY),
    ] {
        for (name, rules) in FIELDS {
            let only = Names::only(&HeaderName::from_static(name));
            assert_eq!(set.has_any(only), rules.has_any(attribute), "{name}");
        }
    }
}

#[test]
fn a_name_has_one_row() {
    for (at, (name, rules)) in FIELDS.iter().enumerate() {
        assert!(
            FIELDS[..at].iter().all(|(other, _)| other != name),
            "{name}"
        );
        assert_eq!(
            FieldRules::of(&HeaderName::from_static(name)),
            *rules,
            "{name}"
        );
    }
}
