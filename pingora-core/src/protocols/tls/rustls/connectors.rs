//! The client's side.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use pingora_error::{
    Error,
    ErrorType::{InternalError, InvalidCert},
    OrErr, Result,
};
use pingora_rustls::{
    load_ca_file_into_store, load_certs_and_key_files, load_platform_certs_incl_env_into_store,
    CertificateDer, ClientConfig, CryptoProvider, KeyLogFile, PrivateKeyDer, RootCertStore,
    ServerName, TlsConnector as RustlsConnector,
};

use super::errors::refused;
use super::stream::server_name;
use super::verify::{Check, Verifier};
use super::{provider, CaType, TlsStream};
use crate::protocols::tls::options::{ClientOptions, Handshake};
use crate::protocols::{ALPN, IO};
use crate::utils::tls::CertKey;

/// When so many configurations are kept, all are forgotten: peers whose options are made anew for each request
/// would fill the memory.
const MOST_CONFIGS: usize = 256;

/// The client configurations of a connector: each is made once, and kept.
#[derive(Clone)]
pub struct TlsConnector {
    shared: Arc<Shared>,
}

struct Shared {
    /// The certificates trusted in place of the system's, or why it is not known.
    own_roots: Result<Option<Arc<RootCertStore>>, String>,
    identity: Result<Option<Identity>, String>,
    keylog: bool,
    /// For peers without options of their own, which are the most.
    plain: OnceLock<Arc<ClientConfig>>,
    configs: Mutex<HashMap<Key, Kept>>,
}

/// The options of a peer that a configuration depends on.
#[derive(Hash, PartialEq, Eq)]
struct Key {
    check: Check,
    sni: bool,
    curves: Option<String>,
    /// By their place in memory, which [`Kept`] keeps from being used again.
    ca: Option<usize>,
    identity: Option<usize>,
}

impl Key {
    fn is_plain(&self) -> bool {
        self.check == Check::TrustAndName(None)
            && self.sni
            && self.curves.is_none()
            && self.ca.is_none()
            && self.identity.is_none()
    }
}

struct Kept {
    config: Arc<ClientConfig>,
    _ca: Option<Arc<CaType>>,
    _identity: Option<Arc<CertKey>>,
}

/// A certificate to show, with its key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn of_files((cert, key): &(String, String)) -> Result<Self> {
        match load_certs_and_key_files(cert, key)? {
            Some((chain, key)) => Ok(Identity { chain, key }),
            None => Error::e_explain(
                InvalidCert,
                format!("no certificate in {cert}, or no key in {key}"),
            ),
        }
    }

    fn of_peer(pair: &CertKey) -> Result<Self> {
        let key = PrivateKeyDer::try_from(pair.key().clone());
        Ok(Identity {
            chain: pair.chain(),
            key: key.explain_err(InvalidCert, |e| format!("a peer's client key: {e}"))?,
        })
    }
}

fn roots_of_file(path: &str) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    load_ca_file_into_store(path, &mut roots)
        .map_err(|e| e.more_context(format!("reading the trusted certificates in {path}")))?;
    Ok(Arc::new(roots))
}

/// The certificates that the system trusts, read when they are first wanted.
fn system_roots() -> Result<Arc<RootCertStore>> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let mut roots = RootCertStore::empty();
    load_platform_certs_incl_env_into_store(&mut roots)?;
    Ok(ROOTS.get_or_init(|| Arc::new(roots)).clone())
}

impl TlsConnector {
    pub(crate) fn new(options: ClientOptions) -> Self {
        let tell = |e: Box<Error>| {
            log::error!("TLS connections to peers will fail: {e}");
            e.to_string()
        };
        let roots = options.ca_file.as_ref().map(|file| roots_of_file(file));
        let identity = options.cert_key_file.as_ref().map(Identity::of_files);
        let shared = Shared {
            own_roots: roots.transpose().map_err(tell),
            identity: identity.transpose().map_err(tell),
            keylog: options.debug_ssl_keylog,
            plain: OnceLock::new(),
            configs: Mutex::default(),
        };
        TlsConnector {
            shared: Arc::new(shared),
        }
    }

    /// Does the handshake over `stream`.
    ///
    /// # Errors
    /// `InvalidCert` when the server's certificate is refused, or ours cannot be used; `TLSHandshakeFailure` when
    /// anything else fails.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub(crate) async fn connect<T: IO>(
        &self,
        stream: T,
        handshake: &Handshake<'_>,
    ) -> Result<TlsStream<T>> {
        let (config, name) = self.config(handshake)?;
        let alpn = handshake.alpn.map(ALPN::to_protocols);
        let connector = RustlsConnector::from(config);
        let mut tls = TlsStream::connect(&connector, name, alpn, stream).await?;
        if let Some(hook) = handshake.complete_hook {
            tls.extend(|session| hook(session));
        }
        Ok(tls)
    }

    /// The configuration for a handshake, and the name to verify.
    fn config(
        &self,
        handshake: &Handshake<'_>,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>)> {
        let (check, name, sni) = who(handshake)?;
        let (ca, identity) = handshake.places();
        let key = Key {
            check,
            sni,
            curves: handshake.curves.map(str::to_owned),
            ca,
            identity,
        };
        if key.is_plain() {
            let config = match self.shared.plain.get() {
                Some(config) => config,
                None => {
                    let config = self.shared.make(handshake, &key)?;
                    self.shared.plain.get_or_init(|| config)
                }
            };
            return Ok((config.clone(), name));
        }
        if let Some(kept) = self.shared.configs.lock().get(&key) {
            return Ok((kept.config.clone(), name));
        }
        let config = self.shared.make(handshake, &key)?;
        let kept = Kept {
            config: config.clone(),
            _ca: handshake.ca.cloned(),
            _identity: handshake.client_cert_key.cloned(),
        };
        let mut configs = self.shared.configs.lock();
        if configs.len() >= MOST_CONFIGS {
            configs.clear();
        }
        configs.insert(key, kept);
        Ok((config, name))
    }
}

