//! Where a configuration comes from.

use std::path::{Path, PathBuf};

use super::LoadError;
use crate::config::{Config, Disk, Watched};
use crate::plan::Plan;
use crate::tools;

/// The source of a configuration, at the start and each time again.
pub trait Source: Send + Sync {
    /// Returns the name of the configuration in messages.
    fn name(&self) -> &Path;

    /// Returns what tells the process that runs it from others.
    fn identity(&self) -> &Path;

    /// Returns the file, if it is from one.
    fn file(&self) -> Option<&Path>;

    /// Reads and compiles it. It looks at the disk, so it blocks.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    fn compile(&self) -> Result<(Config, Plan), LoadError>;

    /// Looks whether the files that it names can be read, before anything is made of them. `watched` is what may mend it.
    ///
    /// # Errors
    ///
    /// Those that cannot.
    fn check_files(&self, config: &Config, watched: &Watched) -> Result<(), LoadError> {
        let _ = (config, watched);
        Ok(())
    }

    /// Returns a problem in the words of who wrote the configuration.
    fn told(&self, problem: String) -> String {
        problem
    }
}

/// A file.
pub struct FromFile(pub PathBuf);

impl Source for FromFile {
    fn name(&self) -> &Path {
        &self.0
    }

    fn identity(&self) -> &Path {
        &self.0
    }

    fn file(&self) -> Option<&Path> {
        Some(&self.0)
    }

    fn compile(&self) -> Result<(Config, Plan), LoadError> {
        Ok(tools::compile(&self.0, &Disk)?)
    }

    fn check_files(&self, config: &Config, watched: &Watched) -> Result<(), LoadError> {
        Ok(config.check_files(&Disk, watched)?)
    }
}
