//! The file: what may stand in it, its reader, its schema.
//!
//! [`load`] reads a file and all that it includes, and returns either a [`Config`] or everything that is wrong, each with
//! its place. Each section of the file is declared once, in [`model`]; the decoder, the schema, the print of the whole
//! effective configuration and the list of keys come from there.

mod contents;
mod files;
pub mod model;
pub mod node;
mod place;
mod scalar;
mod schemas;
pub(crate) mod secrets;
pub mod section;
mod shown;
mod spelling;
#[cfg(test)]
mod tests;
pub mod values;

use std::path::{Path, PathBuf};

pub use files::{Disk, OneFile, World};
pub use place::{ConfigErrors, Errors, Place, Problem, Sources};
pub use section::{At, ByName, Key};

use crate::data::Data;
use node::Node;
use section::{Schemas, Value};

/// A file that was read and is right in itself. `Plan::compile` tells whether it also makes sense.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its content.
    pub model: model::Root,
    /// The files that it came from.
    pub sources: Sources,
    /// The files that would change it.
    pub watched: Watched,
    /// The tree that was decoded. It knows which values are from elsewhere.
    tree: Node,
}

/// The files whose change would change the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Files that were read: the configuration, what it includes, and values.
    pub files: Vec<PathBuf>,
    /// Patterns of `include`, which a new file may match.
    pub globs: Vec<String>,
}

/// Reads a configuration.
///
/// # Errors
///
/// Everything that is wrong with it, in the order of the files, and [the files](ConfigErrors::watched) to watch for a change.
pub fn load(path: &Path, world: &dyn World) -> Result<Config, ConfigErrors> {
    let mut errors = Errors::default();
    let loaded = files::load(path, world, &mut errors)?;
    let mut sources = loaded.sources;
    errors.learn(&sources);
    let mut contents = Vec::new();
    let root = loaded.root;
    let model = root.as_ref().and_then(|root| {
        let mut model = model::Root::decode(root, &mut errors)?;
        contents = contents::read(&mut model, world, &mut errors);
        Some(model)
    });
    if root.is_none() && !errors.is_empty() {
        let known = keys();
        let known: Vec<_> = known.iter().map(|key| key.key).chain(["include"]).collect();
        sources.cover_all(&known);
    }
    errors.cover_secrets(&mut sources);
    let mut watched = Watched {
        files: sources.paths().map(Path::to_owned).collect(),
        globs: loaded.globs,
    };
    watched.files.extend(loaded.values);
    watched.files.extend(contents);
    match model.zip(root.clone()).filter(|_| errors.is_empty()) {
        Some((model, tree)) => Ok(Config {
            model,
            sources,
            watched,
            tree,
        }),
        None => Err(errors.finish(&sources, root.as_ref(), watched)),
    }
}

impl Config {
    /// Looks whether the files of certificates and keys can be read.
    ///
    /// # Errors
    ///
    /// Those that cannot, each with the place that names it. `watched` is what may mend it.
    pub fn check_files(&self, world: &dyn World, watched: &Watched) -> Result<(), ConfigErrors> {
        let mut errors = Errors::default();
        contents::check(&self.model, world, &mut errors);
        if errors.is_empty() {
            return Ok(());
        }
        Err(self.refused(errors, watched.clone()))
    }

    /// Returns errors that were found in it.
    pub(crate) fn refused(&self, errors: Errors, watched: Watched) -> ConfigErrors {
        errors.finish(&self.sources, Some(&self.tree), watched)
    }

    /// Returns the servers that requests go to, wherever they are named.
    pub(crate) fn servers(&self) -> Vec<&At<values::ServerAddress>> {
        let proxies = contents::proxies(&self.model).into_iter();
        let servers = proxies.flat_map(|proxy| &proxy.to);
        servers.map(|server| &server.address).collect()
    }

    /// Prints the whole effective configuration, includes and defaults in it, as a file that reads the same, but for its
    /// secrets: those that stand in it become `***`. Values from the environment and from files are named as they were.
    pub fn adapt(&self) -> String {
        shown::with_references(self.model.print(), &self.tree).to_yaml()
    }

    /// Prints the whole effective configuration for people who may not know its secrets: values from the environment and
    /// from files are left out, and so are those of keys that hold secrets.
    pub fn shown(&self) -> String {
        shown::without_secrets(self.model.print(), &self.tree).to_yaml()
    }
}

#[cfg(test)]
impl Config {
    /// Prints it with its secrets, so that what is read back can be compared.
    fn whole(&self) -> String {
        escaped(self.model.print()).to_yaml()
    }
}

/// Keeps what looks like a reference to a value from being read as one.
pub(crate) fn escaped(data: Data) -> Data {
    match data {
        Data::Text(text) | Data::Secret(text) => Data::Text(text.replace("${", "$${")),
        Data::List(items) => Data::List(items.into_iter().map(escaped).collect()),
        Data::Map(pairs) => Data::map(pairs.into_iter().map(|(key, value)| (key, escaped(value)))),
        other => other,
    }
}

/// Returns the JSON schema of the file.
pub fn schema() -> Data {
    Schemas::document::<model::Root>().0
}

/// Returns every key of every section, in the order of their declaration.
pub fn keys() -> Vec<Key> {
    Schemas::document::<model::Root>().1
}
