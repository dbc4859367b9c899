//! The client's side.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::{Arc, OnceLock};

use super::library::ext;
use super::library::ssl::{
    ConnectConfiguration, SslConnector, SslConnectorBuilder, SslFiletype, SslMethod, SslVerifyMode,
};
use super::library::x509::store::X509StoreBuilder;
use super::library::x509::X509;
use parking_lot::Mutex;
use pingora_error::{
    Error,
    ErrorType::{InternalError, InvalidCert},
    OrErr, Result,
};

use super::errors::refused;
use super::names::verify_names;
use super::resume::{self, Sessions};
use super::utils::CertKey;
use super::{client, SslStream};
use crate::protocols::tls::options::{ClientOptions, Handshake};
use crate::protocols::IO;

/// The client configuration of a connector, made once.
#[derive(Clone)]
pub struct TlsConnector {
    shared: Arc<Shared>,
}

impl TlsConnector {
    pub(crate) fn new(options: ClientOptions) -> Self {
        let has_files = options.ca_file.is_some() || options.cert_key_file.is_some();
        let shared = Arc::new(Shared {
            options,
            ready: OnceLock::new(),
            sessions: Sessions::default(),
        });
        if has_files {
            shared.ready();
        }
        TlsConnector { shared }
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
    ) -> Result<SslStream<T>> {
        let config = self.shared.configure(handshake)?;
        let hook = handshake.complete_hook.cloned();
        client::handshake(config, handshake.sni, stream, hook).await
    }
}

struct Shared {
    options: ClientOptions,
    /// Made for the first connection: the system's certificates take a while to read.
    ready: OnceLock<Ready>,
    sessions: Sessions,
}

/// The means to connect; where they are missing, why.
struct Ready {
    ssl: Result<SslConnector, String>,
    trust: Result<(), String>,
    identity: Result<(), String>,
}

impl Shared {
    fn ready(&self) -> &Ready {
        self.ready.get_or_init(|| {
            let tell = |e: Box<Error>| {
                log::error!("TLS connections to peers will fail: {e}");
                e.to_string()
            };
            let builder = SslConnector::builder(SslMethod::tls());
            let mut builder = match builder.map_err(refused("preparing a TLS client")) {
                Ok(builder) => builder,
                Err(e) => {
                    return Ready {
                        ssl: Err(tell(e)),
                        trust: Ok(()),
                        identity: Ok(()),
                    }
                }
            };
            resume::keep(&mut builder);
            let trust = set_trust(&mut builder, self.options.ca_file.as_deref()).map_err(tell);
            let identity = match &self.options.cert_key_file {
                Some((cert, key)) => set_identity(&mut builder, cert, key).map_err(tell),
                None => Ok(()),
            };
            if self.options.debug_ssl_keylog {
                log_keys(&mut builder);
            }
            Ready {
                ssl: Ok(builder.build()),
                trust,
                identity,
            }
        })
    }

    /// The session's configuration for a handshake.
    fn configure(&self, handshake: &Handshake<'_>) -> Result<ConnectConfiguration> {
        let ready = self.ready();
        let ssl = ready.ssl.as_ref().map_err(|why| unusable(why))?;
        let mut config = ssl.configure().map_err(refused("preparing a session"))?;
        match handshake.client_cert_key {
            Some(pair) => show(&mut config, pair)?,
            None => ready
                .identity
                .as_ref()
                .map_err(|why| unusable(why))
                .copied()?,
        }
        set_groups(&mut config, handshake)?;
        if let Some(alpn) = handshake.alpn {
            let set = config.set_alpn_protos(&alpn.to_wire());
            set.map_err(refused("offering application protocols"))?;
        }
        self.sessions.offer(&mut config, handshake);
        // The names to verify are set below: there may be two.
        config.set_verify_hostname(false);
        config.set_use_server_name_indication(!handshake.sni.is_empty());
        if !handshake.verify_cert {
            config.set_verify(SslVerifyMode::NONE);
            return Ok(config);
        }
        config.set_verify(SslVerifyMode::PEER);
        match handshake.ca {
            Some(ca) => trust_only(&mut config, ca)?,
            None => ready.trust.as_ref().map_err(|why| unusable(why)).copied()?,
        }
        if handshake.verify_hostname {
            verify_names(&mut config, handshake)?;
        }
        Ok(config)
    }
}

