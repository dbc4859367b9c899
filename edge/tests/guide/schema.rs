//! The schema, as an editor uses it: it finds no fault with a file that the program takes.

use std::fmt::Write as _;
use std::path::Path;

use edge::tools;
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};

use super::{blocks, first_page, pages};

/// Returns what a file is to an editor: text without quotes that looks like a number is one.
fn as_json(node: &Yaml<'_>) -> Value {
    match node {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(on)) => (*on).into(),
        Yaml::Value(Scalar::Integer(n)) => (*n).into(),
        Yaml::Value(Scalar::FloatingPoint(n)) => (**n).into(),
        Yaml::Value(Scalar::String(text)) => text.clone().into(),
        Yaml::Sequence(all) => all.iter().map(as_json).collect(),
        Yaml::Mapping(pairs) => {
            let pair = |(key, value): (&Yaml<'_>, &Yaml<'_>)| {
                let key = match as_json(key) {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                (key, as_json(value))
            };
            Value::Object(pairs.iter().map(pair).collect::<Map<_, _>>())
        }
        other => panic!("{other:?} is not known here"),
    }
}

fn validator() -> jsonschema::Validator {
    let schema = serde_json::from_str(&tools::schema()).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

#[test]
fn an_editor_finds_no_fault_with_a_good_file() {
    let schema = validator();
    let mut wrong = String::new();
    let mut check = |name: &str, file: &str| {
        let file = Yaml::load_from_str(file).unwrap();
        for error in schema.iter_errors(&as_json(&file[0])) {
            writeln!(wrong, "{name}: {}: {error}", error.instance_path()).unwrap();
        }
    };
    let every_key = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/every_key.yaml");
    check("every key", &std::fs::read_to_string(every_key).unwrap());
    for (page, text) in pages().into_iter().chain([first_page()]) {
        for block in blocks(&page, &text) {
            check(&format!("{page}:{}", block.line), &block.whole());
        }
    }
    assert_eq!(wrong, "");
}

/// The schema is of use only where it finds what is wrong.
#[test]
fn an_editor_finds_what_is_wrong() {
    let schema = validator();
    for file in [
        "sites: [{routes: [{proxi: a.test}]}]",
        "listen: 80\nsites: [{hosts: {a: b}}]",
        "sites: [{routes: [{proxy: {to: a.test, max_connections: many}}]}]",
    ] {
        let found = Yaml::load_from_str(file).unwrap();
        assert!(!schema.is_valid(&as_json(&found[0])), "{file}");
    }
}
