# SPDX-License-Identifier: Apache-2.0
# bash: pipelines, traps, subshells, here-documents, arrays, process substitution.
set -eu
trap 'echo bye' EXIT
seq 1 1000 | grep 7 | sort -rn | head -3
f() { local x=$1; echo "f got $x"; return 5; }
f one || echo "returned $?"
(trap 'echo usr1; exit 4' USR1; kill -USR1 $BASHPID; sleep 5) || echo "subshell $?"
cat <<EOT
here $((6 * 7))
EOT
declare -A m=([a]=1 [b]=2); for k in a b; do echo "$k=${m[$k]}"; done
diff <(echo a) <(echo b) || echo "diff $?"
exec 3>out.txt; echo to3 >&3; exec 3>&-; cat out.txt
echo "${BASH_VERSION%%.*}"; wait; sleep 0.1 & wait $!; echo "waited $?"
coproc cat; echo co >&"${COPROC[1]}"; read -r -u "${COPROC[0]}" l; echo "$l"; kill $COPROC_PID; wait $COPROC_PID || echo "coproc $?"
read -t 0.1 -r x < <(sleep 1) || echo "timeout $?"
printf '%s\n' {a..e}{1..2} | paste -sd, ; ulimit -n
