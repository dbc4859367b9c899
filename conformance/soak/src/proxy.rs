//! The process under test, which is another one after each upgrade.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::Request;
use hyper_util::rt::TokioIo;
use rustix::process::{
    kill_process, prlimit, set_child_subreaper, waitpid, Pid, Resource, Rlimit, Signal, WaitOptions,
};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::file::{Addresses, Files};

/// Where the state of the process is told.
pub const STATUS: &str = "/api/status";

const START: Duration = Duration::from_secs(30);

pub struct Proxy {
    binary: PathBuf,
    pub files: Files,
    pid: AtomicI32,
}

/// Returns addresses that nobody uses at the moment.
pub fn addresses() -> io::Result<Addresses> {
    let free = || TcpListener::bind(("127.0.0.1", 0));
    let (clear, tls, admin) = (free()?, free()?, free()?);
    Ok(Addresses {
        clear: clear.local_addr()?,
        tls: tls.local_addr()?,
        admin: admin.local_addr()?,
    })
}

impl Proxy {
    /// Starts it, and waits until it serves.
    ///
    /// # Errors
    ///
    /// The reason why it does not.
    pub async fn start(binary: PathBuf, files: Files) -> Result<Self, String> {
        let failed = |e: io::Error| format!("cannot start {}: {e}", binary.display());
        // What an old process leaves behind is this one's child.
        let _ = set_child_subreaper(Some(rustix::process::getpid()));
        let log = File::create(files.path("log")).map_err(failed)?;
        let child = Command::new(&binary)
            .arg("-c")
            .arg(files.config())
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let proxy = Self {
            binary,
            files,
            pid: AtomicI32::new(child.id() as i32),
        };
        let begun = Instant::now();
        while proxy.told(STATUS).await.is_err() {
            if has_ended(proxy.pid()) || begun.elapsed() > START {
                return Err(format!("the proxy does not start: {}", proxy.log_end()));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(proxy)
    }

    pub fn pid(&self) -> i32 {
        self.pid.load(Ordering::SeqCst)
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let log = fs::read_to_string(self.files.path("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    pub fn reload_by_signal(&self) -> Result<(), String> {
        let pid = Pid::from_raw(self.pid()).ok_or("no process")?;
        kill_process(pid, Signal::HUP).map_err(|e| format!("SIGHUP: {e}"))
    }

    /// Sets the descriptors that it may have, and returns how many it might have before.
    pub fn limit_descriptors(&self, most: u64) -> Result<u64, String> {
        let pid = Pid::from_raw(self.pid());
        let failed = |e| format!("prlimit: {e}");
        let now = limits(self.pid())?;
        let new = Rlimit {
            current: Some(most),
            maximum: now.maximum,
        };
        prlimit(pid, Resource::Nofile, new).map_err(failed)?;
        now.current
            .ok_or_else(|| "no limit of descriptors".to_owned())
    }

    /// Exchanges the process. Returns the id of the old one, which finishes its requests.
    ///
    /// # Errors
    ///
    /// The reason why the old one serves on.
    pub async fn upgrade(&self) -> Result<i32, String> {
        let output = tokio::process::Command::new(&self.binary)
            .args(["upgrade", "-c"])
            .arg(self.files.config())
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|e| format!("cannot run the upgrade: {e}"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let new = said.strip_prefix("process ").and_then(|rest| {
            let (pid, _) = rest.split_once(' ')?;
            pid.parse().ok()
        });
        let Some(new) = new.filter(|_| output.status.success()) else {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("upgrade: {}: {said}{why}", output.status));
        };
        Ok(self.pid.swap(new, Ordering::SeqCst))
    }

    /// The document that the admin interface has at a path.
    pub async fn told(&self, path: &str) -> Result<Value, String> {
        let (status, body) = self.admin("GET", path, "").await?;
        if status != 200 {
            return Err(format!("{path} answers {status}"));
        }
        serde_json::from_slice(&body).map_err(|e| format!("{path}: {e}"))
    }

    /// Asks the admin interface.
    pub async fn admin(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(u16, Bytes), String> {
        let address = self.files.addresses.admin;
        let asked = ask(address, method, path, body);
        let answer = tokio::time::timeout(Duration::from_secs(20), asked).await;
        let failed = |e| format!("admin: {method} {path}: {e}");
        answer
            .unwrap_or_else(|_| Err("no answer in 20 s".to_owned()))
            .map_err(failed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.pid()) {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, Bytes), String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|e| e.to_string())?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let driver = tokio::spawn(driver);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", address.to_string())
        .header("content-type", "application/json")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .map_err(|e| e.to_string())?;
    let answer = sender.send_request(request).await;
    let (head, body) = answer.map_err(|e| e.to_string())?.into_parts();
    let body = body.collect().await.map_err(|e| e.to_string())?;
    driver.abort();
    Ok((head.status.as_u16(), body.to_bytes()))
}

/// Returns whether a process has ended. One that was this one's child is gone then.
pub fn has_ended(pid: i32) -> bool {
    if let Some(pid) = Pid::from_raw(pid) {
        // Others are not waited for: that is no error here.
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    // The state follows the name, which may have parentheses itself.
    let state = |stat: &str| {
        stat.rsplit_once(") ")
            .map(|(_, rest)| rest.starts_with('Z'))
    };
    stat.ok().and_then(|stat| state(&stat)).unwrap_or(true)
}

fn limits(pid: i32) -> Result<Rlimit, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).map_err(|e| e.to_string())?;
    let line = text.lines().find(|line| line.starts_with("Max open files"));
    let mut numbers = line.unwrap_or_default().split_whitespace().skip(3);
    let mut number = || numbers.next().and_then(|number| number.parse().ok());
    Ok(Rlimit {
        current: number(),
        maximum: number(),
    })
}
