#!/usr/bin/env bash
# Applies the change to the h2 that this workspace uses, as it was published, and runs its tests and the one of the change.
# Everything happens in target/upstream-pr/h2.
set -euo pipefail
cd "$(dirname "$0")/../../.."
here=$PWD/docs/upstream-pr/h2
target=$PWD/target/upstream-pr/h2
package=$target/package

source=$(cargo metadata --locked --format-version 1 | python3 -c '
import json, pathlib, sys
packages = json.load(sys.stdin)["packages"]
print(*(pathlib.Path(p["manifest_path"]).parent for p in packages if p["name"] == "h2"))')
rm -rf "$package"
mkdir -p "$target"
cp -r "$source" "$package"
chmod -R u+w "$package"
mkdir -p "$package/tests"
cp "$here/idle_buffers.rs" "$package/tests/"
printf '\n[[test]]\nname = "idle_buffers"\npath = "tests/idle_buffers.rs"\n\n[workspace]\n' >>"$package/Cargo.toml"
cd "$package"
export CARGO_PROFILE_DEV_DEBUG=0
idle() {
    cargo test --quiet --test idle_buffers --target-dir "$target" -- --nocapture 2>&1 | tee "$target/idle.log"
}

if idle; then
    echo "the test passes without the change" >&2
    exit 1
fi
grep -q ' bytes each$' "$target/idle.log"
python3 "$here/apply.py" .
python3 "$here/apply.py" . | grep -q 'already applied$'
rustfmt --check --edition 2021 src/lib.rs
idle
# The files of the fixtures are not in the package.
cargo test --quiet --lib --target-dir "$target" -- --skip hpack::test::fixture
