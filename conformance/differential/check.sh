#!/usr/bin/env bash
# What the proxy makes of the bytes of docs/parsing.md is as that says, and of mutated ones nothing goes wrong for ten
# seconds. The seed is that of the commit.
#
#     [REVERSE_PROXY=PROXY] conformance/differential/check.sh [SECONDS [SEED]]
#     conformance/differential/check.sh --doc       makes the table anew, with nginx and HAProxy
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PATH:/usr/sbin"
target=${CARGO_TARGET_DIR:-$PWD/target}

[[ -n ${REVERSE_PROXY-} ]] || cargo build --locked -p edge --bin reverse-proxy
cargo build --locked --manifest-path conformance/differential/Cargo.toml --target-dir "$target"
proxy=${REVERSE_PROXY-$target/debug/reverse-proxy}
differential=$target/debug/differential

if [[ ${1-} == --doc ]]; then
    missing=()
    command -v nginx >/dev/null || missing+=(nginx-light)
    command -v haproxy >/dev/null || missing+=(haproxy)
    if ((${#missing[@]})); then
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
    fi
    table=$("$differential" table "$proxy")
    sed -i '/^| what is sent/,$d' docs/parsing.md
    printf '%s\n' "$table" >>docs/parsing.md
    exit
fi
"$differential" check "$proxy" docs/parsing.md
seed=${2-$((16#$(git rev-parse HEAD 2>/dev/null | cut -c1-12 || true)))}
"$differential" fuzz "$proxy" "${1-10}" "${seed:-1}"
