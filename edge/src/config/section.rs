//! Sections of the file: one declaration gives the struct, its decoder, its schema, its print, and its list of keys.

use std::path::PathBuf;

use super::model::Server;
use super::node::{Kind, Node};
use super::place::{shown, Errors, Place};
use crate::data::Data;

/// A type that a key can have.
pub trait Value: Sized {
    /// Reads it, or adds all that is wrong with it to `errors`.
    fn decode(node: &Node, errors: &mut Errors) -> Option<Self>;

    /// Returns its JSON schema; the schemas of sections go to `all`.
    fn schema(all: &mut Schemas) -> Data;

    /// Returns it as it would be written in a file; [`Data::Null`] for what would be left out.
    fn print(&self) -> Data;
}

/// A type that is written as one scalar.
pub trait Scalar: Sized {
    /// The name of the type, with its article.
    const WHAT: &'static str;
    /// The allowed values, with an example.
    const ALLOWED: &'static str;
    /// Whether only its owner may see it: errors do not show it, also not in the line that they are about. The reasons of
    /// [`Scalar::parse`] repeat no part of it.
    const SECRET: bool = false;

    /// Reads it.
    ///
    /// # Errors
    ///
    /// The reason, when there is more to say than that it is none.
    fn parse(text: &str) -> Result<Self, String>;

    /// Returns the text that is read as the same value.
    fn show(&self) -> String;

    /// Returns its JSON schema.
    fn schema() -> Data {
        Data::map([
            ("type", Data::text("string")),
            ("description", Data::text(Self::ALLOWED)),
        ])
    }

    /// Returns it as it would be written in a file.
    fn print(&self) -> Data {
        Data::Text(self.show())
    }
}

impl<T: Scalar> Value for T {
    fn decode(node: &Node, errors: &mut Errors) -> Option<Self> {
        let Kind::Scalar { text, written } = &node.kind else {
            if matches!(node.kind, Kind::Failed) {
                return None;
            }
            let stands = node.describe();
            errors.at(node.place, expected(&stands, Self::WHAT, Self::ALLOWED, ""));
            return None;
        };
        if T::SECRET {
            let stands = written.as_deref().unwrap_or(text);
            // The name of a place that a secret is from is none.
            if !(stands.starts_with("${") && stands.ends_with('}')) {
                errors.secret(node.place, stands);
            }
        }
        let parsed = T::parse(text).map_err(|why| {
            // A reason may repeat a part of the value, but for a secret's.
            let why = if written.is_some() { "" } else { &why };
            let stands = match T::SECRET {
                true => "what stands here".to_owned(),
                false => node.describe(),
            };
            errors.at(
                node.place,
                expected(&stands, Self::WHAT, Self::ALLOWED, why),
            );
        });
        parsed.ok()
    }

    fn schema(_: &mut Schemas) -> Data {
        T::schema()
    }

    fn print(&self) -> Data {
        Scalar::print(self)
    }
}

fn expected(stands: &str, what: &str, allowed: &str, why: &str) -> String {
    if why.ends_with('?') {
        format!("{stands} is not {what}; {why}")
    } else if why.is_empty() {
        format!("{stands} is not {what}; expected {allowed}")
    } else {
        format!("{stands} is not {what}: {why}; expected {allowed}")
    }
}

impl<T: Value> Value for Option<T> {
    fn decode(node: &Node, errors: &mut Errors) -> Option<Self> {
        T::decode(node, errors).map(Some)
    }

    fn schema(all: &mut Schemas) -> Data {
        T::schema(all)
    }

    fn print(&self) -> Data {
        self.as_ref().map_or(Data::Null, Value::print)
    }
}

/// A list, or one item in place of a list of one.
impl<T: Value> Value for Vec<T> {
    fn decode(node: &Node, errors: &mut Errors) -> Option<Self> {
        match &node.kind {
            // All are read, so that each error is found.
            Kind::List(items) => {
                let items: Vec<_> = items.iter().map(|item| T::decode(item, errors)).collect();
                items.into_iter().collect()
            }
            _ => T::decode(node, errors).map(|item| vec![item]),
        }
    }

