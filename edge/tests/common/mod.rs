//! Files in memory, and what a configuration says of itself.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use edge::config::{self, Config, ConfigErrors, World};
use edge::plan::Plan;

/// A world of its own.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
    pub(crate) env: BTreeMap<String, String>,
}

impl World for Memory {
    fn read(&self, path: &Path, _most: usize) -> io::Result<Vec<u8>> {
        let file = self.files.get(path).cloned();
        file.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "not found"))
    }

    fn glob(&self, pattern: &str) -> Result<Vec<PathBuf>, String> {
        let (before, after) = pattern.split_once('*').unwrap_or((pattern, ""));
        let fits = |path: &&PathBuf| {
            let path = path.to_str().unwrap();
            match pattern.contains('*') {
                true => path.starts_with(before) && path.ends_with(after),
                false => path == pattern,
            }
        };
        Ok(self.files.keys().filter(fits).cloned().collect())
    }

    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }
}

impl Memory {
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter();
        Self {
            files: files
                .map(|(path, text)| (path.into(), text.as_bytes().to_vec()))
                .collect(),
            env: BTreeMap::from([("PORT".to_owned(), "9000".to_owned())]),
        }
    }

    pub(crate) fn load(&self) -> Result<Config, ConfigErrors> {
        config::load(Path::new("edge.yaml"), self)
    }

    pub(crate) fn plan(&self) -> Result<(Config, Plan), ConfigErrors> {
        let config = self.load()?;
        let plan = Plan::compile(&config)?;
        Ok((config, plan))
    }
}
