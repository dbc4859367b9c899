//! BoringSSL.

use boring::asn1::Asn1StringRef;
pub(super) use boring::ex_data;
pub(super) use pingora_boringssl::*;

use boring::x509::{X509StoreContextRef, X509VerifyResult};

/// The number of what is wrong with a certificate, 0 for nothing.
pub(super) fn code(result: X509VerifyResult) -> i32 {
    result.err().map_or(0, |e| e.as_raw())
}

/// The same for one that is being checked.
pub(super) fn code_so_far(context: &X509StoreContextRef) -> i32 {
    code(context.verify_result())
}

/// Has nothing be wrong with it.
pub(super) fn accept(context: &mut X509StoreContextRef) {
    context.set_error(Ok(()));
}

/// A string of a certificate.
pub(super) fn text(string: &Asn1StringRef) -> Option<String> {
    Some(string.as_utf8().ok()?.to_string())
}
