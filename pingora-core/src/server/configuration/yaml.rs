//! A settings file as a tree: YAML 1.2 with the core schema, as far as settings go.
//!
//! Scalars keep the text that they were written with, for what it means depends on the key: `1000` is a number of
//! threads, and the name of a user.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

/// Deeper than anyone nests settings. A tree is dropped by recursion, which must end before the stack does.
const MAX_DEPTH: usize = 64;
/// Nodes that aliases may stand for in all; without a limit, a few lines of them would fill the memory.
const MAX_ALIASED: usize = 10_000;

/// A node of the document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// A scalar, and whether it may be more than text: it has no quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    /// Entries whose keys are scalars; others cannot be settings.
    Mapping(Vec<(String, Node)>),
    /// A node with a tag of the application, by the tag.
    Tagged(String),
}

/// The meaning of a plain scalar (YAML 1.2.2 section 10.3.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    /// An integer that is not negative.
    Whole(u64),
    /// Any other number.
    Number,
    Text,
}

impl Node {
    /// The meaning of the scalar; `None` for what is none.
    pub(super) fn plain(&self) -> Option<Plain> {
        match self {
            Node::Scalar { text, plain: true } => Some(resolve(text)),
            Node::Scalar { plain: false, .. } => Some(Plain::Text),
            _ => None,
        }
    }

    fn size(&self) -> usize {
        1 + match self {
            Node::Sequence(items) => items.iter().map(Node::size).sum(),
            Node::Mapping(entries) => entries.iter().map(|(_, value)| value.size()).sum(),
            Node::Scalar { .. } | Node::Tagged(_) => 0,
        }
    }
}

/// Resolves a plain scalar.
pub(super) fn resolve(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        _ => {}
    }
    let whole = match text.split_at_checked(2) {
        Some(("0x", digits)) => u64::from_str_radix(digits, 16),
        Some(("0o", digits)) => u64::from_str_radix(digits, 8),
        _ => text.parse(),
    };
    let digits = text.trim_start_matches(['+', '-', '.']);
    match whole {
        Ok(n) => Plain::Whole(n),
        // Rust reads words like `inf` as numbers, which YAML writes with a dot before them.
        Err(_) if digits.starts_with(|c: char| c.is_ascii_digit()) => match text.parse::<f64>() {
            Ok(_) => Plain::Number,
            Err(_) => Plain::Text,
        },
        Err(_) => Plain::Text,
    }
}

/// A collection that is not closed yet.
enum Open {
    Sequence(Vec<Node>),
    Mapping {
        entries: Vec<(String, Node)>,
        /// The key that waits for its value; the inner `None` for one that is no scalar.
        key: Option<Option<String>>,
    },
}

#[derive(Default)]
struct Tree {
    /// The collections that are open, with their anchors and tags.
    open: Vec<(Open, usize, Option<String>)>,
    anchors: HashMap<usize, Node>,
    aliased: usize,
    documents: Vec<Node>,
}

/// Reads a document; `None` when it is empty.
///
/// # Errors
/// Says what is wrong, and where.
pub(super) fn parse(text: &str) -> Result<Option<Node>, String> {
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| e.to_string())?;
        let at = span.start;
        tree.event(event)
            .map_err(|e| format!("{e} at line {} column {}", at.line(), at.col() + 1))?;
    }
    if tree.documents.len() > 1 {
        return Err("more than one document".into());
    }
    Ok(tree.documents.pop())
}

impl Tree {
    fn event(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let text = text.into_owned();
                self.node(
                    Node::Scalar { text, plain },
                    anchor,
                    foreign(tag.as_deref()),
                )
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                // The parser knows all anchors; one that is still open would contain itself.
                let node = node.ok_or("an alias of a node that it is part of")?;
                self.aliased = self.aliased.saturating_add(node.size());
                if self.aliased > MAX_ALIASED {
                    return Err("too many aliases".into());
                }
                self.node(node, 0, None)
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(Open::Sequence(Vec::new()), anchor, foreign(tag.as_deref()))
            }
            Event::MappingStart(anchor, tag) => {
                let (entries, key) = (Vec::new(), None);
                let mapping = Open::Mapping { entries, key };
                self.begin(mapping, anchor, foreign(tag.as_deref()))
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some((Open::Sequence(items), anchor, tag)) => {
                    self.node(Node::Sequence(items), anchor, tag)
                }
                Some((Open::Mapping { entries, .. }, anchor, tag)) => {
                    self.node(Node::Mapping(entries), anchor, tag)
                }
                None => Err("the end of a collection that was not begun".into()),
            },
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open, anchor: usize, tag: Option<String>) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} collections in each other"));
        }
        self.open.push((open, anchor, tag));
        Ok(())
    }

    /// Puts a complete node where it belongs.
    fn node(&mut self, node: Node, anchor: usize, tag: Option<String>) -> Result<(), String> {
        let node = tag.map_or(node, Node::Tagged);
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.documents.push(node),
            Some((Open::Sequence(items), ..)) => items.push(node),
            Some((Open::Mapping { entries, key }, ..)) => match key.take() {
                None => {
                    *key = Some(match node {
                        Node::Scalar { text, .. } => {
                            if entries.iter().any(|(known, _)| *known == text) {
                                return Err(format!("the key {text} a second time"));
                            }
                            Some(text)
                        }
                        _ => None,
                    });
                }
                Some(Some(name)) => entries.push((name, node)),
                Some(None) => {}
            },
        }
        Ok(())
    }
}

