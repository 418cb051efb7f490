#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what building (and with "test", what testing and measuring) Caisson needs, from Debian 12's packages.
# Says nothing when everything is there.
set -euo pipefail

build=(g++ cmake ninja-build ccache pkg-config libspdlog-dev libfmt-dev libseccomp-dev libcap-dev nlohmann-json3-dev
  libprotobuf-dev protobuf-compiler libgrpc++-dev prometheus-cpp-dev libcli11-dev libtomlplusplus-dev libgtest-dev libgmock-dev
  libc6-dev busybox-static binutils python3 dpkg-dev file)
test=(clang debootstrap runc libbenchmark-dev python3 git musl-tools strace procps podman conmon containerd
  containernetworking-plugins iproute2 iptables uidmap systemd dbus-daemon python3-dbus python3-gi python3-yaml
  python3-jsonschema)

want=("${build[@]}")
[ "${1:-}" = test ] && want+=("${test[@]}")
missing=()
for p in "${want[@]}"; do
  dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" != 0 ]; then
  echo "these packages are missing: ${missing[*]}; run as root, or: sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "installing ${#missing[@]} packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  echo "apt-get failed; its log: $log" >&2
  tail -5 "$log" >&2
  exit 1
fi
rm -f "$log"
