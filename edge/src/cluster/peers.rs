//! The ways to speak to a server.

use pingora_core::upstreams::peer::{HttpPeer, ALPN};

use super::credentials::{Credentials, Files};
use super::greeting::Greeting;
use crate::config::model::{Protocol, Timeouts};
use crate::config::values::{Address, ServerAddress, TimeLimit};
use crate::plan;

/// The part that the peers of a cluster have in common.
pub(super) struct Peers {
    /// The PROXY protocol.
    pub(super) greeting: Option<plan::Greeting>,
    limits: Timeouts,
    tls: Option<Tls>,
}

/// The requests that share a connection of HTTP/2.
const STREAMS: usize = 100;

struct Tls {
    name: Option<String>,
    insecure: bool,
    files: Files,
}

impl Peers {
    /// Reads the files of certificates.
    ///
    /// # Errors
    ///
    /// The problems of those that cannot be used.
    pub(super) fn new(plan: &plan::Cluster) -> Result<Self, String> {
        let tls = plan.tls.as_ref().map(|tls| {
            Ok::<_, String>(Tls {
                name: tls.name.clone(),
                insecure: tls.insecure,
                files: Files::read(tls)?,
            })
        });
        let mut limits = plan.timeouts.clone();
        let retries = plan.retries.as_ref();
        if let Some(each) = retries.and_then(|retries| retries.try_timeout) {
            let within = |limit: TimeLimit| TimeLimit(limit.within(Some(each)));
            limits.connect = within(limits.connect);
            limits.handshake = limits.handshake.map(within);
            limits.response = within(limits.response);
        }
        Ok(Self {
            greeting: plan.greeting.clone(),
            limits,
            tls: tls.transpose()?,
        })
    }

    /// Adds what is in the files to the key of a plan's cluster: new certificates make a new cluster.
    pub(super) fn key(&self, plan: &str) -> String {
        let files = self.tls.as_ref().map_or(0, |tls| tls.files.hash());
        format!("{plan}{files:x}")
    }

    /// Makes certificates for peers of one worker, which share their reference counts with nobody else's.
    pub(super) fn credentials(&self) -> Credentials {
        let files = self.tls.as_ref().map(|tls| &tls.files);
        files.map_or_else(Credentials::default, Files::credentials)
    }

    /// Makes the peer of a server at one of its addresses.
    ///
    /// # Errors
    ///
    /// A Unix socket whose path is none, or that has no name to prove.
    pub(super) fn make(
        &self,
        server: &plan::Endpoint,
        at: &Address,
        credentials: &Credentials,
    ) -> Result<HttpPeer, String> {
        let tls = self.tls.as_ref().filter(|_| server.tls);
        let name = match tls {
            None => String::new(),
            Some(tls) => tls.name_of(&server.address)?,
        };
        let tls = tls.is_some();
        let mut peer = match at {
            Address::Ip(address) => HttpPeer::new(*address, tls, name),
            Address::Unix(path) => {
                let path = path.to_str().ok_or("the path of a socket is UTF-8")?;
                let peer = HttpPeer::new_uds(path, tls, name);
                peer.map_err(|e| format!("`{}`: {e}", server.address))?
            }
            Address::Name(..) => return Err(format!("`{at}` is not looked up")),
        };
        let (options, limits) = (&mut peer.options, &self.limits);
        options.alpn = match (server.protocol, tls) {
            (Protocol::Auto, true) => ALPN::H2H1,
            (Protocol::Auto, false) | (Protocol::H1, _) => ALPN::H1,
            (Protocol::H2 | Protocol::H2c, _) => ALPN::H2,
        };
        options.max_h2_streams = STREAMS;
        match limits.handshake {
            None => options.total_connection_timeout = limits.connect.0,
            Some(handshake) => {
                options.connection_timeout = limits.connect.0;
                options.tls_handshake_timeout = handshake.0;
            }
        }
        options.response_header_timeout = limits.response.0;
        options.read_timeout = limits.read.0;
        options.write_timeout = limits.write.0;
        options.idle_timeout = limits.idle.0;
        if self.tls.as_ref().is_some_and(|tls| tls.insecure) {
            options.verify_cert = false;
            options.verify_hostname = false;
        }
        credentials.give(&mut peer);
        if let Some(greeting) = &self.greeting {
            // Until a request has another one, which tells of its client.
            Greeting::own(greeting).open(&mut peer);
        }
        Ok(peer)
    }
}

impl Tls {
    /// Returns the name that a server must prove to have.
    ///
    /// # Errors
    ///
    /// When it has none.
    fn name_of(&self, server: &ServerAddress) -> Result<String, String> {
        let name = self.name.clone().or_else(|| server.proved_name());
        match name {
            Some(name) => Ok(name),
            None if self.insecure => Ok(String::new()),
            None => Err(format!("TLS to `{server}` needs `name`, as it has none")),
        }
    }
}
