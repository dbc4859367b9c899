#!/bin/sh
# Makes the files of the image: image-root.sh BINARY FOLDER. FOLDER/fixed is for root, FOLDER/state for the user of the image.
set -eu
dist=$(dirname "$0") binary=$1 fixed=$2/fixed state=$2/state

mkdir -p "$fixed/etc/reverse-proxy" "$fixed/etc/ssl/certs" "$state/tmp" "$state/var/lib/reverse-proxy"
cp "$binary" "$fixed/reverse-proxy"
cp "$dist/edge.yaml" "$fixed/etc/reverse-proxy/edge.yaml"
# The authorities that are trusted: for servers with TLS, and for authorities of ACME.
cp /etc/ssl/certs/ca-certificates.crt "$fixed/etc/ssl/certs/"
# Names are looked up as elsewhere: /etc/hosts first, then DNS.
echo 'hosts: files dns' >"$fixed/etc/nsswitch.conf"
printf 'root:x:0:0::/:\nreverse-proxy:x:65532:65532::/:\n' >"$fixed/etc/passwd"
printf 'root:x:0:\nreverse-proxy:x:65532:\n' >"$fixed/etc/group"
chmod 755 "$fixed/reverse-proxy"
# The sockets of the process.
chmod 1777 "$state/tmp"
# Keys and certificates of ACME.
chmod 700 "$state/var/lib/reverse-proxy"
