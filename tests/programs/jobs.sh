# SPDX-License-Identifier: Apache-2.0
# stderr: ignore  (pids)
# Job control of an interactive-like bash: stop, continue, kill, wait.
set -m
sleep 30 & p=$!
jobs | sed 's/+/ /'
kill -STOP $p; sleep 0.2; jobs | sed 's/+/ /'
kill -CONT $p; sleep 0.1
kill $p; wait $p; echo "killed $?"
bash -c 'kill -9 $$'; echo "nine $?"
(sleep 0.2; exit 7) & wait -n; echo "wait -n $?"
bash -c 'trap "" TERM; (sleep 0.3) & wait'; echo $?
timeout 0.2 sleep 5; echo "timeout $?"
setsid bash -c 'ps -o pid= -o sid= -p $$ | awk "{print (\$1==\$2)}"'
