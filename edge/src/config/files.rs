//! Where a configuration comes from: its file, those that it includes, and values of the environment and of files.

use std::io;
use std::path::{Path, PathBuf};

use super::node::{self, Kind, Node};
use super::place::{shown, ConfigErrors, Errors, Place, Sources};

/// Bytes of a file of the configuration.
pub(super) const MAX_FILE: usize = 16 << 20;
/// Bytes of a value from a file or from the environment.
const MAX_VALUE: usize = 1 << 20;
/// Files of one configuration.
const MAX_FILES: usize = 4096;

/// The world outside the file. [`Disk`] is the real one; tests and fuzzers bring their own.
pub trait World {
    /// Reads a file whole.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn read(&self, path: &Path, most: usize) -> io::Result<Vec<u8>>;

    /// Returns the files that match a pattern, sorted.
    ///
    /// # Errors
    ///
    /// A pattern that is none, or a folder that cannot be read.
    fn glob(&self, pattern: &str) -> Result<Vec<PathBuf>, String>;

    /// Returns the same name for each name of a file.
    fn identity(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    /// Returns a variable of the environment.
    fn env(&self, name: &str) -> Option<String>;
}

/// The files and the environment of this process.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

impl World for Disk {
    fn read(&self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
        use std::io::Read;
        use std::os::unix::fs::FileTypeExt;
        // A reload would wait for whoever writes into it, and find nothing the second time.
        if std::fs::metadata(path)?.file_type().is_fifo() {
            return Err(io::Error::other(
                "it is a pipe, which can be read only once",
            ));
        }
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        file.take(most as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn glob(&self, pattern: &str) -> Result<Vec<PathBuf>, String> {
        let options = glob::MatchOptions {
            require_literal_separator: true,
            require_literal_leading_dot: true,
            ..Default::default()
        };
        let found = glob::glob_with(pattern, options).map_err(|e| e.to_string())?;
        let mut found: Vec<_> = found.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
        found.sort();
        Ok(found)
    }

    fn identity(&self, path: &Path) -> PathBuf {
        path.canonicalize().unwrap_or_else(|_| path.to_owned())
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// One text, whatever file is asked for, and no environment.
#[derive(Clone, Debug)]
pub struct OneFile<T>(pub T);

impl<T: AsRef<str>> World for OneFile<T> {
    fn read(&self, _: &Path, _: usize) -> io::Result<Vec<u8>> {
        Ok(self.0.as_ref().into())
    }

    fn glob(&self, _: &str) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

/// A configuration that was read, all files in one tree.
pub(crate) struct Loaded {
    pub(crate) root: Option<Node>,
    pub(crate) sources: Sources,
    /// Files whose content is a value.
    pub(crate) values: Vec<PathBuf>,
    /// Patterns of `include`.
    pub(crate) globs: Vec<String>,
}

/// Reads `path` and all that it includes.
///
/// # Errors
///
/// The file itself cannot be read. All else is added to `errors`.
pub(crate) fn load(
    path: &Path,
    world: &dyn World,
    errors: &mut Errors,
) -> Result<Loaded, ConfigErrors> {
    let text = read_text(path, world).map_err(|why| ConfigErrors::unreadable(path, why))?;
    let mut loader = Loader {
        world,
        errors,
        loaded: Loaded {
            root: None,
            sources: Sources::default(),
            values: Vec::new(),
            globs: Vec::new(),
        },
        identities: Vec::new(),
        entries: Vec::new(),
        place: None,
        broken: false,
    };
    loader.file(path, text);
    let Loader {
        mut loaded,
        entries,
        place,
        broken,
        ..
    } = loader;
    loaded.root = place.filter(|_| !broken).map(|place| Node {
        place,
        kind: Kind::Map(entries),
    });
    Ok(loaded)
}

struct Loader<'a> {
    world: &'a dyn World,
    errors: &'a mut Errors,
    loaded: Loaded,
    /// The files that are read, by whatever name.
    identities: Vec<PathBuf>,
    /// The keys of all roots: lists of several files are joined.
    entries: Vec<(String, Place, Node)>,
    place: Option<Place>,
    /// A file is no YAML, so that nothing can be said of what is missing.
    broken: bool,
}

impl Loader<'_> {
    fn file(&mut self, path: &Path, text: String) {
        let file = self.loaded.sources.add(path.to_owned(), text.clone());
        self.identities.push(self.world.identity(path));
        let start = Place {
            file,
            line: 1,
            column: 1,
        };
        self.place.get_or_insert(start);
        let before = self.errors.len();
        let Some(mut root) = node::read(&text, file, self.errors) else {
            self.broken |= self.errors.len() > before;
            return;
        };
        self.substitute(&mut root, path);
        let entries = match root.kind {
            Kind::Null => return,
            Kind::Map(entries) => entries,
            _ => {
                self.broken = true;
                // Of a file that is none, nobody knows what it may show.
                let what = match root.kind {
                    Kind::List(_) => "a list",
                    _ => "a text",
                };
                self.errors.at(
                    root.place,
                    format!("a configuration is a map of keys, and not {what}"),
                );
                return;
            }
        };
        let mut includes = Vec::new();
        for (key, place, value) in entries {
            if key == "include" {
                includes.push(value);
            } else {
                self.join(key, place, value);
            }
        }
        for value in includes {
            self.include(value, path);
        }
    }

    fn join(&mut self, key: String, place: Place, value: Node) {
        let Some((_, first, there)) = self.entries.iter_mut().find(|(k, ..)| *k == key) else {
            self.entries.push((key, place, value));
            return;
        };
        let at = value.place;
        match (&mut there.kind, value.kind) {
            (Kind::List(items), Kind::List(more)) => items.extend(more),
            (_, value) => {
                let first = self.loaded.sources.name(*first);
                self.errors.hide(&Node {
                    place: at,
                    kind: value,
                });
                let message = format!(
                    "the key {} is set at {first} already, and only lists are joined",
                    shown(&key)
                );
                self.errors.at(place, message);
            }
        }
    }

    fn include(&mut self, value: Node, from: &Path) {
        match value.kind {
            Kind::Scalar { ref text, .. } => self.include_pattern(text, value.place, from),
            Kind::List(items) => items.into_iter().for_each(|item| self.include(item, from)),
            _ => {
                let what = value.describe();
                let message =
                    format!("`include` is a list of files such as `conf.d/*.yaml`, and not {what}");
                self.errors.at(value.place, message);
            }
        }
    }

    fn include_pattern(&mut self, pattern: &str, place: Place, from: &Path) {
        // The folder is no pattern, whatever characters its name has.
        let folder = from.parent().map_or("".into(), Path::to_string_lossy);
        let whole = Path::new(&glob::Pattern::escape(&folder)).join(pattern);
        let found = match self.world.glob(&whole.to_string_lossy()) {
            Ok(found) => found,
            Err(why) => {
                self.errors
                    .at(place, format!("cannot include {}: {why}", shown(pattern)));
                return;
            }
        };
        if found.is_empty() && !pattern.contains(['*', '?', '[']) {
            self.errors.at(
                place,
                format!("cannot include {}: there is no such file", shown(pattern)),
            );
        }
        self.loaded.globs.push(whole.to_string_lossy().into_owned());
        for path in found {
            if self.identities.contains(&self.world.identity(&path)) {
                let name = path.display();
                self.errors.at(
                    place,
                    format!(
                        "{} includes `{name}`, which is read already",
                        shown(pattern)
                    ),
                );
            } else if self.loaded.sources.paths().count() >= MAX_FILES {
                self.errors
                    .at(place, format!("more than {MAX_FILES} files are included"));
                return;
            } else {
                match read_text(&path, self.world) {
                    Ok(text) => self.file(&path, text),
                    Err(why) => self
                        .errors
                        .at(place, format!("cannot read `{}`: {why}", path.display())),
                }
            }
        }
    }

    /// Replaces `${env:X}` and `${file:X}` in all scalars.
    fn substitute(&mut self, node: &mut Node, from: &Path) {
        match &mut node.kind {
            Kind::Null | Kind::Failed(_) => {}
            Kind::List(items) => items
                .iter_mut()
                .for_each(|item| self.substitute(item, from)),
            Kind::Map(pairs) => pairs
                .iter_mut()
                .for_each(|(_, _, value)| self.substitute(value, from)),
            Kind::Scalar { text, written } if text.contains("${") => {
                match self.expand(text, from) {
                    Ok((expanded, replaced)) => {
                        let before = std::mem::replace(text, expanded);
                        *written = replaced.then_some(before);
                    }
                    Err(message) => {
                        self.errors.at(node.place, message);
                        node.kind = Kind::Failed(std::mem::take(text));
                    }
                }
            }
            Kind::Scalar { .. } => {}
        }
    }

    fn expand(&mut self, text: &str, from: &Path) -> Result<(String, bool), String> {
        let (mut out, mut replaced, mut rest) = (String::new(), false, text);
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                out.push_str(&rest[..at - 1]);
                out.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(&rest[..at]);
            rest = &rest[at + 2..];
            match reference(rest) {
                None => {
                    refuse_shell(rest)?;
                    out.push_str("${");
                }
                Some((source, name, after)) => {
                    out.push_str(&self.value(source, name, from)?);
                    replaced = true;
                    rest = after;
                }
            }
            if out.len() > MAX_VALUE {
                return Err(format!(
                    "the values in it are longer than {MAX_VALUE} bytes"
                ));
            }
        }
        out.push_str(rest);
        Ok((out, replaced))
    }

    fn value(&mut self, source: &str, name: &str, from: &Path) -> Result<String, String> {
        match source {
            "env" => {
                let (name, default) = match name.split_once(":-") {
                    Some((name, default)) => (name, Some(default)),
                    None => (name, None),
                };
                let value = self.world.env(name).or(default.map(str::to_owned));
                value.ok_or_else(|| {
                    format!("the environment has no variable {}; `${{env:{name}:-default}}` gives a default", shown(name))
                })
            }
            "file" => {
                let path = beside(from, name);
                self.loaded.values.push(path.clone());
                let fail = |why: String| format!("cannot read the file {}: {why}", shown(name));
                let bytes = self
                    .world
                    .read(&path, MAX_VALUE)
                    .map_err(|e| fail(e.to_string()))?;
                if bytes.len() > MAX_VALUE {
                    return Err(fail(format!("it is larger than {MAX_VALUE} bytes")));
                }
                let text = String::from_utf8(bytes).map_err(|_| fail("it is no UTF-8".into()))?;
                Ok(text.trim_end_matches(['\n', '\r']).to_owned())
            }
            other => Err(format!(
                "values come from `env` or `file`, and not from {}",
                shown(other)
            )),
        }
    }
}

/// Splits `source:name}rest`.
fn reference(text: &str) -> Option<(&str, &str, &str)> {
    let (inside, after) = text.split_once('}')?;
    let (source, name) = inside.split_once(':')?;
    let word = !source.is_empty() && source.bytes().all(|b| b.is_ascii_alphanumeric());
    word.then_some((source, name, after))
}

/// Refuses `NAME}` behind a `${`, as shells name variables.
fn refuse_shell(rest: &str) -> Result<(), String> {
    let name = rest.split('}').next().unwrap_or("");
    let begins = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_');
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if name.len() == rest.len() || !begins || !name.chars().all(is_part) {
        return Ok(());
    }
    Err(format!(
        "`${{{name}}}` does not say where its value is from; did you mean `${{env:{name}}}`?"
    ))
}

/// Returns `name` as seen from the folder of the file that names it.
fn beside(from: &Path, name: &str) -> PathBuf {
    from.parent()
        .map_or_else(|| name.into(), |folder| folder.join(name))
}

fn read_text(path: &Path, world: &dyn World) -> Result<String, String> {
    let bytes = world.read(path, MAX_FILE).map_err(|e| e.to_string())?;
    if bytes.len() > MAX_FILE {
        return Err(format!("it is larger than {} MiB", MAX_FILE >> 20));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = good.iter().filter(|b| **b == b'\n').count() + 1;
        format!("it is no UTF-8 (line {line})")
    })?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map_or(text.clone(), str::to_owned))
}
