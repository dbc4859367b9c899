//! Texts with names in braces in them; `{{` stands for a brace.

/// Splits a text into what stands for itself and what is named, in order.
///
/// # Errors
///
/// A brace that is not closed, and those of `named`.
pub(super) fn split<P>(
    text: &str,
    plain: impl Fn(String) -> P,
    named: impl Fn(&str) -> Result<P, String>,
) -> Result<Vec<P>, String> {
    let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find('{') {
        literal.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('{') {
            literal.push('{');
            rest = after;
            continue;
        }
        let (name, after) = rest.split_once('}').ok_or("a `{` is not closed by `}`")?;
        if !literal.is_empty() {
            parts.push(plain(std::mem::take(&mut literal)));
        }
        parts.push(named(name)?);
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(plain(literal));
    }
    Ok(parts)
}

/// Writes what stands for itself, the way [`split`] reads it.
pub(super) fn plain(text: &str) -> String {
    text.replace('{', "{{")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_braces_are_told_apart() {
        let table = [
            ("", Ok(vec![])),
            ("a}b", Ok(vec!["a}b"])),
            ("{a}", Ok(vec!["<a>"])),
            ("x{a}{b}y", Ok(vec!["x", "<a>", "<b>", "y"])),
            ("{{a}", Ok(vec!["{a}"])),
            ("{{{a}", Ok(vec!["{", "<a>"])),
            ("x{a", Err("a `{` is not closed by `}`")),
            ("{}", Err("no name")),
        ];
        for (text, expected) in table {
            let found = split(
                text,
                |plain| plain,
                |name| match name {
                    "" => Err("no name".to_owned()),
                    name => Ok(format!("<{name}>")),
                },
            );
            let expected = expected.map(|parts| parts.into_iter().map(str::to_owned).collect());
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        }
    }
}
