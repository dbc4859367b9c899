//! The fields of a header against a plain list of them.

use super::*;
use crate::{RequestHeader, ResponseHeader};
use bytes::Bytes;
use proptest::prelude::*;

/// Spellings of a few names: standard, common, other, long, and of equal length.
const NAMES: &[&str] = &[
    "Host",
    "host",
    "HOST",
    "Date",
    "date",
    "Set-Cookie",
    "set-cookie",
    "SET-cookie",
    "ETag",
    "Etag",
    "x-request-id",
    "X-Request-ID",
    "X-Request-Id",
    "x-foo",
    "X-Foo",
    "X-FOO",
    "range",
    "Range",
    "x-bar",
    "X-Bar",
    "x-a-name-that-is-far-too-long-to-be-stored-in-place",
    "X-A-Name-That-Is-Far-Too-Long-To-Be-Stored-In-Place",
];

#[derive(Clone, Debug)]
enum Change {
    Append(&'static str),
    AppendString(&'static str),
    AppendName(&'static str),
    AppendRaw(&'static str),
    Insert(&'static str),
    InsertName(&'static str),
    Remove(&'static str),
    Clone,
}

fn change() -> impl Strategy<Value = Change> {
    let name = || prop::sample::select(NAMES);
    prop_oneof![
        4 => name().prop_map(Change::Append),
        4 => name().prop_map(Change::AppendRaw),
        1 => name().prop_map(Change::AppendString),
        1 => name().prop_map(Change::AppendName),
        2 => name().prop_map(Change::Insert),
        1 => name().prop_map(Change::InsertName),
        2 => name().prop_map(Change::Remove),
        1 => Just(Change::Clone),
    ]
}

/// A model of a header: each field by spelling and value, in the order added.
#[derive(Default)]
struct Model(Vec<(String, String)>);

impl Model {
    fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a (String, String)> {
        self.0
            .iter()
            .filter(move |(spelling, _)| spelling.eq_ignore_ascii_case(name))
    }

    fn remove(&mut self, name: &str) {
        self.0
            .retain(|(spelling, _)| !spelling.eq_ignore_ascii_case(name));
    }

    fn push(&mut self, name: &str, value: &str) {
        self.0.push((name.to_string(), value.to_string()));
    }
}

fn usual(name: &HeaderName) -> String {
    let known = KnownName::of(name).map(|known| known.title());
    known.unwrap_or(name.as_str()).to_string()
}

fn apply(change: &Change, value: &str, header: &mut RequestHeader, model: &mut Model) {
    let parsed = |name: &str| name.parse::<HeaderName>().unwrap();
    match *change {
        Change::Append(name) => {
            assert_eq!(header.append_header(name, value).unwrap(), model.has(name));
            model.push(name, value);
        }
        Change::AppendString(name) => {
            let more = header.append_header(name.to_string(), value).unwrap();
            assert_eq!(more, model.has(name));
            model.push(name, value);
        }
        Change::AppendName(name) => {
            let more = header.append_header(parsed(name), value).unwrap();
            assert_eq!(more, model.has(name));
            model.push(&usual(&parsed(name)), value);
        }
        Change::AppendRaw(name) => {
            let value_bytes = HeaderValue::from_str(value).unwrap();
            let more = header
                .raw_fields()
                .append(name.as_bytes(), value_bytes)
                .unwrap();
            assert_eq!(more, model.has(name));
            model.push(name, value);
        }
        Change::Insert(name) => {
            header
                .insert_header(Bytes::from_static(name.as_bytes()), value)
                .unwrap();
            model.remove(name);
            model.push(name, value);
        }
        Change::InsertName(name) => {
            let parsed_name = parsed(name);
            header.insert_header(&parsed_name, value).unwrap();
            model.remove(name);
            model.push(&usual(&parsed_name), value);
        }
        Change::Remove(name) => {
            let first = model.values(name).next().map(|(_, value)| value.clone());
            let removed = header.remove_header(name);
            assert_eq!(removed.map(|v| v.to_str().unwrap().to_string()), first);
            model.remove(name);
        }
        Change::Clone => *header = header.clone(),
    }
}

/// Each field as `Name: value`, from the wire form.
fn wire(header: &RequestHeader) -> Vec<(String, String)> {
    let mut wire = Vec::new();
    header.header_to_h1_wire(&mut wire);
    let text = String::from_utf8(wire).unwrap();
    let mut lines: Vec<&str> = text.split("\r\n").collect();
    assert_eq!(lines.pop(), Some(""), "the last line has its end");
    let field = |line: &&str| {
        line.split_once(": ")
            .map(|(n, v)| (n.to_string(), v.to_string()))
    };
    lines.iter().map(field).collect::<Option<_>>().unwrap()
}

/// Fields of one name in order are what matters: between names a map may choose.
fn by_name(mut fields: Vec<(String, String)>) -> Vec<(String, String)> {
    fields.sort_by_key(|(name, _)| name.to_lowercase());
    fields
}

fn check(header: &RequestHeader, model: &Model) {
    let expected = if header.has_case() {
        model.0.clone()
    } else {
        let parsed = |name: &String| name.parse().unwrap();
        model
            .0
            .iter()
            .map(|(name, value)| (usual(&parsed(name)), value.clone()))
            .collect()
    };
    let expected = by_name(expected);
    assert_eq!(by_name(wire(header)), expected);

    let mut mapped = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let collect = |name: HeaderNameVariant<'_>, value: &HeaderValue| {
        let name = match name {
            HeaderNameVariant::Case(name) => text(name.as_slice()),
            HeaderNameVariant::Titled(name) => name.to_string(),
        };
        mapped.push((name, text(value.as_bytes())));
        Ok(())
    };
    header.map(collect).unwrap();
    assert_eq!(by_name(mapped), expected);

    let iterated = header.case_header_iter();
    let iterated = iterated
        .map(|(n, v)| (text(n.as_slice()), text(v.as_bytes())))
        .collect();
    assert_eq!(
        by_name(iterated),
        if header.has_case() {
            expected
        } else {
            Vec::new()
        }
    );
}

proptest! {
    #[test]
    fn a_header_is_its_list_of_fields(changes in prop::collection::vec(change(), 0..40), case in any::<bool>()) {
        let mut header = if case { RequestHeader::build("GET", b"/", None).unwrap() } else { RequestHeader::build_no_case("GET", b"/", None).unwrap() };
        let mut model = Model::default();
        for (n, change) in changes.iter().enumerate() {
            apply(change, &n.to_string(), &mut header, &mut model);
            check(&header, &model);
        }
        assert_eq!(header.has_case(), case);
    }

    #[test]
    fn distinct_fields_stay_in_order(count in 0usize..40, names in Just(NAMES.to_vec()).prop_shuffle()) {
        let mut header = ResponseHeader::build(200, None).unwrap();
        let mut expected = Vec::new();
        for name in names.iter().take(count) {
            if header.headers.get(*name).is_none() {
                header.append_header(*name, "v").unwrap();
                expected.extend(format!("{name}: v\r\n").into_bytes());
            }
        }
        let mut wire = Vec::new();
        header.header_to_h1_wire(&mut wire);
        assert_eq!(wire, expected);
    }

    #[test]
    fn any_bytes_make_a_safe_line_or_an_error(
        name in prop::collection::vec(any::<u8>(), 0..6),
        value in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        let mut header = RequestHeader::build("GET", b"/", None).unwrap();
        let checked = crate::header_value_from_slice(&value);
        prop_assert_eq!(&checked, &crate::header_value_from_raw(value));
        let raw = header.raw_fields().append(&name, checked.clone());
        let other = header.append_header(Bytes::from(name.clone()), checked.clone());
        prop_assert_eq!(raw.is_ok(), other.is_ok());
        let mut wire = Vec::new();
        header.header_to_h1_wire(&mut wire);
        let line = [&name[..], b": ", checked.as_bytes(), b"\r\n"].concat();
        let breaks = line.iter().filter(|b| b"\r\n\0".contains(b)).count();
        match raw {
            Ok(more) => {
                prop_assert!(!more);
                prop_assert_eq!(wire, line.repeat(2));
                prop_assert_eq!(breaks, 2);
            }
            Err(_) => prop_assert!(wire.is_empty()),
        }
    }
}

#[test]
fn usual_spellings_are_not_stored() {
    let mut header = RequestHeader::build("GET", b"/", None).unwrap();
    for name in ["Host", "Content-Type", "x-request-id", "ETag", "Host"] {
        header.append_header(name, "v").unwrap();
    }
    assert!(header.has_case());
    assert_eq!(header.cases().listed, []);
}

#[test]
fn a_late_spelling_lists_the_earlier_values_too() {
    let mut header = RequestHeader::build("GET", b"/", None).unwrap();
    for name in [
        "Set-Cookie",
        "Date",
        "Set-Cookie",
        "set-cookie",
        "Set-Cookie",
    ] {
        header.append_header(name, "v").unwrap();
    }
    let listed = header.cases().listed.iter().map(|name| name.as_slice());
    let expected = ["Set-Cookie", "Set-Cookie", "set-cookie", "Set-Cookie"];
    assert!(listed.eq(expected.iter().map(|name| name.as_bytes())));
}

#[test]
fn refused_fields_change_nothing() {
    let mut header = RequestHeader::build("GET", b"/", None).unwrap();
    header.append_header("Host", "a").unwrap();
    let refused = [
        ("", "v"),
        ("a b", "v"),
        ("a:", "v"),
        ("a\r\nb", "v"),
        ("Host", "a\r\nb: c"),
        ("Host", "\0"),
    ];
    for (name, value) in refused {
        let errors = [
            header.append_header(name, value).map(|_| ()),
            header.append_header(name.to_string(), value).map(|_| ()),
            header.insert_header(name, value),
            header.insert_header(Bytes::from(name), value),
        ];
        for error in errors {
            assert_eq!(
                error.unwrap_err().etype(),
                &InvalidHTTPHeader,
                "{name:?} {value:?}"
            );
        }
    }
    assert!(header.remove_header("a b").is_none());
    assert_eq!(wire(&header), [("Host".to_string(), "a".to_string())]);
}

#[test]
fn too_many_fields_are_an_error() {
    for build in [RequestHeader::build, RequestHeader::build_no_case] {
        let mut header = build("GET", b"/", Some(usize::MAX)).unwrap();
        let full = (0..)
            .find(|n| header.append_header(format!("X-{n}"), "v").is_err())
            .unwrap();
        assert!(full > 10_000, "{full}");
        assert!(header.insert_header("x-other", "v").is_err());
        assert!(header
            .raw_fields()
            .append(b"x-other", HeaderValue::from_static("v"))
            .is_err());
        assert_eq!(header.headers.len(), full);
        assert!(header.remove_header("x-0").is_some());
        header.insert_header("x-other", "v").unwrap();
        assert_eq!(header.headers.len(), full);
    }
}

#[test]
fn map_ends_with_the_first_error() {
    let mut header = ResponseHeader::build(200, None).unwrap();
    for name in ["a", "b", "c"] {
        header.append_header(name, "v").unwrap();
    }
    let mut calls = 0;
    let result = header.map(|_, _| {
        calls += 1;
        pingora_error::Error::err(pingora_error::ErrorType::InternalError)
    });
    assert!(result.is_err());
    assert_eq!(calls, 1);
}
