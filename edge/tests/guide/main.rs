//! The guide: each block of YAML in it, and in the README, is good, and its list of keys is that of the program. `BLESS=1` writes the list.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use edge::config::{self, World};
use edge::data::Data;
use edge::tools;

mod schema;

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guide");

const USERS: &str = "bob:$2y$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e\n";

/// A world of one file. All other files and variables hold a word.
struct Block(String);

impl World for Block {
    fn read(&self, path: &Path, _: usize) -> io::Result<Vec<u8>> {
        let text = match path.file_name().and_then(|name| name.to_str()) {
            Some("edge.yaml") => &self.0,
            Some("htpasswd") => USERS,
            _ => "value",
        };
        Ok(text.as_bytes().to_vec())
    }

    fn glob(&self, _: &str) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, name: &str) -> Option<String> {
        (name != "PORT").then(|| "example.org".to_owned())
    }
}

/// A block of YAML, and the line that it begins at.
struct Found {
    page: String,
    line: usize,
    text: String,
}

impl Found {
    /// Returns it as a whole file: a part is a list of routes, or lacks `listen`.
    fn whole(&self) -> String {
        const LISTEN: &str = "listen: 127.0.0.1:8080\n";
        let text = &self.text;
        let first = text
            .lines()
            .find(|line| !line.starts_with('#'))
            .unwrap_or("");
        if first.starts_with('-') {
            let routes = text.replace('\n', "\n      ");
            return format!("{LISTEN}sites:\n  - routes:\n      {routes}\n");
        }
        let listens = text.lines().any(|line| line.starts_with("listen:"));
        if listens {
            text.clone()
        } else {
            format!("{LISTEN}{text}")
        }
    }
}

fn pages() -> Vec<(String, String)> {
    let files = std::fs::read_dir(GUIDE)
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut pages: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "md"))
        .map(|file| {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(file).unwrap())
        })
        .collect();
    pages.sort();
    pages
}

/// Returns the page that shows a file first.
fn first_page() -> (String, String) {
    let first = "../../README.md";
    let text = std::fs::read_to_string(Path::new(GUIDE).join(first)).unwrap();
    (first.to_owned(), text)
}

/// Returns the blocks of a page that are marked as YAML, without their indentation.
fn blocks(page: &str, text: &str) -> Vec<Found> {
    let (mut found, mut open): (Vec<Found>, Option<usize>) = (Vec::new(), None);
    for (index, line) in text.lines().enumerate() {
        let bare = line.trim_start();
        match open {
            None if bare == "```yaml" => {
                open = Some(line.len() - bare.len());
                found.push(Found {
                    page: page.to_owned(),
                    line: index + 2,
                    text: String::new(),
                });
            }
            None => {}
            Some(_) if bare == "```" => open = None,
            Some(indent) => {
                let block = &mut found.last_mut().unwrap().text;
                block.push_str(line.get(indent..).unwrap_or(""));
                block.push('\n');
            }
        }
    }
    assert_eq!(open, None, "{page}: a block has no end");
    found
}

#[test]
fn every_block_is_good() {
    let (mut count, mut wrong) = (0, String::new());
    for (page, text) in pages().into_iter().chain([first_page()]) {
        for block in blocks(&page, &text) {
            count += 1;
            let whole = block.whole();
            if let Err(e) = tools::check(Path::new("edge.yaml"), &Block(whole.clone())) {
                let Found { page, line, .. } = block;
                write!(wrong, "docs/guide/{page}:{line}:\n{e}\nof\n{whole}\n").unwrap();
            }
        }
    }
    assert_eq!(wrong, "");
    assert!(count >= 10, "only {count} blocks were found");
}