    fn schema(all: &mut Schemas) -> Data {
        let item = T::schema(all);
        let list = Data::map([("type", Data::text("array")), ("items", item.clone())]);
        Data::map([("anyOf", Data::List(vec![item, list]))])
    }

    fn print(&self) -> Data {
        if self.is_empty() {
            return Data::Null;
        }
        Data::List(self.iter().map(Value::print).collect())
    }
}

/// A value that remembers its place, for errors that are found later.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The place.
    pub place: Place,
    /// The value.
    pub value: T,
}

impl<T: Value> Value for At<T> {
    fn decode(node: &Node, errors: &mut Errors) -> Option<Self> {
        let place = node.place;
        T::decode(node, errors).map(|value| Self { place, value })
    }

    fn schema(all: &mut Schemas) -> Data {
        T::schema(all)
    }

    fn print(&self) -> Data {
        self.value.print()
    }
}

/// A value for each name, in the order of the file.
#[derive(Clone, Debug)]
pub struct Named<K, V>(pub Vec<(K, V)>);

impl<K, V> Default for Named<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Scalar, V: Value> Value for Named<K, V> {
    fn decode(node: &Node, errors: &mut Errors) -> Option<Self> {
        let Kind::Map(pairs) = &node.kind else {
            if matches!(node.kind, Kind::Failed) {
                return None;
            }
            let message = format!(
                "{} is no map; expected `name: value` with {}",
                node.describe(),
                K::ALLOWED
            );
            errors.at(node.place, message);
            return None;
        };
        let pair = |(key, place, value): &(String, Place, Node)| {
            let value = V::decode(value, errors);
            let name = K::parse(key).map_err(|why| {
                let why = if why.is_empty() {
                    why
                } else {
                    format!(": {why}")
                };
                errors.at(
                    *place,
                    format!(
                        "{} is not {}{why}; expected {}",
                        shown(key),
                        K::WHAT,
                        K::ALLOWED
                    ),
                );
            });
            Some((name.ok()?, value?))
        };
        let pairs: Vec<_> = pairs.iter().map(pair).collect();
        pairs.into_iter().collect::<Option<_>>().map(Self)
    }

    fn schema(all: &mut Schemas) -> Data {
        let value = V::schema(all);
        Data::map([
            ("type", Data::text("object")),
            ("additionalProperties", value),
        ])
    }

    fn print(&self) -> Data {
        if self.0.is_empty() {
            return Data::Null;
        }
        Data::map(self.0.iter().map(|(k, v)| (k.show(), v.print())))
    }
}

impl Scalar for bool {
    const WHAT: &'static str = "a switch";
    const ALLOWED: &'static str = "`true` or `false`";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| String::new())
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn schema() -> Data {
        Data::map([("type", Data::text("boolean"))])
    }

    fn print(&self) -> Data {
        Data::Bool(*self)
    }
}

impl Scalar for u32 {
    const WHAT: &'static str = "a number";
    const ALLOWED: &'static str = "a whole number such as `5`";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| String::new())
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn schema() -> Data {
        Data::map([
            ("type", Data::text("integer")),
            ("minimum", Data::Number(0)),
        ])
    }

    fn print(&self) -> Data {
        Data::Number(u64::from(*self))
    }
}

impl Scalar for String {
    const WHAT: &'static str = "a text";
    const ALLOWED: &'static str = "a text";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Scalar for PathBuf {
    const WHAT: &'static str = "a file";
    const ALLOWED: &'static str = "the path of a file";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            return Err(String::new());
        }
        Ok(text.into())
    }

    fn show(&self) -> String {
        self.to_string_lossy().into_owned()
    }
}