fn unusable(why: &str) -> Box<Error> {
    Error::explain(InvalidCert, why.to_owned()).into_in()
}

fn set_trust(builder: &mut SslConnectorBuilder, file: Option<&str>) -> Result<()> {
    if let Some(file) = file {
        // In place of what the builder found by itself.
        let empty = X509StoreBuilder::new().map_err(refused("making a store of certificates"))?;
        builder.set_cert_store(empty.build());
        return builder.set_ca_file(file).or_err_with(InvalidCert, || {
            format!("reading the trusted certificates in {file}")
        });
    }
    let system = openssl_probe::probe();
    let (file, dir) = (system.cert_file.as_deref(), system.cert_dir.as_deref());
    match (file, dir) {
        (None, None) => Ok(()),
        (Some(file), _) => builder.load_verify_locations(Some(file), None),
        (None, dir) => builder.load_verify_locations(None, dir),
    }
    .map_err(refused("reading the certificates that the system trusts"))
}

fn set_identity(builder: &mut SslConnectorBuilder, cert: &str, key: &str) -> Result<()> {
    builder
        .set_certificate_chain_file(cert)
        .or_err_with(InvalidCert, || format!("the client certificates in {cert}"))?;
    builder
        .set_private_key_file(key, SslFiletype::PEM)
        .or_err_with(InvalidCert, || format!("the client key in {key}"))
}

/// Has the secrets of sessions appended to the file that `SSLKEYLOGFILE` names.
fn log_keys(builder: &mut SslConnectorBuilder) {
    let Some(path) = std::env::var_os("SSLKEYLOGFILE") else {
        return;
    };
    let file: std::io::Result<File> = OpenOptions::new().append(true).create(true).open(&path);
    match file {
        Ok(file) => {
            let file = Mutex::new(file);
            builder.set_keylog_callback(move |_, line| {
                if let Err(e) = file.lock().write_all(format!("{line}\n").as_bytes()) {
                    log::warn!("writing TLS keys to SSLKEYLOGFILE: {e}");
                }
            });
        }
        Err(e) => log::warn!("opening {} for TLS keys: {e}", path.to_string_lossy()),
    }
}

/// The groups that OpenSSL offers by itself since 3.5, less the mark that sends a share of X25519 too.
const ONE_SHARE: &str =
    "?*X25519MLKEM768 / ?X25519:?secp256r1 / ?X448:?secp384r1:?secp521r1 / ?ffdhe2048:?ffdhe3072";

/// Sets which key exchange groups to offer, and of which to send a share.
fn set_groups(config: &mut ConnectConfiguration, handshake: &Handshake<'_>) -> Result<()> {
    let second = handshake.second_keyshare;
    ext::ssl_use_second_key_share(config, second);
    match handshake.curves {
        Some(curves) => ext::ssl_set_groups_list(config, curves).or_err_with(InternalError, || {
            format!("no key exchange groups {curves:?} in this backend")
        }),
        None if second => Ok(()),
        None => {
            // A library that does not know this notation has no such group, and sends one share anyway.
            if let Err(e) = ext::ssl_set_groups_list(config, ONE_SHARE) {
                log::debug!("the library chooses the key shares: {e}");
            }
            Ok(())
        }
    }
}

/// Shows the peer this certificate.
fn show(config: &mut ConnectConfiguration, pair: &CertKey) -> Result<()> {
    let failed = "the client certificate and its key cannot be used";
    ext::ssl_use_certificate(config, pair.leaf()).map_err(refused(failed))?;
    ext::ssl_use_private_key(config, pair.key()).map_err(refused(failed))?;
    for issuer in pair.intermediates() {
        ext::ssl_add_chain_cert(config, issuer).map_err(refused(failed))?;
    }
    Ok(())
}

fn trust_only(config: &mut ConnectConfiguration, ca: &[X509]) -> Result<()> {
    let failed = "the certificates in the peer's `ca` cannot be used";
    let mut store = X509StoreBuilder::new().map_err(refused(failed))?;
    for cert in ca {
        store.add_cert(cert.clone()).map_err(refused(failed))?;
    }
    ext::ssl_set_verify_cert_store(config, &store.build()).map_err(refused(failed))
}
