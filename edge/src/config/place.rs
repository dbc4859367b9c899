//! Places in files, and the errors that name them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::node::Node;
use super::secrets::{cover_all, without_elsewhere};
use super::Watched;

/// A character of a file that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub(crate) file: u32,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

/// The files that a configuration was read from, in the order of their reading.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<(PathBuf, String)>,
}

impl Sources {
    pub(crate) fn add(&mut self, path: PathBuf, text: String) -> u32 {
        self.files.push((path, text));
        // At most `files::MAX_FILES` of them.
        (self.files.len() - 1) as u32
    }

    /// Returns the paths of the files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// Puts stars in place of values that nobody may see, each at its place.
    fn cover(&mut self, mut values: Vec<(Place, String)>) {
        values.sort_by_key(|(place, _)| place.file);
        for values in values.chunk_by(|(one, _), (other, _)| one.file == other.file) {
            let Some((_, text)) = self.files.get_mut(values[0].0.file as usize) else {
                continue;
            };
            let mut lines: Vec<_> = text.split_inclusive('\n').map(str::to_owned).collect();
            for (place, value) in values {
                if let Some(line) = lines.get_mut(place.line as usize - 1) {
                    *line = covered(line, place.column as usize - 1, value);
                }
            }
            *text = lines.concat();
        }
    }

    /// Puts stars in place of all values, of files that are not understood.
    pub(super) fn cover_all(&mut self, keys: &[&str]) {
        for (_, text) in &mut self.files {
            *text = cover_all(text, keys);
        }
    }

    pub(crate) fn text(&self, file: u32) -> &str {
        self.files.get(file as usize).map_or("", |(_, text)| text)
    }

    /// Returns `file:line:column`.
    pub fn name(&self, place: Place) -> String {
        let file = self.files.get(place.file as usize);
        let file = file.map_or("?".into(), |(path, _)| path.display().to_string());
        format!("{file}:{}:{}", place.line, place.column)
    }
}

/// Returns a line with stars in place of the value at a column. What does not stand as it is there, since it is escaped, goes
/// with the rest of its line.
fn covered(line: &str, column: usize, value: &str) -> String {
    let (before, rest) = split_at_char(line, column);
    let quote = rest.len() - rest.trim_start_matches(['"', '\'']).len();
    let (quotes, inside) = rest.split_at(quote);
    let end = if inside.starts_with(value) {
        value.len()
    } else {
        inside.trim_end_matches(['\r', '\n']).len()
    };
    let stars = "*".repeat(inside[..end].chars().count());
    format!("{before}{quotes}{stars}{}", &inside[end..])
}

/// Parts a text before the character of this number.
fn split_at_char(text: &str, number: usize) -> (&str, &str) {
    let at = text
        .char_indices()
        .nth(number)
        .map_or(text.len(), |(at, _)| at);
    text.split_at(at)
}

/// Errors on their way: what has been found so far, in any order.
#[derive(Debug, Default)]
pub struct Errors {
    found: Vec<(Place, String)>,
    /// The folders of the files, by their numbers.
    folders: Vec<PathBuf>,
    /// The values that nobody may see, with their places.
    secrets: Vec<(Place, String)>,
}

/// So many errors are shown; of the others, the number is.
const SHOWN: usize = 100;

impl Errors {
    /// Adds an error.
    pub fn at(&mut self, place: Place, message: impl Into<String>) {
        self.found.push((place, message.into()));
    }

    /// Learns of a value that nobody may see.
    pub(crate) fn secret(&mut self, place: Place, value: &str) {
        self.secrets.push((place, value.to_owned()));
    }

    /// Puts stars in place of all such values.
    pub(crate) fn cover_secrets(&mut self, sources: &mut Sources) {
        sources.cover(std::mem::take(&mut self.secrets));
    }

    /// Learns where files are, for [`Errors::locate`].
    pub(crate) fn learn(&mut self, sources: &Sources) {
        let folder = |path: &Path| path.parent().unwrap_or(Path::new("")).to_owned();
        self.folders = sources.paths().map(folder).collect();
    }

