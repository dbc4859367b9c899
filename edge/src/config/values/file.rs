//! Files whose content is a part of the configuration.

use std::path::{Path, PathBuf};

use crate::config::node::Node;
use crate::config::section::{Schemas, Value};
use crate::config::{Errors, Place};
use crate::data::Data;

/// A file whose content is a part of the configuration. A relative path begins at the folder of the file that names it.
#[derive(Clone, Debug)]
pub struct ReadFile {
    /// The place that names it.
    pub place: Place,
    path: PathBuf,
    text: String,
}

impl ReadFile {
    /// Returns the path as the configuration names it.
    pub fn path(&self) -> &Path {
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
        PathBuf::decode(node, errors).map(|path| Self {
            place: node.place,
            path,
            text: String::new(),
        })
    }

    fn schema(all: &mut Schemas) -> Data {
        PathBuf::schema(all)
    }

    fn print(&self) -> Data {
        Value::print(&self.path)
    }
}