/// The name of a tag that is not one of YAML's own.
fn foreign(tag: Option<&Tag>) -> Option<String> {
    tag.filter(|tag| !tag.is_yaml_core_schema())
        .map(|tag| format!("{}{}", tag.handle, tag.suffix))
}

/// Writes text so that it reads back as text.
pub(super) fn quoted(text: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(word)
        && resolve(text) == Plain::Text;
    if plain {
        return text.to_string();
    }
    // A string of JSON is one of YAML, but for what has to be escaped in YAML alone.
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() || "\u{85}\u{2028}\u{2029}\u{feff}".contains(c) => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scalar(text: &str) -> Node {
        let (text, plain) = (text.into(), true);
        Node::Scalar { text, plain }
    }

    fn mapping(entries: &[(&str, Node)]) -> Node {
        let owned = |(key, value): &(&str, Node)| (key.to_string(), value.clone());
        Node::Mapping(entries.iter().map(owned).collect())
    }

    #[test]
    fn documents() {
        for empty in ["", "# nothing\n"] {
            assert_eq!(parse(empty), Ok(None), "{empty:?}");
        }
        assert_eq!(parse("~"), Ok(Some(scalar("~"))));
        let quoted = |text: &str| Node::Scalar {
            text: text.into(),
            plain: false,
        };
        for (text, tree) in [
            ("a: 1", mapping(&[("a", scalar("1"))])),
            (
                "a: '1'\nb: !!str 2",
                mapping(&[("a", quoted("1")), ("b", quoted("2"))]),
            ),
            (
                "a: &x 1\nb: *x",
                mapping(&[("a", scalar("1")), ("b", scalar("1"))]),
            ),
            ("a: !b 1", mapping(&[("a", Node::Tagged("!b".into()))])),
            (
                "[1]: 2\na: [b]",
                mapping(&[("a", Node::Sequence(vec![scalar("b")]))]),
            ),
            ("\u{feff}a: 1", mapping(&[("a", scalar("1"))])),
        ] {
            assert_eq!(parse(text), Ok(Some(tree)), "{text:?}");
        }
    }

    #[test]
    fn refused() {
        let bomb = (1..9).fold("a0: &a0 [x, x, x, x]\n".to_string(), |text, n| {
            let inner = format!("*a{}, ", n - 1).repeat(9);
            format!("{text}a{n}: &a{n} [{inner}]\n")
        });
        for (text, why) in [
            (
                "a: 1\na: 2".to_string(),
                "the key a a second time at line 2 column 1",
            ),
            ("a: 1\n--- \nb: 2".into(), "more than one document"),
            ("a: [".into(), "at byte 4"),
            ("a: &x [*x]".into(), "an alias"),
            ("- ".repeat(100_000), "more than 64"),
            ("[".repeat(100_000), "recursion limit"),
            (bomb, "too many aliases"),
        ] {
            let said = parse(&text).expect_err(why);
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn plain_scalars() {
        for (text, meaning) in [
            ("", Plain::Null),
            ("True", Plain::Bool(true)),
            ("yes", Plain::Text),
            ("0", Plain::Whole(0)),
            ("18446744073709551615", Plain::Whole(u64::MAX)),
            ("18446744073709551616", Plain::Number),
            ("0x1f", Plain::Whole(31)),
            ("0o17", Plain::Whole(15)),
            ("-1", Plain::Number),
            ("1.5e3", Plain::Number),
            (".5", Plain::Number),
            ("inf", Plain::Text),
            ("127.0.0.1", Plain::Text),
            ("1s", Plain::Text),
            ("é", Plain::Text),
        ] {
            assert_eq!(resolve(text), meaning, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn text_that_is_written_reads_back_as_text(text in "\\PC*|[ -~\\t\\n\u{85}\u{feff}]*|[0-9a-z.~-]{0,6}") {
            let read = parse(&format!("a: {}", quoted(&text)));
            let Ok(Some(Node::Mapping(entries))) = read else { panic!("{read:?}") };
            let [(_, node)] = &entries[..] else { panic!("{entries:?}") };
            let Node::Scalar { text: read, .. } = node else { panic!("{node:?}") };
            prop_assert_eq!(read, &text);
            prop_assert_eq!(node.plain(), Some(Plain::Text));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{},:&*!|>'\"%@` \\n\\t#?a1~-]{0,64}") {
            let _ = parse(&text);
        }
    }
}
