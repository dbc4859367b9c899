//! Sessions with servers that can be resumed (RFC 8446 section 2.2, RFC 5077).

#![allow(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::library::ex_data::Index;
use super::library::ssl::{
    ConnectConfiguration, Ssl, SslConnectorBuilder, SslSession, SslSessionCacheMode, SslVersion,
};
use parking_lot::Mutex;

use super::utils::CertKey;
use super::CaType;
use crate::protocols::tls::options::Handshake;

/// When there are so many servers, all are forgotten: peers whose options are made anew for each request would
/// fill the memory.
const MOST_SERVERS: usize = 256;
/// Tickets of one server. It sends two for a new session, and one for each that is resumed.
const MOST_TICKETS: usize = 8;

/// The sessions of a connector.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<Key, Arc<Server>>>);

/// A server, and all that its certificate was checked against: it is not checked again when a session is resumed.
#[derive(Hash, PartialEq, Eq)]
struct Key {
    address: String,
    sni: String,
    other_name: Option<String>,
    verify_cert: bool,
    verify_hostname: bool,
    curves: Option<String>,
    /// By their place in memory, which [`Server`] keeps from being used again.
    ca: Option<usize>,
    identity: Option<usize>,
}

/// The sessions with one server, the newest last.
struct Server {
    sessions: Mutex<Vec<Kept>>,
    _ca: Option<Arc<CaType>>,
    _identity: Option<Arc<CertKey>>,
}

/// A session in DER. The library's own object is spoilt by a connection that ends without a farewell, as many do.
struct Kept {
    der: Vec<u8>,
    /// In TLS 1.3 each is for one connection, so that nobody can tell that two have the same client (RFC 8446
    /// appendix C.4).
    once: bool,
}

impl Server {
    fn put(&self, session: &SslSession) {
        let Ok(der) = session.to_der() else { return };
        let once = session.protocol_version() == SslVersion::TLS1_3;
        let mut sessions = self.sessions.lock();
        if sessions.len() >= MOST_TICKETS {
            sessions.remove(0);
        }
        sessions.push(Kept { der, once });
    }

    /// A session to resume.
    fn take(&self) -> Option<SslSession> {
        let mut sessions = self.sessions.lock();
        let der = match sessions.pop()? {
            Kept { der, once: true } => der,
            kept => {
                let der = kept.der.clone();
                sessions.push(kept);
                der
            }
        };
        drop(sessions);
        SslSession::from_der(&der).ok()
    }
}

/// The place of the server in a session of the library. None when the library is out of memory.
fn place() -> Option<Index<Ssl, Arc<Server>>> {
    static PLACE: OnceLock<Option<Index<Ssl, Arc<Server>>>> = OnceLock::new();
    *PLACE.get_or_init(|| Ssl::new_ex_index().ok())
}

/// Has the sessions of connections be kept in the places that [`Sessions::offer`] gives them.
pub(super) fn keep(builder: &mut SslConnectorBuilder) {
    builder.set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
    builder.set_new_session_callback(|ssl, session| {
        if let Some(server) = place().and_then(|place| ssl.ex_data(place)) {
            server.put(&session);
        }
    });
}

impl Sessions {
    /// Offers the server a session to resume if there is one, and keeps those that the connection gets.
    pub(super) fn offer(&self, config: &mut ConnectConfiguration, handshake: &Handshake<'_>) {
        let Some(place) = place() else { return };
        let server = self.server(handshake);
        if let Some(session) = server.take() {
            // SAFETY: it is read from bytes, and so belongs to no other context.
            if let Err(e) = unsafe { config.set_session(&session) } {
                log::debug!("a session cannot be resumed: {e}");
            }
        }
        config.set_ex_data(place, server);
    }

    fn server(&self, handshake: &Handshake<'_>) -> Arc<Server> {
        let (ca, identity) = handshake.places();
        let key = Key {
            address: handshake.address.to_string(),
            sni: handshake.sni.to_owned(),
            other_name: handshake.alternative_cn.map(str::to_owned),
            verify_cert: handshake.verify_cert,
            verify_hostname: handshake.verify_hostname,
            curves: handshake.curves.map(str::to_owned),
            ca,
            identity,
        };
        let mut servers = self.0.lock();
        if let Some(server) = servers.get(&key) {
            return server.clone();
        }
        if servers.len() >= MOST_SERVERS {
            servers.clear();
        }
        let server = Arc::new(Server {
            sessions: Mutex::default(),
            _ca: handshake.ca.cloned(),
            _identity: handshake.client_cert_key.cloned(),
        });
        servers.insert(key, server.clone());
        server
    }
}
