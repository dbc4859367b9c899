//! The certificates of clients, at sites that ask for them.

use http::StatusCode;
use pingora_proxy::Session;

use crate::live::Running;
use crate::plan::ClientCertificate;
use crate::tls::Checked;

/// Returns the certificate that the client has shown to a site, if it has.
///
/// # Errors
///
/// The status to answer with: the connection was not checked as the site wants it. Another name in the handshake than the
/// host of the request opens no way around the check (RFC 9110 section 15.5.20).
#[inline]
pub(super) fn client<'s>(
    running: &Running,
    site: usize,
    session: &'s Session,
) -> Result<Option<&'s ClientCertificate>, StatusCode> {
    let Some(policy) = running.certificates.policy(site) else {
        return Ok(None);
    };
    let tls = session
        .digest()
        .and_then(|digest| digest.ssl_digest.as_deref());
    match (tls, tls.and_then(Checked::of)) {
        (_, Some(checked)) if checked.policy == policy.id => Ok(checked.client.as_ref()),
        (Some(_), _) => Err(StatusCode::MISDIRECTED_REQUEST),
        (None, _) if policy.required => Err(StatusCode::FORBIDDEN),
        (None, _) => Ok(None),
    }
}
