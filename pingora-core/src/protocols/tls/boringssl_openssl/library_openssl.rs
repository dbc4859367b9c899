//! OpenSSL.

use openssl::asn1::Asn1StringRef;
pub(super) use openssl::ex_data;
pub(super) use pingora_openssl::*;

use openssl::x509::{X509StoreContextRef, X509VerifyResult};

/// The number of what is wrong with a certificate, 0 for nothing.
pub(super) fn code(result: X509VerifyResult) -> i32 {
    result.as_raw()
}

/// The same for one that is being checked.
pub(super) fn code_so_far(context: &X509StoreContextRef) -> i32 {
    context.error().as_raw()
}

/// Has nothing be wrong with it.
pub(super) fn accept(context: &mut X509StoreContextRef) {
    context.set_error(X509VerifyResult::OK);
}

/// A string of a certificate.
pub(super) fn text(string: &Asn1StringRef) -> Option<String> {
    string.to_string().ok()
}
