//! The files in which the system says where names are looked up.

use std::fs::Metadata;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::Hosts;

/// The paths of the files.
pub(super) struct Files {
    pub(super) hosts: PathBuf,
    pub(super) resolv_conf: PathBuf,
}

/// The state by which a change is seen: device, file, time and size of each.
pub(super) type FileState = [Option<(u64, u64, i64, i64, u64)>; 2];

impl Files {
    pub(super) fn of_system() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }

    pub(super) fn state(&self) -> FileState {
        [&self.hosts, &self.resolv_conf].map(|path| {
            let of = |m: Metadata| (m.dev(), m.ino(), m.mtime(), m.mtime_nsec(), m.size());
            std::fs::metadata(path).ok().map(of)
        })
    }

    /// Reads the hosts file; what cannot be read of it is not there.
    pub(super) fn hosts(&self) -> Hosts {
        let mut hosts = Hosts::default();
        if let Ok(bytes) = std::fs::read(&self.hosts) {
            let text = String::from_utf8_lossy(&bytes);
            // Lines that say nothing are passed over, and reading from memory does not fail.
            let _ = hosts.read_hosts_conf(text.as_bytes());
        }
        hosts
    }

    /// Reads the servers, search domains and options. Without a server it is the one of this machine, as resolv.conf(5) says.
    pub(super) fn resolv_conf(&self) -> (ResolverConfig, ResolverOpts) {
        let mut text = std::fs::read(&self.resolv_conf).unwrap_or_default();
        let read = parse_resolv_conf(&text).or_else(|_| {
            text.extend_from_slice(b"\nnameserver 127.0.0.1\n");
            parse_resolv_conf(&text)
        });
        read.unwrap_or_else(|e| {
            let path = self.resolv_conf.display();
            log::warn!("{path} is not used, 127.0.0.1 is asked for names: {e}");
            let server = NameServerConfig::udp_and_tcp(IpAddr::from([127, 0, 0, 1]));
            let config = ResolverConfig::from_name_servers(vec![server]);
            (config, ResolverOpts::default())
        })
    }
}

/// Returns servers that the configuration names, with the options that hold for them.
pub(super) fn told(servers: &[SocketAddr]) -> (Vec<NameServerConfig>, ResolverOpts) {
    let server = |address: &SocketAddr| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
        let connections = connections.map(|mut connection| {
            connection.port = address.port();
            connection
        });
        NameServerConfig::new(address.ip(), true, connections.into())
    };
    let mut options = ResolverOpts::default();
    options.timeout = Duration::from_secs(2);
    options.attempts = 2;
    (servers.iter().map(server).collect(), options)
}

/// Returns the addresses that the hosts file has for a name.
pub(super) fn in_hosts(hosts: &Hosts, name: &Name) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for kind in [RecordType::A, RecordType::AAAA] {
        let found = hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let records = found.iter().flat_map(|found| found.answers());
        addresses.extend(records.filter_map(|record| record.data.ip_addr()));
    }
    addresses
}
