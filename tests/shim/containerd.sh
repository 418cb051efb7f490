#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prints the folder with the programs (containerd, ctr, containerd-shim-runc-v2) of a newer containerd than Debian 12's, unpacked once; they need
# only libc. Without the package's own runc, which needs a newer one than Debian 12's.
#   tests/shim/containerd.sh trixie     1.7
#   tests/shim/containerd.sh sid        2.x
set -euo pipefail
suite=${1:?a Debian release: trixie (containerd 1.7) or sid (2.x)}
exec "$(dirname "$0")/../lib/unpacked.sh" "containerd-$suite" "$suite" containerd usr/bin/{containerd,ctr,containerd-shim-runc-v2}
