#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The calls that change files, on the root file system, on tmpfs and on a volume; the resulting trees are copied to the volume.
# files_through.sh runs it again with a root that is written through.
set -u
for place in root tmpfs volume; do
  case $place in
    root) top=$(mktemp -d /opt/files.XXXXXX) ;;
    tmpfs) top=$(mktemp -d /tmp/files.XXXXXX) ;;
    volume) top=/w/volume; mkdir -m 700 $top ;;
  esac
  echo "== $place"
  (cd "$top" && PLACE=$place THROUGH=${THROUGH:-0} python3 /script/files.py)
  sync -f "$top"; sync "$top"; sync
  cp -a "$top" "/w/copy-of-$place"
  rm -rf "$top"
  test -e "$top" && echo "$place is still there"
done
true
