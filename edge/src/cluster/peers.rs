//! How a server is spoken to.

use std::time::Duration;

use pingora_core::upstreams::peer::{HttpPeer, ALPN};

use super::credentials::{Credentials, Files};
use crate::config::model::Protocol;
use crate::config::values::Address;
use crate::plan;

/// What the peers of a cluster have in common.
pub(super) struct Peers {
    limits: Limits,
    tls: Option<Tls>,
    protocol: Protocol,
}

/// The requests that share a connection of HTTP/2.
const STREAMS: usize = 100;

struct Limits {
    connect: Duration,
    response: Duration,
    read: Duration,
    write: Duration,
    idle: Duration,
}

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
    /// What cannot be used of them.
    pub(super) fn new(plan: &plan::Cluster) -> Result<Self, String> {
        let seconds = Duration::from_secs;
        // Those of nginx, and the defaults of the section when it is there.
        let limits = plan.timeouts.as_ref();
        let limits = Limits {
            connect: limits.map_or(seconds(5), |limits| limits.connect),
            response: limits.map_or(seconds(60), |limits| limits.response),
            read: limits.map_or(seconds(60), |limits| limits.read),
            write: limits.map_or(seconds(60), |limits| limits.write),
            idle: limits.map_or(seconds(60), |limits| limits.idle),
        };
        let tls = plan.tls.as_ref().map(|tls| {
            Ok::<_, String>(Tls {
                name: tls.name.clone(),
                insecure: tls.insecure,
                files: Files::read(tls)?,
            })
        });
        let each = plan
            .retries
            .as_ref()
            .and_then(|retries| retries.try_timeout);
        let within = |limit: Duration| each.map_or(limit, |each| limit.min(each));
        let limits = Limits {
            connect: within(limits.connect),
            response: within(limits.response),
            ..limits
        };
        Ok(Self {
            limits,
            tls: tls.transpose()?,
            protocol: plan.protocol,
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
        server: &Address,
        at: &Address,
        credentials: &Credentials,
    ) -> Result<HttpPeer, String> {
        let name = match (&self.tls, server) {
            (None, _) => String::new(),
            (
                Some(Tls {
                    name: Some(name), ..
                }),
                _,
            ) => name.clone(),
            (Some(_), Address::Ip(address)) => address.ip().to_string(),
            (Some(_), Address::Name(name, _)) => name.clone(),
            (Some(Tls { insecure: true, .. }), Address::Unix(_)) => String::new(),
            (Some(_), Address::Unix(_)) => {
                return Err(format!("TLS to `{server}` needs `name`, as it has none"))
            }
        };
        let tls = self.tls.is_some();
        let mut peer = match at {
            Address::Ip(address) => HttpPeer::new(*address, tls, name),
            Address::Unix(path) => {
                let path = path.to_str().ok_or("the path of a socket is UTF-8")?;
                HttpPeer::new_uds(path, tls, name).map_err(|e| format!("`{server}`: {e}"))?
            }
            Address::Name(..) => return Err(format!("`{at}` is not looked up")),
        };
        let options = &mut peer.options;
        options.alpn = match (self.protocol, tls) {
            (Protocol::Auto, true) => ALPN::H2H1,
            (Protocol::Auto, false) | (Protocol::H1, _) => ALPN::H1,
            (Protocol::H2 | Protocol::H2c, _) => ALPN::H2,
        };
        options.max_h2_streams = STREAMS;
        options.total_connection_timeout = Some(self.limits.connect);
        options.response_header_timeout = Some(self.limits.response);
        options.read_timeout = Some(self.limits.read);
        options.write_timeout = Some(self.limits.write);
        options.idle_timeout = Some(self.limits.idle);
        if self.tls.as_ref().is_some_and(|tls| tls.insecure) {
            options.verify_cert = false;
            options.verify_hostname = false;
        }
        credentials.give(&mut peer);
        Ok(peer)
    }
}
