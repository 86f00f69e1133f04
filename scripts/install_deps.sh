#!/bin/sh
# Install what building and testing need and is missing, from Debian packages. With nothing missing it
# does nothing and needs no rights.
set -eu

packages="gcc g++ make libc6-dev libzstd-dev libxxhash-dev libjansson-dev libpcre2-dev libutf8proc-dev libedit-dev libcmocka-dev python3 strace"
missing=
for p in $packages; do
  dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
  sudo=
elif command -v sudo >/dev/null; then
  sudo=sudo
else
  echo "install_deps: missing packages; run as root: apt-get update && $install" >&2
  exit 1
fi
echo "install_deps: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# A package list of an earlier day may name files that are gone: fetch it anew.
$sudo apt-get update -qq
$sudo $install >/dev/null