#[test]
fn every_page_is_in_the_list_and_every_link_leads_somewhere() {
    let pages = pages();
    let (_, index) = pages.iter().find(|(name, _)| name == "README.md").unwrap();
    for (name, text) in &pages {
        let listed = name == "README.md" || index.contains(&format!("]({name})"));
        assert!(listed, "docs/guide/README.md has no line for {name}");
        for link in text.split("](").skip(1) {
            let link = link.split([')', '#']).next().unwrap();
            let outside = link.is_empty() || link.contains("://");
            let there = outside || Path::new(GUIDE).join(link).exists();
            assert!(there, "docs/guide/{name} links to {link}");
        }
    }
}

#[test]
fn the_reference_is_that_of_the_program() {
    let file = Path::new(GUIDE).join("reference.md");
    let now = reference();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &now).unwrap();
    }
    let then = std::fs::read_to_string(&file).unwrap_or_default();
    let same = now == then;
    assert!(same, "run: BLESS=1 cargo test -p edge --test guide");
}

const HEAD: &str = "\
# Every key

This page is made of the schema that `reverse-proxy schema` prints, by `BLESS=1 cargo test -p edge --test guide`.

A list of one item may be written as the item alone. A section with a short form may be written as the value of that key
alone.
";

/// Makes the page: a table for each section, in the order in which they are met.
fn reference() -> String {
    let (schema, mut page) = (config::schema(), HEAD.to_owned());
    let Some(Data::Map(sections)) = schema.at("$defs") else {
        panic!("the schema has no sections");
    };
    for (name, schema) in sections {
        section(&mut page, name, schema);
    }
    page
}

fn section(page: &mut String, name: &str, schema: &Data) {
    let any = match schema.at("anyOf") {
        Some(Data::List(any)) => any,
        _ => &vec![schema.clone()],
    };
    let text = |data: &Data, key: &str| {
        let text = data.at(key).and_then(Data::as_str);
        text.unwrap_or_default().replace('\n', " ")
    };
    writeln!(page, "\n## {name}\n\n{}", text(&any[0], "description")).unwrap();
    let Some(Data::Map(properties)) = any[0].at("properties") else {
        return;
    };
    let required = |key: &str| match any[0].at("required") {
        Some(Data::List(all)) => all.iter().any(|one| one.as_str() == Some(key)),
        _ => false,
    };
    if let Some(short) = any.get(1) {
        let short = properties.iter().find(|(_, one)| one == short);
        if let Some((key, _)) = short {
            writeln!(page, "\nShort form: the value of `{key}`.").unwrap();
        }
    }
    page.push_str("\n| key | value | default | |\n|---|---|---|---|\n");
    for (key, property) in properties {
        let default = match property.at("default") {
            _ if required(key) => "must be set".to_owned(),
            None | Some(Data::Null) => String::new(),
            Some(default) => format!("`{}`", default.to_yaml().trim()),
        };
        let docs = text(property, "description").replace('|', "\\|");
        writeln!(
            page,
            "| `{key}` | {} | {default} | {docs} |",
            kind(property)
        )
        .unwrap();
    }
}

/// Tells the type of a value in words.
fn kind(schema: &Data) -> String {
    if let Some(of) = schema.at("$ref").and_then(Data::as_str) {
        let name = of.trim_start_matches("#/$defs/");
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(Data::List(words)) = schema.at("oneOf") {
        let words = words.iter().filter_map(|word| word.at("const")?.as_str());
        let words: Vec<_> = words.map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    if let Some(Data::List(any)) = schema.at("anyOf") {
        let list = any.iter().find_map(|one| one.at("items"));
        return match list {
            Some(items) => format!("list of {}", kind(items)),
            None => any.iter().map(kind).collect::<Vec<_>>().join(" or "),
        };
    }
    // Of several types, the first is what the value is meant to be.
    let types = match schema.at("type") {
        Some(Data::List(types)) => types.first(),
        one => one,
    };
    match types.and_then(Data::as_str) {
        Some("object") => {
            let value = schema.at("additionalProperties");
            format!("map of names to {}", value.map_or_else(String::new, kind))
        }
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("integer") => "number".to_owned(),
        Some("string") => "text".to_owned(),
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    }
}