/// A key of a section.
#[derive(Clone, Debug)]
pub struct Key {
    /// The section's name: that of its struct.
    pub section: &'static str,
    /// The key.
    pub key: &'static str,
    /// What it does.
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

fn join(docs: &[&str]) -> String {
    docs.iter()
        .map(|line| line.trim())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The keys of a section as they stand in the file.
pub(crate) struct Fields<'a> {
    what: &'static str,
    place: Place,
    entries: Entries<'a>,
}

enum Entries<'a> {
    Map(&'a [(String, Place, Node)]),
    /// One value stands in place of the section, and is that of this key.
    Short(&'static str, &'a Node),
}

impl<'a> Fields<'a> {
    /// Takes the keys of `node`, and reports those that are unknown.
    pub(crate) fn of(
        node: &'a Node,
        what: &'static str,
        keys: &[&'static str],
        short: Option<&'static str>,
        errors: &mut Errors,
    ) -> Option<Self> {
        let entries = match (&node.kind, short) {
            (Kind::Map(entries), _) => Entries::Map(entries),
            (Kind::Failed, _) => return None,
            (Kind::Scalar { .. } | Kind::List(_), Some(short)) => Entries::Short(short, node),
            _ => {
                let stands = node.describe();
                let some = keys
                    .iter()
                    .take(6)
                    .map(|key| format!("`{key}`"))
                    .collect::<Vec<_>>()
                    .join(", ");
                errors.at(
                    node.place,
                    format!("{stands} is not {what}; expected a map with keys such as {some}"),
                );
                return None;
            }
        };
        if let Entries::Map(entries) = entries {
            for (key, place, _) in entries {
                if !keys.contains(&&**key) {
                    errors.at(*place, unknown(key, what, keys, errors.is_full()));
                }
            }
        }
        Some(Self {
            what,
            place: node.place,
            entries,
        })
    }

    /// Reads a key, or takes its default when it is not set.
    pub(crate) fn or<T: Value>(
        &self,
        key: &str,
        default: impl FnOnce() -> T,
        errors: &mut Errors,
    ) -> Option<T> {
        match self.find(key) {
            Some((_, node)) => read(key, node, errors),
            None => Some(default()),
        }
    }

    /// Reads a key that must be set.
    pub(crate) fn must<T: Value>(&self, key: &str, errors: &mut Errors) -> Option<T> {
        let found = self.find(key);
        if found.is_none() {
            errors.at(
                self.place,
                format!("the key `{key}` is missing in {}", self.what),
            );
        }
        found.and_then(|(_, node)| read(key, node, errors))
    }

    fn find(&self, wanted: &str) -> Option<(Place, &'a Node)> {
        match self.entries {
            Entries::Map(entries) => {
                let found = entries.iter().find(|(key, ..)| key == wanted);
                found.map(|(_, place, node)| (*place, node))
            }
            Entries::Short(key, node) => (key == wanted).then_some((node.place, node)),
        }
    }
}

fn read<T: Value>(key: &str, node: &Node, errors: &mut Errors) -> Option<T> {
    if matches!(node.kind, Kind::Null) {
        errors.at(
            node.place,
            format!("the key `{key}` has no value; leave it out or give it one"),
        );
        return None;
    }
    T::decode(node, errors)
}

fn unknown(key: &str, what: &str, keys: &[&'static str], brief: bool) -> String {
    let message = format!("unknown key {} in {what}", shown(key));
    if brief {
        return message;
    }
    if keys.contains(&"server") && Server::KEYS.contains(&key) {
        return format!("{message}; a setting of the process stands in `server`");
    }
    match closest(key, keys) {
        Some(meant) => format!("{message}; did you mean `{meant}`?"),
        None => format!("{message}; allowed are {}", list(keys)),
    }
}

/// Writes names as "`a`, `b` and `c`".
pub(crate) fn list(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match &quoted[..] {
        [] => "none".into(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// Returns the name that differs from `text` by the fewest letters, if it is alike at all.
pub(crate) fn closest<'k>(text: &str, names: &[&'k str]) -> Option<&'k str> {
    let text: Vec<char> = text.to_ascii_lowercase().chars().take(40).collect();
    let near = names
        .iter()
        .map(|name| (distance(&text, name), *name))
        .min()?;
    (near.0 <= 1 + text.len() / 4).then_some(near.1)
}

/// Counts the letters to put in, take out, exchange or swap with their neighbour.
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (last[j] + usize::from(x != y))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// Declares a section of the file.
///
/// `pub struct Name("a name in errors", short: key)` and its keys, each with docs, a type, and a default unless it must be
/// set. A section with `short` may be written as the value of that key alone.
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident($what:literal $(, short: $short:ident)?) {
            $(
                $(#[doc = $key_doc:literal])*
                $key:ident: $type:ty $(= $default:expr)?
            ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            /// The place of the section.
            pub place: $crate::config::Place,
            $($(#[doc = $key_doc])* pub $key: $type,)*
        }

        impl $name {
            const SHORT: Option<&'static str> = $crate::config::section::section!(@short $($short)?);
            /// The keys.
            pub const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];
        }

        impl $crate::config::section::Value for $name {
            fn decode(
                node: &$crate::config::node::Node,
                errors: &mut $crate::config::place::Errors,
            ) -> Option<Self> {
                let fields =
                    $crate::config::section::Fields::of(node, $what, Self::KEYS, Self::SHORT, errors)?;
                $(let $key = $crate::config::section::section!(@read fields, $key, errors $(, $default)?);)*
                Some(Self { place: node.place, $($key: $key?,)* })
            }

            fn schema(all: &mut $crate::config::section::Schemas) -> $crate::data::Data {
                all.section(stringify!($name), &[$($doc),*], Self::SHORT, |fields| {
                    $(fields.field::<$type>(
                        stringify!($key),
                        &[$($key_doc),*],
                        $crate::config::section::section!(@default $($default)?),
                    );)*
                })
            }

            fn print(&self) -> $crate::data::Data {
                $crate::data::Data::map([
                    $((stringify!($key), $crate::config::section::Value::print(&self.$key)),)*
                ])
            }
        }
    };
    (@short) => { None };
    (@short $short:ident) => { Some(stringify!($short)) };
    (@read $fields:ident, $key:ident, $errors:ident) => { $fields.must(stringify!($key), $errors) };
    (@read $fields:ident, $key:ident, $errors:ident, $default:expr) => {
        $fields.or(stringify!($key), || $default, $errors)
    };
    (@default) => { None };
    (@default $default:expr) => { Some($default) };
}
pub(crate) use section;

/// Declares a scalar that is one of several words, each with its docs.
macro_rules! choice {
    (
        $(#[doc = $doc:literal])*
        pub enum $name:ident($what:literal) {
            $($(#[doc = $word_doc:literal])* $variant:ident = $word:literal),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[doc = $word_doc])* $variant,)*
        }

        impl $crate::config::section::Scalar for $name {
            const WHAT: &'static str = $what;
            const ALLOWED: &'static str = $crate::config::section::choice!(@list $($word),*);

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err($crate::config::section::did_you_mean(text, &[$($word),*])),
                }
            }

            fn show(&self) -> String {
                match self {
                    $(Self::$variant => $word.to_owned(),)*
                }
            }

            fn schema() -> $crate::data::Data {
                use $crate::data::Data;
                let one = |word, docs: &[&str]| Data::map([
                    ("const", Data::text(word)),
                    ("description", Data::Text(docs.concat().trim().to_owned())),
                ]);
                Data::map([("oneOf", Data::List(vec![$(one($word, &[$($word_doc),*])),*]))])
            }
        }
    };
    (@list $first:literal $(, $word:literal)*) => { concat!("`", $first, "`" $(, ", `", $word, "`")*) };
}
pub(crate) use choice;

/// Returns the question for a word that is nearly one of `words`.
pub(crate) fn did_you_mean(text: &str, words: &[&str]) -> String {
    closest(text, words).map_or_else(String::new, |word| format!("did you mean `{word}`?"))
}
