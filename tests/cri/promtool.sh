#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prints the path of Prometheus' promtool: the installed one, or that of Debian's package, unpacked once into a folder (installing the
# package would start a server). Fails with words when neither is to be had.
set -euo pipefail
if command -v promtool; then exit 0; fi
cache=${CAISSON_CACHE:-/var/cache/caisson}/promtool
tool=$cache/usr/bin/promtool
if [ ! -x "$tool" ]; then
  mkdir -p "$(dirname "$cache")"
  exec 9>"$cache.lock"
  flock 9
  if [ ! -x "$tool" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    (cd "$work" && apt-get -o APT::Sandbox::User=root download prometheus >log 2>&1) || { echo "apt-get download prometheus: $(tail -1 "$work/log")" >&2; exit 1; }
    dpkg -x "$work"/prometheus_*.deb "$work/x"
    rm -rf "$cache"
    mkdir -p "$cache/usr/bin"
    mv "$work/x/usr/bin/promtool" "$tool"
  fi
fi
echo "$tool"
