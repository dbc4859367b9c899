//! `reverse-proxy upgrade`: the exchange of a running process by this binary.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::unistd::geteuid;

use super::{control_name, folders, peer};
use crate::program::say;

/// Has the process that runs `file` exchanged by one of this binary, with these arguments or those that it has. Returns when
/// the new one serves; with `wait`, when the old one has ended. `user` is the one that the file has a daemon run as.
///
/// # Errors
///
/// One line that says why not; the old process serves on then.
pub fn upgrade(
    file: &Path,
    args: &[OsString],
    wait: bool,
    user: Option<&str>,
) -> Result<(), String> {
    let binary = std::env::current_exe().map_err(|e| format!("upgrade: {e}"))?;
    let (own, daemon) = (geteuid().as_raw(), user.and_then(peer::user));
    let trusts = |peer, others_write| peer::trusts(own, daemon, peer, others_write);
    let found = peer::find(&folders(), &control_name(file), trusts).map_err(|why| {
        let file = file.display();
        format!("no process that runs {file} is there to upgrade ({why})")
    })?;
    let (mut stream, old) = (found.stream, found.pid);
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
