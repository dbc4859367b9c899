//! Owners of certificates.

use std::fmt::Write;
use std::net::IpAddr;

use pingora_core::tls::hash_certificate;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::X509Name;

use crate::plan::ClientCertificate;

/// Returns the facts of a client's certificate; `None` when it is malformed.
pub(super) fn facts(der: &[u8]) -> Option<ClientCertificate> {
    let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(ClientCertificate {
        subject: rfc4514(parsed.subject()),
        san: names(&parsed),
        fingerprint: fingerprint(der),
    })
}

/// Returns the SHA-256 fingerprint of a certificate.
pub(super) fn fingerprint(der: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for b in hash_certificate(&CertificateDer::from(der)) {
        // A String takes everything.
        let _ = write!(hex, "{b:02x}");
    }
    hex
}

/// Returns the subject alternative names of a certificate.
pub(super) fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
            Some((*text).to_owned())
        }
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(IpAddr::from),
            _ => None,
        }
        .map(|address| address.to_string()),
        _ => None,
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(name)
        .collect()
}

/// Writes a name in the form of RFC 4514, so that no value can look like another attribute.
pub(super) fn rfc4514(name: &X509Name<'_>) -> String {
    let mut out = String::new();
    let sets: Vec<_> = name.iter_rdn().collect();
    // The most specific one comes first (section 2.1).
    for (index, set) in sets.iter().rev().enumerate() {
        if index > 0 {
            out.push(',');
        }
        for (index, attribute) in set.iter().enumerate() {
            if index > 0 {
                out.push('+');
            }
            let oid = attribute.attr_type().to_id_string();
            match (short(&oid), attribute.as_str()) {
                (Some(short), Ok(value)) => {
                    out.push_str(short);
                    out.push('=');
                    escape(value, &mut out);
                }
                _ => {
                    let _ = write!(out, "{oid}=#");
                    for b in attribute.attr_value().data {
                        let _ = write!(out, "{b:02x}");
                    }
                }
            }
        }
    }
    out
}

/// Returns the short name of an attribute (section 3).
fn short(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        "1.2.840.113549.1.9.1" => "emailAddress",
        "2.5.4.5" => "serialNumber",
        _ => return None,
    })
}

fn escape(value: &str, out: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (index, c) in value.chars().enumerate() {
        let edge = (c == ' ' && (index == 0 || index == last)) || (c == '#' && index == 0);
        if c.is_control() {
            let mut bytes = [0; 4];
            for b in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(out, "\\{b:02X}");
            }
        } else {
            if edge || "\"+,;<>=\\".contains(c) {
                out.push('\\');
            }
            out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_look_like_another_attribute() {
        for (value, escaped) in [
            ("a,O=Admin", "a\\,O\\=Admin"),
            (" #x ", "\\ #x\\ "),
            ("#x", "\\#x"),
            ("a\nb", "a\\0Ab"),
            ("é\u{85}", "é\\C2\\85"),
        ] {
            let mut out = String::new();
            escape(value, &mut out);
            assert_eq!(out, escaped);
        }
    }
}
