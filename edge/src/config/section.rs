//! Sections of the file: one declaration gives the struct, its decoder, its schema, its print, and its list of keys.

use super::node::{Kind, Node};
use super::place::{shown, Errors, Place};
pub use super::scalar::Scalar;
pub(crate) use super::scalar::ANY_TEXT;
pub use super::schemas::{Key, Schemas};
use super::spelling::unknown;
pub(crate) use super::spelling::{closest, did_you_mean, list};
use crate::data::Data;

/// A type that a key can have.
pub trait Value: Sized {
    /// True if a scalar in its place may be one that only its owner may see.
    const SECRET: bool = false;
    /// True if it, or something in it, may be such a one.
    const HOLDS_SECRETS: bool = false;

    /// Reads it, or adds all that is wrong with it to `errors`.
    fn decode(node: &Node, errors: &mut Errors) -> Option<Self>;

    /// Returns its JSON schema; the schemas of sections go to `all`.
    fn schema(all: &mut Schemas) -> Data;

    /// Returns it as it would be written in a file; [`Data::Null`] for what would be left out.
    fn print(&self) -> Data;

    /// Learns that only its owner may see it.
    fn hide(&mut self) {}
}

impl<T: Value> Value for Option<T> {
    const SECRET: bool = T::SECRET;
    const HOLDS_SECRETS: bool = T::HOLDS_SECRETS;

    fn decode(node: &Node, errors: &mut Errors) -> Option<Self> {
        T::decode(node, errors).map(Some)
    }

    fn schema(all: &mut Schemas) -> Data {
        T::schema(all)
    }

    fn print(&self) -> Data {
        self.as_ref().map_or(Data::Null, Value::print)
    }

    fn hide(&mut self) {
        self.iter_mut().for_each(Value::hide);
    }
}

/// A list, or one item in place of a list of one.
impl<T: Value> Value for Vec<T> {
    const SECRET: bool = T::SECRET;
    const HOLDS_SECRETS: bool = T::HOLDS_SECRETS;

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

    fn hide(&mut self) {
        self.iter_mut().for_each(Value::hide);
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
    const SECRET: bool = T::SECRET;
    const HOLDS_SECRETS: bool = T::HOLDS_SECRETS;

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

    fn hide(&mut self) {
        self.value.hide();
    }
}

/// A value for each name, in the order of the file. Some names tell that only the owner may see the value.
#[derive(Clone, Debug)]
pub struct ByName<K, V>(pub Vec<(K, V)>);

impl<K, V> Default for ByName<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Scalar, V: Value> Value for ByName<K, V> {
    const SECRET: bool = V::SECRET;
    const HOLDS_SECRETS: bool = V::HOLDS_SECRETS || K::NAMES_SECRETS;

    fn decode(node: &Node, errors: &mut Errors) -> Option<Self> {
        let Kind::Map(pairs) = &node.kind else {
            if matches!(node.kind, Kind::Failed(_)) {
                return None;
            }
            let stands = errors.describe_unread(node, Self::SECRET, Self::HOLDS_SECRETS);
            let allowed = K::ALLOWED;
            let message = format!("{stands} is no map; expected `name: value` with {allowed}");
            errors.at(node.place, message);
            return None;
        };
        let pair = |(key, place, value): &(String, Place, Node)| {
            let name = K::parse(key);
            let is_secret = name.as_ref().is_ok_and(K::names_secret);
            let value = if is_secret {
                errors.hide(value);
                let value = V::decode(&value.covered(), errors);
                value.map(|mut value| {
                    value.hide();
                    value
                })
            } else {
                V::decode(value, errors)
            };
            let name = name.map_err(|why| {
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
        let pair = |(name, value): &(K, V)| {
            let printed = value.print();
            let printed = if name.names_secret() {
                secret(printed)
            } else {
                printed
            };
            (name.show(), printed)
        };
        Data::map(self.0.iter().map(pair))
    }
}

/// Marks a print as one that only its owner may see. That something is there, as `*` says, is no secret.
fn secret(print: Data) -> Data {
    match print {
        Data::Text(text) if text != "*" => Data::Secret(text),
        other => other,
    }
}

/// A section, as its decoder knows it.
#[derive(Clone, Copy)]
pub(crate) struct Section {
    pub(crate) what: &'static str,
    pub(crate) keys: &'static [&'static str],
    pub(crate) short: Option<&'static str>,
    /// True if values of its own keys may be secrets.
    pub(crate) has_secrets: bool,
    /// True if they, or something in them, may be.
    pub(crate) holds_secrets: bool,
}

/// The keys of a section as they stand in the file.
pub(crate) struct Fields<'a> {
    what: &'static str,
    place: Place,
    entries: Entries<'a>,
    has_secrets: bool,
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
        Section {
            what,
            keys,
            short,
            has_secrets,
            holds_secrets,
        }: Section,
        errors: &mut Errors,
    ) -> Option<Self> {
        let entries = match (&node.kind, short) {
            (Kind::Map(entries), _) => Entries::Map(entries),
            (Kind::Failed(_), _) => {
                errors.describe_unread(node, has_secrets, holds_secrets);
                return None;
            }
            (Kind::Scalar { .. } | Kind::List(_), Some(short)) => Entries::Short(short, node),
            _ => {
                let stands = errors.describe_unread(node, has_secrets, holds_secrets);
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
            for (key, place, value) in entries {
                if !keys.contains(&&**key) {
                    // It may be a secret whose key is misspelled.
                    errors.describe_unread(value, has_secrets, holds_secrets);
                    errors.at(*place, unknown(key, what, keys, errors.is_full()));
                }
            }
        }
        Some(Self {
            what,
            place: node.place,
            entries,
            has_secrets,
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
            Some((_, node)) => self.read(key, node, errors),
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
        found.and_then(|(_, node)| self.read(key, node, errors))
    }

    /// Reads the value of a key. One in the place of a section that has secrets may be one of them, if it cannot be read.
    fn read<T: Value>(&self, key: &str, node: &Node, errors: &mut Errors) -> Option<T> {
        if !(self.has_secrets && matches!(self.entries, Entries::Short(..))) {
            return read(key, node, errors);
        }
        let value = read(key, &node.covered(), errors);
        if value.is_none() {
            errors.hide(node);
        }
        value
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
            const HOLDS_SECRETS: bool = false
                $(|| <$type as $crate::config::section::Value>::HOLDS_SECRETS)*;

            fn decode(
                node: &$crate::config::node::Node,
                errors: &mut $crate::config::place::Errors,
            ) -> Option<Self> {
                let section = $crate::config::section::Section {
                    what: $what,
                    keys: Self::KEYS,
                    short: Self::SHORT,
                    has_secrets: false
                        $(|| <$type as $crate::config::section::Value>::SECRET)*,
                    holds_secrets: <Self as $crate::config::section::Value>::HOLDS_SECRETS,
                };
                let fields = $crate::config::section::Fields::of(node, section, errors)?;
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
