//! A web server that others made, as origin.

use super::{eventually, forward_to, Proxy};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// nginx with a folder of files, to which files can be put.
pub struct Nginx {
    dir: TempDir,
    process: Child,
}

impl Nginx {
    /// Starts it, with no file.
    pub fn start() -> Self {
        Nginx::start_with("")
    }

    /// Starts it with these options of its listening socket.
    pub fn start_with(options: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let at = dir.path().display();
        std::fs::create_dir(dir.path().join("files")).unwrap();
        let conf = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;
             events {{}}
             http {{
                 access_log off;
                 client_body_temp_path {at}/bodies; proxy_temp_path {at}/proxy;
                 fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
                 gzip on; gzip_types text/plain; gzip_min_length 1; gzip_proxied any;
                 server {{
                     listen unix:{at}/origin {options};
                     client_max_body_size 100m;
                     location / {{ root {at}/files; dav_methods PUT; }}
                     location /moved {{ return 301 /elsewhere; }}
                 }}
             }}"
        );
        std::fs::write(dir.path().join("conf"), conf).unwrap();
        let process = Command::new("nginx")
            .env(
                "PATH",
                format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()),
            )
            .arg("-p")
            .arg(dir.path())
            .arg("-c")
            .arg(dir.path().join("conf"))
            .arg("-e")
            .arg(dir.path().join("error.log"))
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need nginx (nginx-light is enough)");
        let mut nginx = Nginx { dir, process };
        eventually("nginx listens", || {
            assert_eq!(nginx.process.try_wait().unwrap(), None, "nginx ended");
            std::os::unix::net::UnixStream::connect(nginx.dir.path().join("origin")).is_ok()
        });
        nginx
    }

    /// A file that it serves.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("files").join(name)
    }

    /// A folder that is gone with it.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// The path of its socket.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("origin")
    }

    /// A proxy in front of it.
    pub fn proxy(&self) -> Proxy {
        Proxy::start(forward_to(self.path()))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
