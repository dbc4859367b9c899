//! The print of a configuration without its secrets.

use super::node::{Kind, Node};
use super::secrets::STARS;
use crate::data::Data;

/// The text in place of a secret, for people who watch the proxy. In a file it is [`STARS`].
const HIDDEN: &str = "(not shown)";
/// Leaves the secrets out of a print: values of keys that hold some, and those that `tree`, of which the print was made,
/// knows to be from elsewhere.
pub(super) fn without_secrets(print: Data, tree: &Node) -> Data {
    clear(print, Some(tree), For::People)
}

/// Leaves the secrets out of a print that may be read as a file again: values from elsewhere are named as the file names
/// them.
pub(super) fn with_references(print: Data, tree: &Node) -> Data {
    clear(print, Some(tree), For::File)
}

/// The readers of a print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    People,
    File,
}

impl For {
    /// Returns what stands in place of a value that is not to be seen.
    fn instead(self, node: Option<&Node>) -> Data {
        let written = match node.map(|node| &node.kind) {
            Some(Kind::Scalar { written, .. }) => written.as_deref(),
            _ => None,
        };
        match self {
            Self::People => Data::text(HIDDEN),
            Self::File => Data::text(written.unwrap_or(STARS)),
        }
    }

    /// Keeps what looks like a reference to a value from being read as one.
    fn plain(self, data: Data) -> Data {
        match data {
            Data::Text(text) if self == Self::File => Data::Text(text.replace("${", "$${")),
            other => other,
        }
    }
}

fn clear(data: Data, node: Option<&Node>, reader: For) -> Data {
    match (data, node.map(|node| &node.kind)) {
        (Data::Null, _) => Data::Null,
        // It may be the short form of a whole section.
        (Data::Secret(_), _)
        | (
            _,
            Some(Kind::Scalar {
                written: Some(_), ..
            }),
        ) => reader.instead(node),
        (Data::List(items), Some(Kind::List(nodes))) => {
            let nodes = nodes.iter().map(Some).chain(std::iter::repeat(None));
            let items = items.into_iter().zip(nodes);
            let cleared = items.map(|(item, node)| clear(item, node, reader));
            Data::List(cleared.collect())
        }
        // One item stands for a list of one.
        (Data::List(items), _) => {
            let cleared = items.into_iter().map(|item| clear(item, node, reader));
            Data::List(cleared.collect())
        }
        (Data::Map(pairs), Some(Kind::Map(nodes))) => {
            let of = |key: &str| {
                // Names of cookies, parameters and users differ by the case of letters, those of headers do not.
                let exact = nodes.iter().find(|(k, ..)| k == key);
                let found =
                    exact.or_else(|| nodes.iter().find(|(k, ..)| k.eq_ignore_ascii_case(key)));
                found.map(|(_, _, node)| node)
            };
            let pairs = pairs.into_iter().map(|(key, value)| {
                let value = clear(value, of(&key), reader);
                (key, value)
            });
            Data::map(pairs)
        }
        // The short form: the node is the value of one of the keys, and is no secret.
        (Data::Map(pairs), _) => {
            let pairs = pairs.into_iter();
            Data::map(pairs.map(|(key, value)| (key, clear(value, node, reader))))
        }
        (other, _) => reader.plain(other),
    }
}
