#!/usr/bin/env bash
# Runs every test. Exits with the first failure.
set -euo pipefail
cd "$(dirname "$0")"
export PATH="$PATH:/usr/sbin"

# Clients and origins that are not ours.
missing=()
command -v curl >/dev/null || missing+=(curl)
command -v nginx >/dev/null || missing+=(nginx-light)
command -v haproxy >/dev/null || missing+=(haproxy)
command -v h2load >/dev/null || missing+=(nghttp2-client)
# An authority of ACME, with its server of names.
command -v pebble >/dev/null && command -v pebble-challtestsrv >/dev/null || missing+=(pebble)
command -v openssl >/dev/null || missing+=(openssl)
# A server of names.
command -v dnsmasq >/dev/null || missing+=(dnsmasq-base)
# Reads metrics as Prometheus does.
/usr/bin/python3 -c "import prometheus_client" 2>/dev/null || missing+=(python3-prometheus-client)
# The OpenSSL that is built in is configured by a script.
command -v perl >/dev/null || missing+=(perl)
command -v make >/dev/null || missing+=(make)
if ((${#missing[@]})); then
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
    else
        echo "the tests need programs that are missing; install: ${missing[*]}" >&2
        exit 1
    fi
fi

# The same cases of properties each time. For others: PROPTEST_RNG_SEED=$RANDOM ./test.sh
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-1}

# Each set of features is a build, so there are as few as there can be, and all that a set does not change is tested with one
# of them. The backends of TLS exclude each other: one with everything, then none, then the other.
features=pingora-core/rustls,pingora-core/sentry
features+=,pingora-proxy/rustls,pingora-proxy/connection_filter,pingora-proxy/upstream_modules
cargo test -p pingora-http -p pingora-core -p pingora-proxy --features "$features" --locked "$@"
crates=(-p pingora-core -p pingora-proxy --locked)
cargo test "${crates[@]}" --test e2e "$@"
cargo test "${crates[@]}" --features pingora-core/openssl,pingora-proxy/openssl --lib --test tls --test websocket "$@"
cargo test -p edge -p examples --no-default-features --features examples/openssl --locked --test flags --test programs "$@"
# What is left in the build folder is what users run.
cargo test -p edge -p examples -p benches --locked "$@"
