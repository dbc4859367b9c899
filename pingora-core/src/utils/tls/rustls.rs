//! A certificate and what was read from it. What a macro generates has no docs of its own, and its helpers are named
//! as it likes.

#![allow(missing_docs, unreachable_pub)]

use ouroboros::self_referencing;
use x509_parser::prelude::X509Certificate;

/// A certificate in DER together with what was read from it.
#[self_referencing(pub_extras)]
#[derive(Debug)]
pub struct WrappedX509 {
    pub raw_cert: Vec<u8>,
    #[borrows(raw_cert)]
    #[covariant]
    pub cert: X509Certificate<'this>,
}
