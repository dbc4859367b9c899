#!/usr/bin/env bash
# Runs the npm package http-cache-tests against the example `cache` and nginx; fails when the example fails a required
# case. The package comes from the registry into the build folder; nothing of it is kept here. CACHING_PROXY may name the binary of the example.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PATH:/usr/sbin"
target=${CARGO_TARGET_DIR:-$PWD/target}
packages=$target/http-cache-tests

missing=()
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
command -v nginx >/dev/null || missing+=(nginx-light)
if ((${#missing[@]})); then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

# Without the package's scripts: none of them is needed.
if [[ ! -d $packages/node_modules/http-cache-tests ]]; then
    mkdir -p "$packages"
    npm install --prefix "$packages" --no-save --no-audit --no-fund --ignore-scripts http-cache-tests@0.4.5
fi
[[ -n ${CACHING_PROXY-} ]] || cargo build --locked -p examples --bin cache
node --no-warnings conformance/http-cache-tests/run.mjs "$packages/node_modules/http-cache-tests" \
    "${CACHING_PROXY-$target/debug/cache}" --nginx "$(command -v nginx)" "$@"
