#!/usr/bin/env bash
# Applies the change to the published pingora-proxy 0.9.1, builds that, and runs the tests of what it changes: each says
# the same every time. `--all` runs the other unit tests of the package too, some of which may fail by chance.
# Everything happens in target/upstream-pr.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/docs/upstream-pr
target=$PWD/target/upstream-pr
package=$target/package
# A project that depends on that version; its lock file says which versions of everything else.
project=examples/upstream-0.9.1

python3 "$here/test_apply.py"

source=$(cargo metadata --locked --format-version 1 --manifest-path "$project/Cargo.toml" | python3 -c '
import json, pathlib, sys
packages = json.load(sys.stdin)["packages"]
print(*(pathlib.Path(p["manifest_path"]).parent for p in packages
        if (p["name"], p["version"]) == ("pingora-proxy", "0.9.1")))')
rm -rf "$package"
mkdir -p "$target"
cp -r "$source" "$package"
chmod -R u+w "$package"
cp "$project/Cargo.lock" "$package/Cargo.lock"
printf '\n[workspace]\n' >>"$package/Cargo.toml"

python3 "$here/apply.py" "$package"
python3 "$here/apply.py" "$package" | grep -q 'already applied$'
cd "$package"
rustfmt --check --edition 2021 src/lib.rs

# The integration tests are not in the package (they need nginx with Lua, and origins on the internet), and its
# doc tests are all marked `ignore`. So what only integration tests, examples and benches need is not built.
cargo remove --quiet --dev env_logger futures-util http-body-util httparse hyper hyper-util pingora-limits \
    pingora-load-balancing pingora-prometheus prometheus reqwest serde serde_json serde_yaml tokio-tungstenite
cargo remove --quiet --dev --target 'cfg(unix)' hyperlocal

export CARGO_PROFILE_DEV_DEBUG=0
tests=(shutdown_wakes_parked_read_requests shutdown_wakes_first_reads_without_keepalive
    a_request_read_during_shutdown_is_the_last shutdown_ends_kept_connections_without_a_request)
only=(--exact "${tests[@]/#/tests::}")
[[ ${1-} != --all ]] || only=()
# None of them needs a network or another server.
cargo test --lib --target-dir "$target" -- "${only[@]}" 2>&1 | tee "$target/tests.log"
for name in "${tests[@]}"; do
    grep -q "^test tests::$name \.\.\. ok$" "$target/tests.log" || {
        echo "the test $name did not run"
        exit 1
    }
done
