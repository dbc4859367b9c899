//! nginx with TLS, and a folder of files to which files can be put.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::certs::{Authority, Pair};
use crate::common::eventually;

pub(crate) struct Nginx {
    dir: TempDir,
    address: SocketAddr,
    process: Child,
}

impl Nginx {
    pub(crate) fn start(authority: &Authority) -> Self {
        Nginx::start_with(&authority.issue("nginx", &Default::default()))
    }

    pub(crate) fn start_with(pair: &Pair) -> Self {
        let dir = TempDir::new().unwrap();
        let at = dir.path().display();
        std::fs::create_dir(dir.path().join("files")).unwrap();
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .unwrap();
        let Pair { cert, key } = pair;
        let conf = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;
             events {{}}
             http {{
                 access_log off;
                 client_body_temp_path {at}/bodies; proxy_temp_path {at}/proxy;
                 fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
                 server {{
                     listen {address} ssl http2;
                     ssl_certificate {cert}; ssl_certificate_key {key};
                     client_max_body_size 100m;
                     add_header X-Connection $connection;
                     add_header X-Version $server_protocol;
                     location / {{ root {at}/files; dav_methods PUT; }}
                 }}
             }}"
        );
        std::fs::write(dir.path().join("conf"), conf).unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let process = Command::new("nginx")
            .env("PATH", format!("{path}:/usr/sbin"))
            .arg("-p")
            .arg(dir.path())
            .arg("-c")
            .arg(dir.path().join("conf"))
            .arg("-e")
            .arg(dir.path().join("error.log"))
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need nginx (nginx-light is enough)");
        let mut nginx = Nginx {
            dir,
            address,
            process,
        };
        eventually("nginx listens", || {
            assert_eq!(nginx.process.try_wait().unwrap(), None, "nginx ended");
            TcpStream::connect(address).is_ok()
        });
        nginx
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A file that it serves.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("files").join(name)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
