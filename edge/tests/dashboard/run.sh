#!/usr/bin/env bash
# Drives the dashboard in a headless Chromium, and installs what that takes.
# REVERSE_PROXY may name the binary. With `--screenshots DIR`, takes the pictures of the guide after a minute of load.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../../.. && pwd)
target=${CARGO_TARGET_DIR:-$root/target}

missing=()
command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)
# Where both came from elsewhere, Debian's would conflict with them.
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
command -v openssl >/dev/null || missing+=(openssl)
if ((${#missing[@]})); then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
fi
modules=$target/dashboard
if [[ ! -d $modules/node_modules/playwright-core ]] || ! cmp -s package.json "$modules/package.json"; then
    mkdir -p "$modules"
    cp package.json "$modules"
    npm install --prefix "$modules" --no-package-lock --no-audit --no-fund --silent
fi
[[ -n ${REVERSE_PROXY-} ]] || cargo build -p edge --locked --manifest-path "$root/Cargo.toml"
export DASHBOARD_MODULES=$modules REVERSE_PROXY=${REVERSE_PROXY-$target/debug/reverse-proxy}
exec timeout 900 node dashboard.mjs "$@"
