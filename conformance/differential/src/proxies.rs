//! The proxies, each started in front of an origin at a Unix socket of its own.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running proxy. It ends when this is dropped.
pub struct Proxy {
    pub name: &'static str,
    pub socket: PathBuf,
    process: Child,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const START: Duration = Duration::from_secs(60);

fn started(name: &'static str, socket: PathBuf, command: &mut Command) -> Result<Proxy, String> {
    let failed = |e: std::io::Error| format!("{name}: {e}");
    let output = fs::File::create(socket.with_extension("log")).map_err(failed)?;
    let process = command
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(failed)?)
        .stderr(output)
        .spawn()
        .map_err(failed)?;
    let mut proxy = Proxy {
        name,
        socket,
        process,
    };
    let begun = Instant::now();
    while UnixStream::connect(&proxy.socket).is_err() {
        if matches!(proxy.process.try_wait(), Ok(Some(_))) || begun.elapsed() > START {
            let said = fs::read_to_string(proxy.socket.with_extension("log"));
            return Err(format!(
                "{name} does not start: {}",
                said.unwrap_or_default()
            ));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(proxy)
}

/// Starts the proxy of this project.
pub fn ours(dir: &Path, binary: &Path, origin: SocketAddr) -> Result<Proxy, String> {
    let socket = dir.join("ours.sock");
    let mut command = Command::new(binary);
    command
        .arg("--listen")
        .arg(format!("unix:{}", socket.display()))
        .args(["--threads", "1", "--h2c", "--max-fails", "0"])
        .args(["--upstream", &origin.to_string()]);
    started("ours", socket, &mut command)
}

pub fn nginx(dir: &Path, origin: SocketAddr) -> Result<Proxy, String> {
    let (socket, config) = (dir.join("nginx.sock"), dir.join("nginx.conf"));
    let text = format!(
        "daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/nginx.err crit;\n\
         events {{}}\n\
         http {{\n\
           access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;\n\
           fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
           upstream origin {{ server {origin}; keepalive 8; }}\n\
           server {{\n\
             listen unix:{socket};\n\
             location / {{\n\
               proxy_pass http://origin; proxy_http_version 1.1;\n\
               proxy_set_header Connection \"\"; proxy_set_header Host $http_host;\n\
             }}\n\
           }}\n\
         }}\n",
        dir = dir.display(),
        socket = socket.display(),
    );
    fs::write(&config, text).map_err(|e| e.to_string())?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir).arg("-c").arg(&config);
    started("nginx", socket, &mut command)
}

pub fn haproxy(dir: &Path, origin: SocketAddr) -> Result<Proxy, String> {
    let (socket, config) = (dir.join("haproxy.sock"), dir.join("haproxy.cfg"));
    let text = format!(
        "global\n\
           maxconn 200\n\
         defaults\n\
           mode http\n\
           timeout connect 5s\n\
           timeout client 20s\n\
           timeout server 20s\n\
         frontend in\n\
           bind unix@{socket}\n\
           default_backend out\n\
         backend out\n\
           server origin {origin}\n",
        socket = socket.display(),
    );
    fs::write(&config, text).map_err(|e| e.to_string())?;
    let mut command = Command::new("haproxy");
    command.arg("-f").arg(&config);
    started("HAProxy", socket, &mut command)
}
