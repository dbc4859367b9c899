//! `reverse-proxy upgrade`: the exchange of a running process by this binary.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;

use super::control_of;
use crate::program::say;

/// Has the process that runs `file` exchanged by one of this binary, with these arguments or those that it has. Returns when
/// the new one serves; with `wait`, when the old one has ended.
///
/// # Errors
///
/// One line that says why not; the old process serves on then.
pub fn upgrade(file: &Path, args: &[OsString], wait: bool) -> Result<(), String> {
    let binary = std::env::current_exe().map_err(|e| format!("upgrade: {e}"))?;
    let path = control_of(file);
    let shown = path.display();
    let mut stream = UnixStream::connect(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!(
                "no process that runs {} is there to upgrade ({shown}: {e})",
                file.display()
            )
        }
        _ => format!("cannot ask for an upgrade at {shown}: {e}"),
    })?;
    let old = old(&stream).map_err(|e| format!("{shown}: {e}"))?;
    let mut question = b"upgrade\0".to_vec();
    for word in std::iter::once(binary.as_os_str()).chain(args.iter().map(OsString::as_os_str)) {
        question.extend_from_slice(word.as_bytes());
        question.push(0);
    }
    let mut line = String::new();
    let mut answers = BufReader::new(&stream);
    let answered = (&stream)
        .write_all(&question)
        .and_then(|()| stream.shutdown(Shutdown::Write))
        .and_then(|()| answers.read_line(&mut line));
    answered.map_err(|e| format!("the process {old} does not answer: {e}"))?;
    match line.trim_end().split_once(' ') {
        Some(("ok", new)) => say(format_args!(
            "process {new} serves; process {old} finishes its requests and ends"
        )),
        Some(("failed", why)) => {
            return Err(format!("no upgrade: {why}; process {old} serves on"));
        }
        _ => return Err(format!("the process {old} has ended without an answer")),
    }
    if wait {
        // It ends with the process.
        let _ = stream.read(&mut [0]);
        say(format_args!("process {old} has ended"));
    }
    Ok(())
}

/// Returns the id of the process at the other end, of this user unless this is root's.
fn old(stream: &UnixStream) -> Result<i32, String> {
    let peer = getsockopt(stream, sockopt::PeerCredentials).map_err(|e| e.to_string())?;
    let own = geteuid();
    if !own.is_root() && peer.uid() != own.as_raw() && peer.uid() != 0 {
        return Err("a process of another user is there".to_owned());
    }
    Ok(peer.pid())
}
