//! Names that nobody knows, and those that are meant.

use super::model::Server;
use super::place::shown;

/// Makes the error of a key that is none of `keys`; a `brief` one does not look for what is meant.
pub(super) fn unknown(key: &str, what: &str, keys: &[&'static str], brief: bool) -> String {
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

/// Returns the question for a word that is nearly one of `words`.
pub(crate) fn did_you_mean(text: &str, words: &[&str]) -> String {
    closest(text, words).map_or_else(String::new, |word| format!("did you mean `{word}`?"))
}
