//! What is served without a file.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::World;
use crate::live::{self, Loaded};
use crate::origin::DemoOrigin;

/// Starts the demo origin on a thread of its own, and makes a configuration that passes all requests to it.
///
/// # Errors
///
/// When the origin finds no port, or gets no thread.
pub fn load() -> Result<Loaded, String> {
    let failed = |e: io::Error| format!("cannot start the demo origin: {e}");
    let origin = DemoOrigin::bind().map_err(failed)?;
    origin.spawn().map_err(failed)?;
    let origin = origin.address().map_err(failed)?;
    let text = format!(
        "listen: 127.0.0.1:8080\nadmin: 127.0.0.1:9900\nsites: {{routes: {{proxy: \"{origin}\"}}}}\n"
    );
    live::load(Path::new("demo"), &Demo(text), None).map_err(|e| e.to_string())
}

/// A world of this one file.
struct Demo(String);

impl World for Demo {
    fn read(&self, _: &Path, _: usize) -> io::Result<Vec<u8>> {
        Ok(self.0.clone().into_bytes())
    }

    fn glob(&self, _: &str) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}
