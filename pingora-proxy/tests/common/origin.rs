//! An origin that follows a script.

use super::Wire;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use tempfile::TempDir;

/// Accepts connections, and runs the script for each on a thread of its own. A script that
/// panics fails the test that made the origin.
pub struct Origin {
    dir: TempDir,
    accepted: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Origin {
    /// `script` gets each connection, and its number from 0.
    pub fn scripted<F>(script: F) -> Self
    where
        F: Fn(Wire, usize) + Send + Sync + 'static,
    {
        let dir = TempDir::new().unwrap();
        let listener = UnixListener::bind(dir.path().join("origin")).unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (accepted, ended) = (accepted.clone(), ended.clone());
            move || accept(&listener, &Arc::new(script), &accepted, &ended)
        });
        Origin {
            dir,
            accepted,
            ended,
            thread: Some(thread),
        }
    }

    /// Reads one request after the other, and answers each with these bytes.
    pub fn answering(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Origin::scripted(move |mut wire, _| {
            while wire.has_more() {
                wire.read_message();
                wire.send(&response);
            }
        })
    }

    /// The path of its socket.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("origin")
    }

    /// How many connections were made so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = UnixStream::connect(self.path());
        thread
            .join()
            .map_err(|_| "the origin itself panicked".to_string())?
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // Scripts wait for connections to end: with a test that failed they may wait in vain.
        if std::thread::panicking() {
            return;
        }
        if let Err(e) = self.end() {
            panic!("{e}");
        }
    }
}

fn accept<F>(
    listener: &UnixListener,
    script: &Arc<F>,
    accepted: &AtomicUsize,
    ended: &AtomicBool,
) -> Result<(), String>
where
    F: Fn(Wire, usize) + Send + Sync + 'static,
{
    let mut scripts = Vec::new();
    loop {
        let (stream, _) = listener.accept().map_err(|e| e.to_string())?;
        if ended.load(Ordering::SeqCst) {
            break;
        }
        let number = accepted.fetch_add(1, Ordering::SeqCst);
        let script = script.clone();
        scripts.push(std::thread::spawn(move || {
            script(Wire::new(stream), number)
        }));
    }
    for (number, script) in scripts.into_iter().enumerate() {
        script
            .join()
            .map_err(|_| format!("the script of connection {number} panicked"))?;
    }
    Ok(())
}
