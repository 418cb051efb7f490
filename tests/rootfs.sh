#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the Debian 12 root file system that the real-program tests run in, once, and prints its path.
#   tests/rootfs.sh          for tests/programs
#   tests/rootfs.sh suites   for tests/suites: foreign test suites, debuggers, sandboxes
#   tests/rootfs.sh java     for tests/suites/java.sh
#   tests/rootfs.sh servers  for tests/shim/servers_test.py
# Kept under ${CAISSON_CACHE:-/var/cache/caisson}; a changed package list makes a new one.
set -euo pipefail

packages=(bash coreutils findutils grep tar gzip xz-utils zstd sed gawk gcc g++ make perl python3 git dpkg dpkg-dev
  nodejs golang-go musl-tools busybox-static procps util-linux bsdutils less vim-tiny file strace libc6-dev sqlite3 bc
  diffutils patch netcat-openbsd iproute2 ca-certificates socat)
if [ "${1:-}" = suites ]; then
  packages=(bash coreutils findutils grep sed gawk gcc libc6-dev libc6-dbg python3 libpython3.11-testsuite procps util-linux
    bsdutils iproute2 netbase strace gdb libboost-regex1.74.0 libdebuginfod1 bubblewrap
    keyutils perl ca-certificates golang-go g++ tzdata runc busybox-static)
fi
if [ "${1:-}" = java ]; then
  packages=(bash coreutils openjdk-17-jdk-headless)
fi
if [ "${1:-}" = servers ]; then
  packages=(bash coreutils procps nginx-light redis-server redis-tools postgresql postgresql-client apache2-utils python3-minimal)
fi
suite=bookworm
cache=${CAISSON_CACHE:-/var/cache/caisson}
mirror=${CAISSON_MIRROR:-$(awk '/^URIs:/ {print $2; exit} /^deb / {print $2; exit}' /etc/apt/sources.list.d/*.sources \
  /etc/apt/sources.list 2>/dev/null || true)}
key=$(printf '%s\n' "$suite" "${packages[@]}" | sha256sum | cut -c1-12)
root=$cache/rootfs-$suite-$key

if [ ! -e "$root/.complete" ]; then
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9
  if [ ! -e "$root/.complete" ]; then
    echo "making the Debian root file system in $root (a few minutes, once)" >&2
    # One that failed has /proc mounted in it.
    awk -v top="$root.new/" 'index($2, top) == 1 {print $2}' /proc/mounts | sort -r | xargs -r umount -l
    rm -rf --one-file-system "$root.new"
    list=$(IFS=,; echo "${packages[*]}")
    if ! debootstrap --variant=minbase --include="$list" "$suite" "$root.new" ${mirror:+"$mirror"} \
      >"$cache/debootstrap.log" 2>&1; then
      echo "debootstrap failed; its log: $cache/debootstrap.log" >&2
      tail -5 "$cache/debootstrap.log" >&2
      exit 1
    fi
    rm -rf "$root.new"/var/cache/apt/archives/*.deb "$root.new"/var/lib/apt/lists/*
    touch "$root.new/.complete"
    mv "$root.new" "$root"
  fi
fi
echo "$root"
