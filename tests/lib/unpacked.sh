#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prints a folder of the cache with some programs of a Debian package of any release, unpacked there once; nothing is installed (a server's
# package would start it). Fails with words when the package is not to be had.
#   tests/lib/unpacked.sh FOLDER RELEASE PACKAGE PATH...      each program by its path in the package
# Environment: CAISSON_CACHE (/var/cache/caisson), CAISSON_MIRROR.
set -euo pipefail
folder=${1:?a name in the cache} release=${2:?a release of Debian} package=${3:?a package}
shift 3
cache=${CAISSON_CACHE:-/var/cache/caisson}/$folder
there() { for p in "$@"; do [ -x "$cache/${p##*/}" ] || return 1; done; }
if ! there "$@"; then
  mkdir -p "$(dirname "$cache")"
  exec 9>"$cache.lock"
  flock 9
  if ! there "$@"; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/none"
    # A list of its own: the machine's may name another release, or none yet.
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${CAISSON_MIRROR:-http://deb.debian.org/debian} $release main" >"$work/sources"
    apt=(apt-get -o Dir::Etc::SourceList="$work/sources" -o Dir::Etc::SourceParts="$work/none" -o Dir::Etc::PreferencesParts="$work/none"
      -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work" -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3)
    if ! { "${apt[@]}" update && cd "$work" && "${apt[@]}" download "$package"; } >"$work/log" 2>&1; then
      echo "$package of Debian's $release cannot be fetched: $(grep '^[EW]:' "$work/log" | head -2 | tr '\n' ' ')" >&2
      exit 1
    fi
    dpkg -x "$work/$package"_*.deb "$work/x"
    rm -rf "$cache" "$cache.new"
    mkdir "$cache.new"
    cp "${@/#/$work/x/}" "$cache.new"
    mv "$cache.new" "$cache"
  fi
fi
echo "$cache"
