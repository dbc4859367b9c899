//! The folder with what peers and load generators read.

use std::path::{Path, PathBuf};

/// A folder of its own that is removed in the end.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Result<Self, String> {
        let unique = |n: u32| format!("peers-{}-{n}", std::process::id());
        for n in 0..1000 {
            let path = std::env::temp_dir().join(unique(n));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Dir(path)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(format!("{}: {e}", path.display())),
            }
        }
        Err("cannot make a folder for the configurations".into())
    }

    /// With a certificate for TLS in it, alone and together with its key.
    pub(crate) fn with_certificate() -> Result<Self, String> {
        let dir = Self::new()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names)
            .map_err(|e| format!("cannot make a certificate: {e}"))?;
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        dir.write("cert.pem", &cert)?;
        dir.write("key.pem", &key)?;
        dir.write("both.pem", &format!("{cert}{key}"))?;
        Ok(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.0.join(name);
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // What cannot be removed from the folder of temporary files may stay there.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The program of this name, where the shell or the system's administrator would find it.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    let folders = std::env::split_paths(&path).chain(system);
    folders
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_a_certificate_and_ends() {
        let dir = Dir::with_certificate().unwrap();
        let path = dir.path().to_owned();
        let both = std::fs::read_to_string(path.join("both.pem")).unwrap();
        assert!(both.contains("BEGIN CERTIFICATE") && both.contains("BEGIN PRIVATE KEY"));
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn programs_are_found() {
        assert!(program("sh").is_some());
        assert!(program("no such program").is_none());
    }
}
