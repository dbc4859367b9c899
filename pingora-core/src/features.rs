//! Cargo features that exist for compatibility but are not built yet: each refuses, and says so.

#[cfg(feature = "openssl")]
compile_error!("pingora-core: the feature `openssl` (TLS) is not built yet in this implementation; build without a TLS feature");
#[cfg(feature = "boringssl")]
compile_error!("pingora-core: the feature `boringssl` (TLS) is not built yet in this implementation; build without a TLS feature");
#[cfg(feature = "rustls")]
compile_error!("pingora-core: the feature `rustls` (TLS) is not built yet in this implementation; build without a TLS feature");
#[cfg(feature = "s2n")]
compile_error!("pingora-core: the feature `s2n` (TLS) is not built yet in this implementation; build without a TLS feature");
#[cfg(feature = "sentry")]
compile_error!(
    "pingora-core: the feature `sentry` is not built in this implementation; build without it"
);
#[cfg(feature = "dial9")]
compile_error!(
    "pingora-core: the feature `dial9` is not built in this implementation; build without it"
);
#[cfg(feature = "patched_http1")]
compile_error!("pingora-core: the feature `patched_http1` is not built in this implementation; build without it");
#[cfg(not(unix))]
compile_error!("pingora-core: only Unix systems are supported; Linux is the one that is tested");
