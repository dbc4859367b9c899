#!/usr/bin/env bash
# Builds the examples that upstream publishes in its packages `pingora` and `pingora-proxy`, unchanged, against the
# crates of this repository. They are taken from the registry's packages; nothing of them is kept here.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
target=${CARGO_TARGET_DIR:-$root/target}
project=$target/upstream-examples
version=0.9.1

# Where cargo has unpacked a package.
unpacked() {
    cargo metadata --format-version 1 --manifest-path "$1" --locked | python3 -c '
import json, pathlib, sys
name, version = sys.argv[1:]
found = [pathlib.Path(p["manifest_path"]).parent for p in json.load(sys.stdin)["packages"]
         if (p["name"], p["version"]) == (name, version) and p["source"]]
print(*found)
sys.exit(len(found) != 1)' "$2" "$version"
}

facade=$(unpacked examples/drop-in/Cargo.toml pingora)
# No patch reaches the programs of this project.
proxy=$(unpacked examples/upstream-0.9.1/Cargo.toml pingora-proxy)

rm -rf "$project"
mkdir -p "$project/src" "$project/examples"
touch "$project/src/lib.rs"
cp -r "$facade/examples" "$project/examples/pingora"
cp -r "$proxy/examples" "$project/examples/pingora-proxy"
chmod -R u+w "$project/examples"
cp conformance/upstream-examples/project.toml "$project/Cargo.toml"
python3 - "$project" "$root" <<'EOF'
import pathlib, sys
project, root = map(pathlib.Path, sys.argv[1:])
manifest = (project / "Cargo.toml").read_text()
for file in sorted(project.glob("examples/*/*.rs")):
    place = file.relative_to(project)
    manifest += f'\n[[example]]\nname = "{place.parent.name}-{place.stem}"\npath = "{place}"\n'
manifest += "\n[patch.crates-io]\n"
for crate in ("pingora-core", "pingora-http", "pingora-proxy"):
    manifest += f'{crate} = {{ path = "{root / crate}" }}\n'
(project / "Cargo.toml").write_text(manifest)
EOF
# The versions that are built here anyway, and in the same way, so that they are not built again.
cp Cargo.lock "$project/Cargo.lock"
CARGO_PROFILE_DEV_DEBUG=0 cargo check --examples --features rustls,connection_filter --manifest-path "$project/Cargo.toml" --target-dir "$target"
python3 - "$project" <<'EOF'
import pathlib, sys
count = len(list(pathlib.Path(sys.argv[1]).glob("examples/*/*.rs")))
# As many as the packages have: an example that is not found must not pass for one that builds.
assert count == 15, f"{count} examples"
print(f"{count} examples of upstream build against the crates of this repository")
EOF
