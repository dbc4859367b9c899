//! Files that keys name.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::config::node::Node;
use crate::config::section::{Schemas, Value};
use crate::config::{Errors, Place};
use crate::data::Data;

/// A file that a key names. A relative path begins at the folder of the file that names it.
#[derive(Clone, Debug)]
pub struct FilePath {
    /// The place that names it.
    pub place: Place,
    path: PathBuf,
    /// The same as seen from the folder of the first file of the configuration.
    shown: PathBuf,
}

impl Deref for FilePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl FilePath {
    /// Returns the path for messages.
    pub fn shown(&self) -> &Path {
        &self.shown
    }
}

impl Value for FilePath {
    fn decode(node: &Node, errors: &mut Errors) -> Option<Self> {
        let path = PathBuf::decode(node, errors)?;
        let (path, shown) = errors.locate(node.place, &path);
        Some(Self {
            place: node.place,
            path,
            shown,
        })
    }

    fn schema(all: &mut Schemas) -> Data {
        PathBuf::schema(all)
    }

    fn print(&self) -> Data {
        Value::print(&self.shown)
    }
}

/// A file whose content is a part of the configuration.
#[derive(Clone, Debug)]
pub struct ReadFile {
    path: FilePath,
    text: String,
}

impl ReadFile {
    /// Returns the file.
    pub fn path(&self) -> &FilePath {
        &self.path
    }

    /// Returns the content.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Takes the content, once it is read.
    pub(crate) fn fill(&mut self, text: String) {
        self.text = text;
    }
}

impl Value for ReadFile {
    fn decode(node: &Node, errors: &mut Errors) -> Option<Self> {
        FilePath::decode(node, errors).map(|path| Self {
            path,
            text: String::new(),
        })
    }

    fn schema(all: &mut Schemas) -> Data {
        FilePath::schema(all)
    }

    fn print(&self) -> Data {
        self.path.print()
    }
}
