//! The socket by which a process is asked for an upgrade.
//!
//! A question is `upgrade`, the path of the new binary and its arguments, each ended by a NUL; without arguments the new
//! process gets those of the old one. The answer is a line: `ok` and the id of the new process, or `failed` and why. Then the
//! connection lasts as long as the old process.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::successor::Successor;

/// Bytes of a question.
const LONGEST: u64 = 64 * 1024;
/// The time for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause after a failed accept.
const PAUSE: Duration = Duration::from_secs(1);

/// The socket; none where it could not be had.
pub(super) struct Control {
    path: PathBuf,
    listener: Option<UnixListener>,
    /// The number of the file that it is, by which it is known from that of another process.
    file: Option<(u64, u64)>,
}

impl Control {
    /// Listens at a path, in place of the process that did before.
    pub(super) fn bind(path: &Path) -> Self {
        let refused = |e: io::Error| {
            log::warn!("no upgrade by command is possible: {}: {e}", path.display());
        };
        let (listener, file) = bind(path).map_err(refused).ok().unzip();
        Self {
            path: path.to_owned(),
            listener,
            file: file.flatten(),
        }
    }

    pub(super) async fn accept(&self) -> UnixStream {
        let Some(listener) = &self.listener else {
            return std::future::pending().await;
        };
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(e) => {
                    log::warn!("{}: {e}", self.path.display());
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Removes the socket of a process that ends and has no successor.
    pub(super) fn remove(&self) {
        // A process that has taken the sockets over by itself listens at the same path.
        if self.listener.is_some() && self.file.is_some() && self.file == file(&self.path) {
            // Somebody may have tidied up.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Returns the device and the number of a file.
fn file(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

fn bind(path: &Path) -> io::Result<(UnixListener, Option<(u64, u64)>)> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    let file = file(&new);
    // In one step: who asks finds the old process or this one.
    std::fs::rename(&new, path)?;
    Ok((listener, file))
}

/// Returns whether the process at the other end is one of this user or of root.
pub(super) fn is_trusted(stream: &UnixStream) -> bool {
    let peer = stream.peer_cred().map(|peer| peer.uid());
    peer.is_ok_and(|uid| uid == 0 || uid == geteuid().as_raw())
}

/// Answers a question.
pub(super) async fn serve(mut stream: UnixStream, successor: Arc<Successor>) {
    let answer = if is_trusted(&stream) {
        match tokio::time::timeout(PATIENCE, question(&mut stream)).await {
            Ok(Ok((binary, args))) => successor.start(&binary, args).await,
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err("the question did not come in time".to_owned()),
        }
    } else {
        Err("another user asks".to_owned())
    };
    let line = match &answer {
        Ok(pid) => format!("ok {pid}\n"),
        Err(why) => format!("failed {why}\n"),
    };
    if let Err(why) = &answer {
        log::error!("no upgrade: {why}; this process serves on");
    }
    // Who asked may have left.
    let told = stream.write_all(line.as_bytes()).await;
    if let (Ok(()), Ok(_), Ok(stream)) = (told, answer, stream.into_std()) {
        // It ends with the process, which is what the other end may wait for.
        std::mem::forget(stream);
    }
}

async fn question(stream: &mut UnixStream) -> io::Result<(OsString, Vec<OsString>)> {
    let mut bytes = Vec::new();
    stream.take(LONGEST).read_to_end(&mut bytes).await?;
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "no such question");
    let bytes = bytes.strip_suffix(b"\0").ok_or_else(wrong)?;
    let mut words = bytes.split(|byte| *byte == 0);
    if words.next() != Some(b"upgrade") {
        return Err(wrong());
    }
    let mut words = words.map(|word| OsString::from_vec(word.to_vec()));
    let binary = words.next().ok_or_else(wrong)?;
    Ok((binary, words.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_removes_its_own_socket_and_no_other_one() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("control");
        let old = Control::bind(&path);
        let new = Control::bind(&path);
        old.remove();
        assert!(path.exists(), "it is the new process's");
        new.remove();
        assert!(!path.exists());
    }
}
