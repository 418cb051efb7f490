#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prints the folder with the programs (containerd, ctr, containerd-shim-runc-v2) of a newer containerd than Debian 12's, from the package of another
# Debian release, unpacked once into a folder; they need only libc. Fails with words when it is not to be had.
#   tests/shim/containerd.sh trixie     1.7
#   tests/shim/containerd.sh sid        2.x
set -euo pipefail
suite=${1:?a Debian release: trixie (containerd 1.7) or sid (2.x)}
cache=${CAISSON_CACHE:-/var/cache/caisson}/containerd-$suite
if [ ! -x "$cache/containerd" ]; then
  mkdir -p "$(dirname "$cache")"
  exec 9>"$cache.lock"
  flock 9
  if [ ! -x "$cache/containerd" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/none"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${CAISSON_MIRROR:-http://deb.debian.org/debian} $suite main" >"$work/sources"
    apt=(apt-get -o Dir::Etc::SourceList="$work/sources" -o Dir::Etc::SourceParts="$work/none" -o Dir::Etc::PreferencesParts="$work/none"
      -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work" -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3)
    if ! { "${apt[@]}" update && cd "$work" && "${apt[@]}" download containerd; } >"$work/log" 2>&1; then
      echo "containerd of Debian's $suite cannot be fetched: $(grep '^[EW]:' "$work/log" | head -2 | tr '\n' ' ')" >&2
      exit 1
    fi
    dpkg -x "$work"/containerd_*.deb "$work/x"
    rm -rf "$cache"
    mkdir "$cache.new"
    # Without the package's own runc, which needs a newer libc than Debian 12's.
    cp "$work"/x/usr/bin/{containerd,ctr,containerd-shim-runc-v2} "$cache.new"
    mv "$cache.new" "$cache"
  fi
fi
echo "$cache"
