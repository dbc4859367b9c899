//! What is served without a file.

use std::io;
use std::path::{Path, PathBuf};

use crate::program;
use pingora_core::server::Server;

use crate::config::World;
use crate::live::{self, Loaded};

/// Adds the demo origin to what `server` runs, and makes a configuration that passes all requests to it.
///
/// # Errors
///
/// When the origin finds no port.
pub fn load(server: &mut Server) -> Result<Loaded, String> {
    let origin = program::demo_origin(server)?;
    let text = format!("listen: 127.0.0.1:8080\nsites: {{routes: {{proxy: \"{origin}\"}}}}\n");
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
