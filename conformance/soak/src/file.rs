//! The file that the proxy runs, which differs with each generation.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::authority::Authority;
use crate::origin::HOST;

/// The addresses that the proxy listens at.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub clear: SocketAddr,
    pub tls: SocketAddr,
    pub admin: SocketAddr,
}

/// The folder of all that the proxy reads and writes.
pub struct Files {
    pub folder: PathBuf,
    pub addresses: Addresses,
    servers: Servers,
    /// The server that gets copies of requests.
    mirror: SocketAddr,
    /// The accept strategy of the addresses that are not paths.
    accept: &'static str,
    authority: Authority,
}

/// The addresses of the servers, of each in the same order.
pub struct Servers {
    pub clear: Vec<SocketAddr>,
    pub tls: Vec<SocketAddr>,
}

impl Files {
    /// Makes a first certificate, and the first file.
    pub fn new(
        folder: &Path,
        addresses: Addresses,
        servers: Servers,
        mirror: SocketAddr,
        accept: &'static str,
        authority: Authority,
    ) -> io::Result<Self> {
        let files = Self {
            folder: folder.to_owned(),
            addresses,
            servers,
            mirror,
            accept,
            authority,
        };
        let (certificate, key) = files.certificate()?;

        fs::write(files.path("authority.pem"), files.authority.pem())?;
        fs::write(files.path("cert.pem"), certificate)?;
        fs::write(files.path("key.pem"), key)?;
        fs::write(files.config(), files.text(1))?;
        Ok(files)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The address that is a path.
    pub fn socket(&self) -> PathBuf {
        self.path("http.sock")
    }

    pub fn config(&self) -> PathBuf {
        self.path("edge.yaml")
    }

    /// The certificate of the authority, in DER.
    pub fn authority(&self) -> Vec<u8> {
        self.authority.der()
    }

    /// Makes a certificate and its key, both in PEM.
    pub fn certificate(&self) -> io::Result<(String, String)> {
        self.authority.certificate()
    }

    /// A list of servers, whose weights change with the generation.
    fn list(servers: &[SocketAddr], generation: u64) -> String {
        let mut list = String::new();
        for (number, server) in (0..).zip(servers) {
            let weight = 1 + (generation + number) % 3;
            let _ = write!(list, "{{address: {server}, weight: {weight}}}, ");
        }
        list
    }

    /// The file of a generation. Weights, ways to balance and limits change with it, and answers tell it.
    pub fn text(&self, generation: u64) -> String {
        let Addresses { clear, tls, admin } = self.addresses;
        let folder = self.folder.display();
        let (accept, mirror) = (self.accept, self.mirror);
        let servers = Self::list(&self.servers.clear, generation);
        let tls_servers = Self::list(&self.servers.tls, generation);
        let balance = ["round_robin", "least_requests", "random", "peak_ewma"];
        let balance = balance[generation as usize % balance.len()];
        let backlog = 1024 + generation % 2 * 1024;
        // The time limits are far below those of the clients, and far above what a busy machine takes for an answer.
        let how = format!(
            "balance: {balance}, \
             timeouts: {{connect: 3s, response: 8s, read: 8s, write: 40s, idle: 5s}}, \
             retries: {{attempts: 3, on: [connect, reset, timeout], budget: 100%, try_timeout: 4s}}"
        );
        let proxy = format!("to: [{servers}], {how}");
        let told = format!("response_headers: {{set: {{x-generation: \"{generation}\"}}}}");
        let health = "health: {path: /healthz, interval: 1s, timeout: 3s, healthy_after: 1, unhealthy_after: 2}";
        format!(
            "listen:
  - {{address: {clear}, accept: {accept}, h2c: true, backlog: {backlog}, timeouts: {{idle: 60s, read: 20s}}}}
  - {{address: {tls}, accept: {accept}, tls: true, timeouts: {{idle: 60s, read: 20s, handshake: 20s}}}}
  - {{address: \"unix:{folder}/http.sock\", h2c: true, timeouts: {{idle: 60s, read: 20s}}}}
admin: {admin}
cache: {{memory: 8MiB, max_object: 1MiB}}
access_log: {{to: {folder}/access.log, format: common, sample: 10%}}
sites:
  - hosts: {HOST}
    tls: {{cert: {folder}/cert.pem, key: {folder}/key.pem}}
    routes:
      - path: /main/*
        {told}
        mirror: {{to: {{to: {mirror}, timeouts: {{idle: 5s}}}}, share: 10%}}
        proxy: {{{proxy}}}
      - path: [/two/*, /soak.Echo/*]
        {told}
        proxy: {{{proxy}, protocol: h2c, {health}}}
      - path: /three/*
        {told}
        proxy: {{to: [{tls_servers}], {how}, protocol: h2, tls: {{ca: {folder}/authority.pem, name: {HOST}}}}}
      - path: /cached/*
        {told}
        proxy: {{{proxy}, cache: {{enabled: true, lock: 3s, purge: 127.0.0.1}}}}
      - path: /ws/*
        proxy: {{to: [{servers}], timeouts: {{connect: 3s, read: 20s}}}}
server:
  threads: 2
  work_stealing: false
  upgrade_sock: {folder}/sockets
  grace_period_seconds: 60
"
        )
    }
}
