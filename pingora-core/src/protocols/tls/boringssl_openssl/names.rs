//! For whom the certificate of a server has to be.

use std::net::IpAddr;

use super::library::ext;
use super::library::ssl::{ConnectConfiguration, SslVerifyMode};
use super::library::x509::verify::X509CheckFlags;
use super::library::x509::{X509Ref, X509StoreContextRef};
use pingora_error::Result;

use super::errors::{refused, ANOTHER_NAME};
use super::library;
use crate::protocols::tls::options::Handshake;

/// The peer's SNI, or else its address, and its alternative name: the certificate has to be for one of them.
///
/// # Errors
/// `TLSHandshakeFailure` when there is none.
pub(super) fn verify_names(
    config: &mut ConnectConfiguration,
    handshake: &Handshake<'_>,
) -> Result<()> {
    let sni = handshake.sni;
    let failed = "setting the name to verify";
    let ip: Option<IpAddr> = match sni {
        "" => handshake.address.as_inet().map(|inet| inet.ip()),
        sni => sni.parse().ok(),
    };
    let mut names = Vec::with_capacity(3);
    if ip.is_none() && !sni.is_empty() {
        names.push(sni.to_owned());
        // The library matches no wildcard with a name that has an underscore.
        names.extend(replace_leftmost_underscore(sni));
    }
    names.extend(handshake.alternative_cn.map(str::to_owned));
    let param = config.param_mut();
    param.set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
    for name in &names {
        ext::add_host(param, name).map_err(refused(failed))?;
    }
    match (ip, names.is_empty()) {
        (Some(ip), true) => param.set_ip(ip).map_err(refused(failed)),
        (Some(ip), false) => {
            // The library would have it for a name and for the address.
            config.set_verify_callback(SslVerifyMode::PEER, move |good, context| {
                good || forgive(context, ip)
            });
            Ok(())
        }
        (None, false) => Ok(()),
        (None, true) => Err(Handshake::nothing_to_verify()),
    }
}

/// Returns whether all that is wrong with a certificate is its name, and it is for this address.
fn forgive(context: &mut X509StoreContextRef, ip: IpAddr) -> bool {
    let another_name = library::code_so_far(context) == ANOTHER_NAME;
    let good = another_name && context.current_cert().is_some_and(|cert| is_for(cert, ip));
    if good {
        library::accept(context);
    }
    good
}

fn is_for(cert: &X509Ref, ip: IpAddr) -> bool {
    let ip = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let names = cert.subject_alt_names();
    names.is_some_and(|names| names.iter().any(|name| name.ipaddress() == Some(&ip)))
}

/// The name with `-` in place of `_` in its first label, if it has one there and three labels.
fn replace_leftmost_underscore(name: &str) -> Option<String> {
    let (label, rest) = name.split_once('.')?;
    let wildcard = label.contains('_') && rest.contains('.');
    wildcard.then(|| format!("{}.{rest}", label.replace('_', "-")))
}

#[cfg(test)]
mod tests {
    use super::replace_leftmost_underscore;

    #[test]
    fn underscores() {
        for (name, replaced) in [
            ("a_b.c.d", Some("a-b.c.d")),
            ("a_b_c.d.e", Some("a-b-c.d.e")),
            ("a_b.c", None),
            ("a.b_c.d", None),
            ("a_b", None),
            ("", None),
        ] {
            assert_eq!(replace_leftmost_underscore(name).as_deref(), replaced);
        }
    }
}