    /// Returns a path that is named at a place: as this process finds it, and as the first file would name it.
    pub(crate) fn locate(&self, place: Place, path: &Path) -> (PathBuf, PathBuf) {
        let Some(folder) = self.folders.get(place.file as usize) else {
            return (path.to_owned(), path.to_owned());
        };
        let found = folder.join(path);
        let shown = found.strip_prefix(&self.folders[0]).unwrap_or(&found);
        let shown = shown.to_owned();
        (found, shown)
    }

    /// Tells whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Counts them.
    pub(crate) fn len(&self) -> usize {
        self.found.len()
    }

    /// Tells whether one more would not be shown, so that nobody needs to make it helpful.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= SHOWN
    }

    /// Puts them in the order of the files, each with the line that it is about. Values from elsewhere, as `tree` knows them,
    /// are left out.
    pub(crate) fn finish(
        mut self,
        sources: &Sources,
        tree: Option<&Node>,
        watched: Watched,
    ) -> ConfigErrors {
        let mut elsewhere = HashMap::new();
        if let Some(tree) = tree {
            tree.elsewhere(&mut elsewhere);
        }
        for (place, message) in &mut self.found {
            if let Some(text) = elsewhere.get(place) {
                without_elsewhere(message, text);
            }
        }
        let mut seen = HashSet::new();
        self.found.retain(|error| seen.insert(error.clone()));
        // Those of one place stay in the order in which they were found: they may be of lines of another file.
        self.found.sort_by_key(|(place, _)| *place);
        let more = self.found.len().saturating_sub(SHOWN);
        self.found.truncate(SHOWN);
        let problem = |(place, message): (Place, String)| {
            let line = sources
                .text(place.file)
                .lines()
                .nth(place.line as usize - 1);
            Problem {
                at: sources.name(place),
                column: place.column,
                line: line.unwrap_or("").to_owned(),
                message,
            }
        };
        ConfigErrors {
            problems: self.found.into_iter().map(problem).collect(),
            more,
            watched,
        }
    }
}

/// Everything that is wrong with a configuration, in the order of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The errors, the first of them when there are very many.
    pub problems: Vec<Problem>,
    /// The number of further errors.
    pub more: usize,
    /// The files whose change may mend it.
    pub watched: Watched,
}

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The place, as `file:line:column`.
    pub at: String,
    /// The column in characters, from 1.
    pub column: u32,
    /// The line of the file.
    pub line: String,
    /// The error in words.
    pub message: String,
}

impl ConfigErrors {
    /// Makes an error about a file that cannot be read at all.
    pub(crate) fn unreadable(path: &Path, why: impl fmt::Display) -> Self {
        let problem = Problem {
            at: path.display().to_string(),
            column: 0,
            line: String::new(),
            message: format!("cannot read the file: {why}"),
        };
        Self {
            problems: vec![problem],
            more: 0,
            watched: Watched {
                files: vec![path.to_owned()],
                globs: Vec::new(),
            },
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        if self.more > 0 {
            writeln!(f, "and {} more errors", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// So much of a line is shown, around the place.
const LINE_SHOWN: usize = 120;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)?;
        if self.column == 0 {
            return Ok(());
        }
        let caret = self.column as usize - 1;
        let first = (caret + 1).saturating_sub(LINE_SHOWN * 2 / 3);
        // A tab is as wide as the space below it, so that the caret stands where it should.
        let shown = self.line.chars().skip(first).take(LINE_SHOWN);
        let shown: String = shown
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        write!(
            f,
            "\n    {}\n    {:>2$}",
            shown.trim_end(),
            '^',
            caret - first + 1
        )
    }
}

/// Shows a text of a file or a request in a message: short, in one line, in backquotes.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 60;
    let mut out = String::new();
    for c in text.chars().take(MOST) {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    format!("`{out}`")
}
