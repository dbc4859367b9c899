#!/usr/bin/env bash
# Checks a static binary in a root folder that holds only what the image holds, as its user and as process 1, in a network
# of its own: check-static.sh BINARY. It needs root, curl, openssl, ip, unshare and pebble-challtestsrv (a server of names).
set -euo pipefail
binary=$(realpath "${1:?the binary: check-static.sh BINARY}")
dist=$(realpath "$(dirname "$0")")
if [[ -z ${IN_NETWORK:-} ]]; then
    exec env IN_NETWORK=1 unshare --net --mount "$0" "$binary"
fi
ip link set lo up

work=$(mktemp -d)
jobs=()
trap '((${#jobs[@]})) && kill -KILL "${jobs[@]}" 2>/dev/null; rm -rf "$work"' EXIT
fail() {
    echo "check-static: $*" >&2
    cat "$work/log" >&2 || true
    exit 1
}
ok() { echo "ok: $*"; }
# Runs a command until it succeeds.
eventually() {
    for _ in $(seq 600); do
        "$@" && return
        sleep 0.1
    done
    fail "did not happen: $*"
}
answers() { [[ $(curl -s --noproxy '*' "http://127.0.0.1:8080$1") == *"$2"* ]]; }

if ldd "$binary" 2>&1 | grep -q '=>'; then
    fail "the binary is not static"
fi
ok "the binary is static"

"$dist/image-root.sh" "$binary" "$work/image"
root=$work/root
mkdir "$root"
cp -a "$work/image/fixed/." "$root/"
chown -R 65532:65532 "$work/image/state"
cp -a "$work/image/state/." "$root/"
chown 0:0 "$root" "$root/var" "$root/var/lib"
# The container runtime mounts it.
mkdir "$root/proc"
chmod 755 "$work" "$root"
in_root() { chroot --userspec=65532:65532 "$root" "$@"; }

# A server with TLS, by an authority that only the authorities of the system vouch for.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj '/CN=check' \
    -keyout "$work/ca.key" -out "$work/ca.pem" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=secure.test' \
    -keyout "$work/key" -out "$work/csr" 2>/dev/null
openssl x509 -req -in "$work/csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -days 2 -out "$work/cert" \
    -extfile <(echo 'subjectAltName=DNS:secure.test') 2>/dev/null
openssl s_server -accept 127.0.0.1:9443 -cert "$work/cert" -key "$work/key" -www >/dev/null 2>&1 &
jobs+=($!)
cat "$work/ca.pem" >>"$root/etc/ssl/certs/ca-certificates.crt"
# A server of names: all lead to 127.0.0.1.
pebble-challtestsrv -dns01 127.0.0.1:53 -defaultIPv4 127.0.0.1 -defaultIPv6 '' -http01 '' -https01 '' -tlsalpn01 '' \
    -management 127.0.0.1:8055 >/dev/null 2>&1 &
jobs+=($!)
echo 'nameserver 127.0.0.1' >"$root/etc/resolv.conf"
echo '127.0.0.1 hosts.test' >"$root/etc/hosts"

unshare --pid --fork --kill-child --mount-proc="$root/proc" chroot --userspec=65532:65532 "$root" \
    /reverse-proxy -c /etc/reverse-proxy/edge.yaml 2>"$work/log" &
proxy=$!
jobs+=("$proxy")
eventually answers / 'Mount a folder'
ok "it serves the file of the image"

cat >"$root/etc/reverse-proxy/new.yaml" <<'YAML'
listen: 0.0.0.0:8080
sites:
  - routes:
      - {path: /secure, proxy: {to: "secure.test:9443", tls: true}}
      - {path: /hosts, proxy: "hosts.test:8080", strip_prefix: /hosts}
      - {respond: {body: "another one"}}
YAML
mv "$root/etc/reverse-proxy/new.yaml" "$root/etc/reverse-proxy/edge.yaml"
in_root /reverse-proxy -t -c /etc/reverse-proxy/edge.yaml >/dev/null
eventually answers / 'another one'
ok "it takes another file"
eventually answers /hosts 'another one'
ok "a name of /etc/hosts is looked up"
eventually answers /secure 's_server'
ok "a name is looked up by DNS, and the authorities of the system are trusted"

inner=$(cat "/proc/$proxy/task/$proxy/children")
inner=${inner% }
if said=$(nsenter -t "$inner" -m -p chroot --userspec=65532:65532 "$root" \
    /reverse-proxy upgrade -c /etc/reverse-proxy/edge.yaml 2>&1); then
    fail "process 1 was upgraded"
fi
[[ $said == *"first one of its container"* ]] || fail "an upgrade says: $said"
answers / 'another one' || fail "it does not serve on"
ok "an upgrade of process 1 is refused"

[[ $(awk '/^Uid:/ {print $2}' "/proc/$inner/status") == 65532 ]] || fail "it runs as another user"
kill -TERM "$inner"
wait "$proxy" || fail "it ends with status $?"
ok "it ends when it is told to"
