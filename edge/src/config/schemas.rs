//! The JSON schemas of all sections, and the list of their keys.

use super::section::Value;
use crate::data::Data;

/// A key of a section.
#[derive(Clone, Debug)]
pub struct Key {
    /// The section's name: that of its struct.
    pub section: &'static str,
    /// The key.
    pub key: &'static str,
    /// Its docs.
    pub doc: String,
    /// Its default; `None` when it must be set.
    pub default: Option<Data>,
}

/// The schemas of all sections that have been met, and their keys.
#[derive(Debug, Default)]
pub struct Schemas {
    sections: Vec<(&'static str, Data)>,
    /// The keys of all sections.
    pub keys: Vec<Key>,
}

impl Schemas {
    /// Returns a reference to the schema of a section; its fields are asked for when it is new.
    pub(crate) fn section(
        &mut self,
        name: &'static str,
        docs: &[&str],
        short: Option<&str>,
        fields: impl FnOnce(&mut SchemaFields),
    ) -> Data {
        if !self.sections.iter().any(|(known, _)| *known == name) {
            let index = self.sections.len();
            self.sections.push((name, Data::Null));
            let mut made = SchemaFields {
                all: self,
                section: name,
                properties: Vec::new(),
                required: Vec::new(),
            };
            fields(&mut made);
            let SchemaFields {
                properties,
                required,
                ..
            } = made;
            let shorthand = short.and_then(|short| properties.iter().find(|(key, _)| key == short));
            let shorthand = shorthand.map(|(_, schema)| schema.clone());
            let object = Data::map([
                ("type", Data::text("object")),
                ("description", Data::Text(join(docs))),
                ("properties", Data::Map(properties)),
                (
                    "required",
                    if required.is_empty() {
                        Data::Null
                    } else {
                        Data::List(required)
                    },
                ),
                ("additionalProperties", Data::Bool(false)),
            ]);
            self.sections[index].1 = match shorthand {
                Some(shorthand) => Data::map([("anyOf", Data::List(vec![object, shorthand]))]),
                None => object,
            };
        }
        Data::map([("$ref", Data::Text(format!("#/$defs/{name}")))])
    }

    /// Makes the whole schema of a file whose root is `T`.
    pub(crate) fn document<T: Value>() -> (Data, Vec<Key>) {
        let mut all = Self::default();
        let root = T::schema(&mut all);
        let reference = root.at("$ref").cloned().unwrap_or(Data::Null);
        // The root is met first. Files are included before its keys are looked at, so that this is none of them.
        if let Some((_, Data::Map(root))) = all.sections.first_mut() {
            let properties = root.iter_mut().find(|(key, _)| key == "properties");
            if let Some((_, Data::Map(properties))) = properties {
                properties.push(("include".to_owned(), include()));
            }
        }
        let schema = Data::map([
            (
                "$schema",
                Data::text("https://json-schema.org/draft/2020-12/schema"),
            ),
            ("title", Data::text("Configuration of the reverse proxy")),
            ("$ref", reference),
            ("$defs", Data::map(all.sections)),
        ]);
        (schema, all.keys)
    }
}

/// The schema of a section that is being made.
pub(crate) struct SchemaFields<'a> {
    all: &'a mut Schemas,
    section: &'static str,
    properties: Vec<(String, Data)>,
    required: Vec<Data>,
}

impl SchemaFields<'_> {
    pub(crate) fn field<T: Value>(&mut self, key: &'static str, docs: &[&str], default: Option<T>) {
        let doc = join(docs);
        let mut schema = vec![("description".to_owned(), Data::Text(doc.clone()))];
        match T::schema(self.all) {
            Data::Map(pairs) => {
                schema.extend(pairs.into_iter().filter(|(k, _)| k != "description"))
            }
            _ => unreachable!("a schema is a map"),
        }
        let default = default.as_ref().map(Value::print);
        match &default {
            None => self.required.push(Data::text(key)),
            Some(default) => schema.push(("default".into(), default.clone())),
        }
        self.properties.push((key.to_owned(), Data::Map(schema)));
        self.all.keys.push(Key {
            section: self.section,
            key,
            doc,
            default,
        });
    }
}

/// Returns the schema of the key by which other files are read.
fn include() -> Data {
    let files = Data::map([("type", Data::text("string"))]);
    let list = Data::map([("type", Data::text("array")), ("items", files.clone())]);
    let doc = "Other files, or patterns of their names, such as `conf.d/*.yaml`; their keys are added to those here.";
    Data::map([
        ("description", Data::text(doc)),
        ("anyOf", Data::List(vec![list, files])),
    ])
}

fn join(docs: &[&str]) -> String {
    docs.iter()
        .map(|line| line.trim())
        .collect::<Vec<_>>()
        .join("\n")
}
