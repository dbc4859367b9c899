//! A tree of plain values, and its two forms in print: JSON and YAML.

/// A value of JSON; a map keeps the order in which its keys were put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing: a key of a map that holds it is not printed.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Number(u64),
    /// A string.
    Text(String),
    /// A string that only its owner may see; [`shown`](crate::config::Config::shown) leaves it out.
    Secret(String),
    /// A list.
    List(Vec<Data>),
    /// A map.
    Map(Vec<(String, Data)>),
}

impl Data {
    /// Makes a string of it.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Makes a map of pairs.
    pub fn map<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Data)>) -> Self {
        Self::Map(pairs.into_iter().map(|(k, v)| (k.into(), v)).collect())
    }

    /// Returns what a map has under `key`.
    pub fn at(&self, key: &str) -> Option<&Data> {
        match self {
            Self::Map(pairs) => pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// Returns the text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Secret(text) => Some(text),
            _ => None,
        }
    }

    /// Prints JSON, indented by two spaces.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.json(&mut out, 0);
        out.push('\n');
        out
    }

    /// Prints a YAML document.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        self.yaml(&mut out, 0, false);
        if !out.ends_with('\n') {
            out.push('\n');
        }
        out
    }

    fn json(&self, out: &mut String, depth: usize) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(value) => out.push_str(&value.to_string()),
            Self::Text(text) | Self::Secret(text) => quote(text, out),
            Self::List(items) => {
                let last = items.len().saturating_sub(1);
                brackets(out, depth, ('[', ']'), items.is_empty(), |out| {
                    for (i, item) in items.iter().enumerate() {
                        indent(out, depth + 1);
                        item.json(out, depth + 1);
                        out.push_str(if i == last { "\n" } else { ",\n" });
                    }
                });
            }
            Self::Map(_) => {
                let pairs: Vec<_> = self.pairs().collect();
                let last = pairs.len().saturating_sub(1);
                brackets(out, depth, ('{', '}'), pairs.is_empty(), |out| {
                    for (i, (key, value)) in pairs.iter().enumerate() {
                        indent(out, depth + 1);
                        quote(key, out);
                        out.push_str(": ");
                        value.json(out, depth + 1);
                        out.push_str(if i == last { "\n" } else { ",\n" });
                    }
                });
            }
        }
    }

    /// Writes a value that begins where the cursor is; `inline` says that a key or a dash stands before it.
    fn yaml(&self, out: &mut String, depth: usize, inline: bool) {
        match self {
            Self::Text(text) | Self::Secret(text) if plain(text) => out.push_str(text),
            Self::List(items) if !items.is_empty() => {
                for item in items {
                    new_line(out, depth);
                    out.push_str("- ");
                    match item {
                        Self::List(_) => item.yaml(out, depth + 1, true),
                        _ => item.yaml(out, depth + 1, false),
                    }
                }
            }
            Self::Map(_) if self.pairs().next().is_some() => {
                for (i, (key, value)) in self.pairs().enumerate() {
                    if i > 0 || inline {
                        new_line(out, depth);
                    }
                    key_of(key, out);
                    out.push(':');
                    let nested = match value {
                        Self::List(items) => !items.is_empty(),
                        Self::Map(_) => value.pairs().next().is_some(),
                        _ => false,
                    };
                    if !nested {
                        out.push(' ');
                    }
                    value.yaml(out, depth + 1, true);
                }
            }
            Self::Map(_) => out.push_str("{}"),
            other => other.json(out, depth),
        }
    }

    fn pairs(&self) -> impl Iterator<Item = &(String, Data)> {
        let pairs: &[_] = match self {
            Self::Map(pairs) => pairs,
            _ => &[],
        };
        pairs.iter().filter(|(_, value)| *value != Self::Null)
    }
}

fn key_of(key: &str, out: &mut String) {
    if plain(key) {
        out.push_str(key);
    } else {
        quote(key, out);
    }
}

/// Tells whether a string needs no quotes in YAML, and is no other type to any reader.
fn plain(text: &str) -> bool {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"_-./:".contains(&b);
    let word = text.to_ascii_lowercase();
    text.bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'/')
        && text.bytes().all(safe)
        && !text.ends_with(':')
        && !matches!(
            &*word,
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
        )
}

fn brackets(
    out: &mut String,
    depth: usize,
    (open, close): (char, char),
    empty: bool,
    inner: impl FnOnce(&mut String),
) {
    out.push(open);
    if !empty {
        out.push('\n');
        inner(out);
        indent(out, depth);
    }
    out.push(close);
}

fn new_line(out: &mut String, depth: usize) {
    if !out.is_empty() && !out.ends_with("- ") {
        out.push('\n');
        indent(out, depth);
    }
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
