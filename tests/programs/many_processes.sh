# SPDX-License-Identifier: Apache-2.0
# A shell loop of 200 processes, 100 at once, deep pipelines, zombies reaped.
set -e
n=0; for i in $(seq 1 200); do /bin/true && n=$((n + 1)); done; echo $n
for i in $(seq 1 100); do (sleep 0.2; echo $i) & done | sort -n | tail -1; wait
c=cat; for i in $(seq 1 20); do c="$c | cat"; done; echo deep | eval "$c"
pids=; for i in $(seq 1 50); do sh -c "exit $((i % 3))" & pids="$pids $!"; done; s=0; for j in $pids; do wait $j || s=$((s + $?)); done; echo $s
ls /proc | grep -c '^[0-9]' | awk '{print ($1 < 10)}'
