#!/usr/bin/env bash
# Runs every test. Exits with the first failure.
set -euo pipefail
cd "$(dirname "$0")"
export PATH="$PATH:/usr/sbin"

# Clients and origins that are not ours.
missing=()
command -v curl >/dev/null || missing+=(curl)
command -v nginx >/dev/null || missing+=(nginx-light)
command -v h2load >/dev/null || missing+=(nghttp2-client)
if ((${#missing[@]})); then
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
    else
        echo "the tests need curl, nginx and h2load; install: ${missing[*]}" >&2
        exit 1
    fi
fi

# No TLS backend; each one that is built gets its own line, for they exclude each other.
cargo test --workspace --locked "$@"
