#!/usr/bin/env bash
# Mixed load with faults for two minutes; unless one is given, the seed is that of the commit. Two hours before a release:
#
#     [REVERSE_PROXY=PROXY] conformance/soak/check.sh [TIME [SEED [PROXY [OPTION...]]]]
#     conformance/soak/check.sh 2h "$RANDOM" target/release/reverse-proxy
#
# What follows goes to the program: `--upgrades 200 --accept mutex` exchanges the binary so often, and makes no other fault.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}
proxy=${3-${REVERSE_PROXY-}}

if [[ -z $proxy ]]; then
    cargo build --locked -p edge --bin reverse-proxy
    proxy=$target/debug/reverse-proxy
fi
# The folder of the proxy, so that what they share is built once.
soak=(--locked --manifest-path conformance/soak/Cargo.toml --target-dir "$target")
cargo test "${soak[@]}"
cargo build "${soak[@]}"
seed=${2-$((16#$(git rev-parse HEAD 2>/dev/null | cut -c1-12 || true)))}
"$target/debug/soak" --proxy "$proxy" --for "${1-2m}" --seed "${seed:-1}" "${@:4}"
