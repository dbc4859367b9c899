//! Headers as a list of changes, against the plainest model there is; and their wire form.
#![no_main]

use bytes::Bytes;
use http::HeaderName;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pingora_core::protocols::http::v1::proto::head::parse_trailers;
use pingora_http::{header_value_from_slice, HeaderNameVariant, RequestHeader};

#[derive(Arbitrary, Debug)]
enum Op<'a> {
    Insert(Name<'a>, &'a [u8]),
    Append(Name<'a>, &'a [u8]),
    Remove(Name<'a>),
    Target(&'a [u8]),
}

#[derive(Arbitrary, Debug)]
enum Name<'a> {
    Any(&'a str),
    Host,
    Length(bool),
    Own(bool),
}

impl Name<'_> {
    fn spelling(&self) -> String {
        match self {
            Name::Any(name) => (*name).to_owned(),
            Name::Host => "Host".to_owned(),
            Name::Length(upper) => if *upper {
                "CONTENT-LENGTH"
            } else {
                "content-length"
            }
            .to_owned(),
            Name::Own(upper) => if *upper { "X-Own" } else { "x-own" }.to_owned(),
        }
    }
}

fuzz_target!(|ops: Vec<Op>| {
    let mut header = RequestHeader::build("GET", b"/", None).expect("a header");
    // Spelling and value, in the order of their coming.
    let mut model: Vec<(String, Bytes)> = Vec::new();
    for op in ops {
        match op {
            Op::Insert(name, value) => {
                let (name, value) = (name.spelling(), header_value_from_slice(value));
                if header.insert_header(name.clone(), value.clone()).is_ok() {
                    model.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
                    model.push((name, Bytes::copy_from_slice(value.as_bytes())));
                }
            }
            Op::Append(name, value) => {
                let (name, value) = (name.spelling(), header_value_from_slice(value));
                if header.append_header(name.clone(), value.clone()).is_ok() {
                    model.push((name, Bytes::copy_from_slice(value.as_bytes())));
                }
            }
            Op::Remove(name) => {
                let name = name.spelling();
                header.remove_header(name.as_str());
                model.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
            }
            Op::Target(target) => {
                let before = header.raw_path().to_vec();
                match header.set_raw_path(target) {
                    Ok(()) => assert!(!header.raw_path().iter().any(|b| *b <= b' ' || *b == 0x7f)),
                    Err(_) => assert_eq!(header.raw_path(), before),
                }
            }
        }
    }
    assert_eq!(header.headers.len(), model.len());
    let mut mapped = Vec::new();
    header
        .map(|name, value| {
            let HeaderNameVariant::Case(name) = name else {
                panic!("a name without its spelling");
            };
            mapped.push((
                name.as_slice().to_vec(),
                Bytes::copy_from_slice(value.as_bytes()),
            ));
            Ok(())
        })
        .expect("no error of its own");
    // Names may come in any order, the values of each in theirs.
    let lower = |spelling: &[u8]| spelling.to_ascii_lowercase();
    mapped.sort_by_key(|(name, _)| lower(name));
    let mut expected: Vec<_> = model
        .iter()
        .map(|(n, v)| (n.clone().into_bytes(), v.clone()))
        .collect();
    expected.sort_by_key(|(name, _)| lower(name));
    assert_eq!(mapped, expected);

    let mut wire = Vec::new();
    header.header_to_h1_wire(&mut wire);
    wire.extend_from_slice(b"\r\n");
    if model.len() <= 200 {
        let fields = parse_trailers(&wire.into()).expect("what we write we read");
        assert_eq!(fields.len(), model.len());
        for (name, value) in &fields {
            let name: &HeaderName = name;
            // White space around a value is not part of it on the wire.
            let trimmed = |v: &[u8]| v.trim_ascii().to_vec();
            assert!(model.iter().any(|(known, kept)| {
                known.eq_ignore_ascii_case(name.as_str())
                    && trimmed(kept) == trimmed(value.as_bytes())
            }));
        }
    }
});
