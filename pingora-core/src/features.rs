//! Cargo features that exist for compatibility but are not built, and those that exclude each other: each
//! refuses, and says so.

#[cfg(any(
    all(feature = "rustls", feature = "openssl_derived"),
    all(feature = "boringssl", feature = "openssl")
))]
compile_error!("pingora-core: two TLS backends are chosen; choose exactly one of the features `rustls`, `openssl` and `boringssl`");
#[cfg(feature = "s2n")]
compile_error!("pingora-core: the feature `s2n` is not built in this implementation: nobody has written a backend over that library yet; choose `rustls`, `openssl` or `boringssl`");
#[cfg(feature = "dial9")]
compile_error!("pingora-core: the feature `dial9` is not built in this implementation: its library needs the unstable interface of tokio and does not compile without `--cfg tokio_unstable`; build without it");
#[cfg(feature = "patched_http1")]
compile_error!("pingora-core: the feature `patched_http1` is not built in this implementation: it is for a version of httparse that is not published, and heads are not read by httparse here; build without it");
#[cfg(not(unix))]
compile_error!("pingora-core: only Unix systems are supported; Linux is the one that is tested");
