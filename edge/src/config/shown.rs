//! The print of a configuration without its secrets.

use super::node::{Kind, Node};
use crate::data::Data;

/// What stands in place of a secret.
const HIDDEN: &str = "(not shown)";

/// Leaves the secrets out of a print: values of keys that hold some, and those that `tree`, of which the print was made,
/// knows to be from elsewhere.
pub(super) fn without_secrets(print: Data, tree: &Node) -> Data {
    clear(print, Some(tree))
}

fn clear(data: Data, node: Option<&Node>) -> Data {
    match (data, node.map(|node| &node.kind)) {
        (Data::Null, _) => Data::Null,
        // It may be the short form of a whole section.
        (Data::Secret(_), _) | (_, Some(Kind::Scalar { secret: true, .. })) => Data::text(HIDDEN),
        (Data::List(items), Some(Kind::List(nodes))) => {
            let nodes = nodes.iter().map(Some).chain(std::iter::repeat(None));
            let items = items.into_iter().zip(nodes);
            Data::List(items.map(|(item, node)| clear(item, node)).collect())
        }
        // One item stands for a list of one.
        (Data::List(items), _) => {
            Data::List(items.into_iter().map(|item| clear(item, node)).collect())
        }
        (Data::Map(pairs), Some(Kind::Map(nodes))) => {
            let of = |key: &str| {
                let found = nodes.iter().find(|(k, ..)| k.eq_ignore_ascii_case(key));
                found.map(|(_, _, node)| node)
            };
            let pairs = pairs.into_iter().map(|(key, value)| {
                let value = clear(value, of(&key));
                (key, value)
            });
            Data::map(pairs)
        }
        (Data::Map(pairs), _) => {
            // The short form: the node is the value of one of the keys, and is no secret.
            Data::map(
                pairs
                    .into_iter()
                    .map(|(key, value)| (key, clear(value, node))),
            )
        }
        (other, _) => other,
    }
}
