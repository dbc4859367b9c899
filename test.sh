#!/usr/bin/env bash
# Runs every test. Exits with the first failure.
set -euo pipefail
cd "$(dirname "$0")"

# No TLS backend; each one that is built gets its own line, for they exclude each other.
cargo test --workspace --locked "$@"
