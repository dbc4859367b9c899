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

# Each set of features is a build, so there are as few as there can be. The backends of TLS exclude each other: none, then
# each one by itself. One of them is built with the features that only add to the others.
cargo test --workspace --exclude edge --exclude examples --exclude benches --locked "$@"
extra=pingora-proxy/connection_filter,pingora-proxy/upstream_modules
for features in "pingora-core/rustls,pingora-proxy/rustls,$extra" pingora-core/openssl,pingora-proxy/openssl; do
    cargo test -p pingora-core -p pingora-proxy --features "$features" --locked --tests "$@"
done
cargo test -p edge -p examples -p benches --locked "$@"
cargo test -p edge -p examples --no-default-features --features examples/openssl --locked --lib --test flags --test programs "$@"
