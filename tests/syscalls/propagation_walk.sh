#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# propagation_walk.sh CAISSON PROGRAM: walks by chance are the same natively and in a sandbox. CAISSON_SEED: the first seed, CAISSON_ROUNDS: how many.
set -eu
IFS=.- read -r major minor _ <<<"$(uname -r)"
((major * 100 + minor >= 617)) || { echo "Linux has had these rules of what goes with an unmount since 6.17"; exit 77; }
caisson=$1 program=$2 seed=${CAISSON_SEED:-1}
work=$(mktemp -d)
trap 'rm -r "$work"; rmdir /tmp/propagation_walk 2>/dev/null || true' EXIT
for ((n = seed; n < seed + ${CAISSON_ROUNDS:-8}; n++)); do
  "$program" $n 150 >"$work/native"
  "$caisson" do "$program" $n 150 >"$work/sandbox"
  shared=$((${shared:-0} + $(grep -c shared: "$work/native" || true)))
  diff -u --show-function-line='^[0-9]' "$work/native" "$work/sandbox" >"$work/diff" || { echo "seed $n:"; head -60 "$work/diff"; exit 1; }
done
((shared > 0)) || { echo "no walk has come by anything that shares"; exit 1; }
echo "$((n - seed)) walks alike"
