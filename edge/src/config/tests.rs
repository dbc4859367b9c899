//! Every key is set by a file that compiles, and is read back from its own print.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::node::{self, Kind, Node};
use super::{keys, load, schema, Errors, World};
use crate::data::Data;
use crate::plan::Plan;

const EVERY_KEY: &str = include_str!("../../tests/every_key.yaml");

const USERS: &str = "bob:$2y$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e\n";

/// A world of one file, and of those that it names.
struct OneFile<'a>(&'a str);

impl World for OneFile<'_> {
    fn read(&self, path: &Path, _: usize) -> io::Result<Vec<u8>> {
        let text = match path.to_str() {
            Some("edge.yaml") => self.0,
            Some("/etc/edge/htpasswd") => USERS,
            _ => "a text\n",
        };
        Ok(text.as_bytes().to_vec())
    }

    fn glob(&self, _: &str) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

/// Adds the keys that a node sets, by the schema of what it is.
fn set(node: &Node, schema: &Data, all: &Data, found: &mut BTreeSet<(String, String)>) {
    if let Some(name) = schema.at("$ref").and_then(Data::as_str) {
        let name = name.trim_start_matches("#/$defs/");
        let section = all.at(name).unwrap();
        let object = match section.at("anyOf") {
            Some(Data::List(any)) => &any[0],
            _ => section,
        };
        if let Kind::Map(pairs) = &node.kind {
            for (key, _, value) in pairs {
                found.insert((name.to_owned(), key.clone()));
                set(
                    value,
                    object.at("properties").unwrap().at(key).unwrap(),
                    all,
                    found,
                );
            }
        }
    }
    if let (Kind::List(items), Some(of)) = (&node.kind, schema.at("items")) {
        items.iter().for_each(|item| set(item, of, all, found));
    }
    if let Some(Data::List(any)) = schema.at("anyOf") {
        any.iter().for_each(|one| set(node, one, all, found));
    }
}

#[test]
fn every_key_is_set_by_a_test() {
    let root = node::read(EVERY_KEY, 0, &mut Errors::default()).unwrap();
    let (schema, mut found) = (schema(), BTreeSet::new());
    set(&root, &schema, schema.at("$defs").unwrap(), &mut found);
    let known = keys()
        .into_iter()
        .map(|key| (key.section.to_owned(), key.key.to_owned()));
    let missing: Vec<_> = known.filter(|key| !found.contains(key)).collect();
    assert_eq!(missing, [], "edge/tests/every_key.yaml does not set them");
}

#[test]
fn the_effective_configuration_reads_the_same() {
    let config = load(Path::new("edge.yaml"), &OneFile(EVERY_KEY)).unwrap();
    Plan::compile(&config).unwrap();
    let printed = config.whole();
    let again = load(Path::new("edge.yaml"), &OneFile(&printed)).unwrap();
    assert_eq!(again.whole(), printed);
    let adapted = config.adapt();
    for secret in ["0123456789abcdef", "s3cret", "$2y$05$"] {
        assert!(
            EVERY_KEY.contains(secret) && !adapted.contains(secret),
            "{secret} in {adapted}"
        );
    }
    assert!(printed.contains("reference: \"$${env:HOME}\""), "{printed}");
}

#[test]
fn every_key_has_docs() {
    for key in keys() {
        assert!(key.doc.ends_with('.'), "{}.{}", key.section, key.key);
    }
}
