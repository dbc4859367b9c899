//! A server of names that is not ours: dnsmasq.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::tools::{eventually, free};

/// A server of the names below `test`. Names that it does not have do not exist.
pub struct Dns {
    pub address: SocketAddr,
    dir: TempDir,
    child: Option<Child>,
}

impl Dns {
    /// Starts one with these records, each an option of dnsmasq such as `host-record=app.test,192.0.2.1,60`.
    pub fn start(records: &[&str]) -> Self {
        let mut dns = Self {
            address: free(),
            dir: TempDir::new().unwrap(),
            child: None,
        };
        dns.write_hosts("");
        dns.restart(records);
        dns
    }

    fn hosts(&self) -> PathBuf {
        self.dir.path().join("hosts")
    }

    /// The questions that it was asked, a line each.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Counts the questions for a name.
    pub fn asked(&self, question: &str) -> usize {
        let log = self.log();
        log.lines().filter(|line| line.contains(question)).count()
    }

    fn write_hosts(&self, hosts: &str) {
        std::fs::write(self.hosts(), hosts).unwrap();
    }

    /// Has other names with a time to live of one second, as a hosts file has them, without a moment in which it is away.
    pub fn set_hosts(&self, hosts: &str) {
        self.write_hosts(hosts);
        let id = self.child.as_ref().unwrap().id();
        // SAFETY: kill takes two numbers and touches no memory of this process.
        #[allow(unsafe_code)]
        let sent = unsafe { libc::kill(id as i32, libc::SIGHUP) };
        assert_eq!(sent, 0);
    }

    /// Starts it again at its address, with other records.
    pub fn restart(&mut self, records: &[&str]) {
        self.stop();
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("dnsmasq");
        command
            .env("PATH", path)
            .args(["--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
            .args([
                "--keep-in-foreground",
                "--bind-interfaces",
                "--local=/test/",
            ])
            .args(["--local-ttl=1", "--log-queries", "--user=", "--group="])
            .arg(format!("--pid-file={}", at("pid")))
            .arg(format!("--log-facility={}", at("log")))
            .arg(format!("--addn-hosts={}", at("hosts")))
            .arg(format!("--listen-address={}", self.address.ip()))
            .arg(format!("--port={}", self.address.port()))
            .args(records.iter().map(|record| format!("--{record}")))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn();
        let mut child = child.expect("dnsmasq starts; install dnsmasq-base, as test.sh does");
        eventually("the server of names answers", || {
            assert_eq!(child.try_wait().unwrap(), None, "dnsmasq ended");
            self.answers()
        });
        self.child = Some(child);
    }

    /// Asks it for the address of `test.` itself.
    fn answers(&self) -> bool {
        let socket = UdpSocket::bind((self.address.ip(), 0)).unwrap();
        let limit = std::time::Duration::from_millis(100);
        socket.set_read_timeout(Some(limit)).unwrap();
        let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04test\0\0\x01\0\x01";
        let sent = socket
            .connect(self.address)
            .and_then(|()| socket.send(question));
        sent.is_ok() && socket.recv(&mut [0; 512]).is_ok()
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop();
    }
}