/// Returns what to check of the peer's certificate, for whom, and whether to say so in the handshake.
fn who(handshake: &Handshake<'_>) -> Result<(Check, ServerName<'static>, bool)> {
    let (verify_cert, verify_name) = (handshake.verify_cert, handshake.verify_hostname);
    let (sni, other) = (handshake.sni, handshake.alternative_cn);
    let name = match (sni, handshake.address.as_inet()) {
        ("", Some(inet)) => ServerName::from(inet.ip()),
        ("", None) if verify_cert && verify_name && other.is_none() => {
            return Err(Handshake::nothing_to_verify())
        }
        // Never said and never verified.
        ("", None) => server_name("unnamed.invalid")?,
        (sni, _) => server_name(sni)?,
    };
    let check = match (verify_cert, verify_name) {
        (false, _) => Check::Nothing,
        (true, false) => Check::Trust,
        (true, true) => Check::TrustAndName(other.map(server_name).transpose()?),
    };
    Ok((check, name, !sni.is_empty()))
}

impl Shared {
    fn make(&self, handshake: &Handshake<'_>, key: &Key) -> Result<Arc<ClientConfig>> {
        let mut provider = provider();
        if let Some(curves) = &key.curves {
            provider = with_groups(&provider, curves)?;
        }
        let verifier = Verifier {
            roots: match key.check {
                Check::Nothing => Arc::new(RootCertStore::empty()),
                _ => self.roots(handshake.ca)?,
            },
            check: key.check.clone(),
            algorithms: provider.signature_verification_algorithms,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| refused("choosing protocol versions", e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match self.identity(handshake.client_cert_key)? {
            None => config.with_no_client_auth(),
            Some(Identity { chain, key }) => config
                .with_client_auth_cert(chain, key)
                .map_err(|e| refused("the client certificate and its key cannot be used", e))?,
        };
        config.enable_sni = key.sni;
        if self.keylog {
            config.key_log = Arc::new(KeyLogFile::new());
        }
        Ok(Arc::new(config))
    }

    fn roots(&self, ca: Option<&Arc<CaType>>) -> Result<Arc<RootCertStore>> {
        if let Some(ca) = ca {
            let mut roots = RootCertStore::empty();
            for cert in ca.iter() {
                roots
                    .add(cert.into())
                    .or_err(InvalidCert, "a certificate in the peer's `ca`")?;
            }
            return Ok(Arc::new(roots));
        }
        match &self.own_roots {
            Ok(Some(roots)) => Ok(roots.clone()),
            Ok(None) => system_roots(),
            Err(e) => Error::e_explain(InvalidCert, e.clone()).map_err(Error::into_in),
        }
    }

    fn identity(&self, of_peer: Option<&Arc<CertKey>>) -> Result<Option<Identity>> {
        match (of_peer, &self.identity) {
            (Some(pair), _) => Identity::of_peer(pair).map(Some),
            (None, Ok(Some(own))) => Ok(Some(Identity {
                chain: own.chain.clone(),
                key: own.key.clone_key(),
            })),
            (None, Ok(None)) => Ok(None),
            (None, Err(e)) => Error::e_explain(InvalidCert, e.clone()).map_err(Error::into_in),
        }
    }
}

/// The same cryptography with these key exchange groups, the preferred one first, separated by `:`.
fn with_groups(provider: &CryptoProvider, names: &str) -> Result<Arc<CryptoProvider>> {
    let group = |name: &str| {
        let known = match name.to_ascii_lowercase().as_str() {
            "p-256" | "prime256v1" => "secp256r1".to_owned(),
            "p-384" => "secp384r1".to_owned(),
            "p-521" => "secp521r1".to_owned(),
            other => other.to_owned(),
        };
        let mut all = provider.kx_groups.iter();
        let found = all.find(|g| format!("{:?}", g.name()).eq_ignore_ascii_case(&known));
        found.copied().ok_or_else(|| {
            let has: Vec<_> = provider.kx_groups.iter().map(|g| g.name()).collect();
            let why = format!("no key exchange group {name:?} in this backend, which has {has:?}");
            Error::explain(InternalError, why).into_in()
        })
    };
    Ok(Arc::new(CryptoProvider {
        kx_groups: names.split(':').map(group).collect::<Result<_>>()?,
        ..provider.clone()
    }))
}
