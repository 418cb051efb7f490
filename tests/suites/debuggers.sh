# SPDX-License-Identifier: Apache-2.0
# Debian's strace and gdb on small programs: what they print is the same under runc and under caisson.
#   python3 tests/lib/compare.py tests/suites/debuggers.sh --rootfs "$(tests/rootfs.sh suites)" --caisson build/bin/caisson
# stderr: ignore
set -u
cat > t.c <<'C'
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static int total;
static int add(int a, int b) {
  int sum = a + b;
  return sum;
}
static void *work(void *arg) {
  total = add(total, *(int *)arg);
  return NULL;
}
static void handler(int s) { total += s; }
int main(int argc, char **argv) {
  int numbers[3] = {1, 2, 3};
  signal(SIGUSR1, handler);
  for (int i = 0; i < 3; i++) {
    pthread_t t;
    pthread_create(&t, NULL, work, &numbers[i]);
    pthread_join(t, NULL);
  }
  raise(SIGUSR1);
  pid_t p = fork();
  if (p == 0) {
    execl("/bin/true", "true", NULL);
    _exit(1);
  }
  int status;
  waitpid(p, &status, 0);
  if (argc > 1) {
    char *bad = NULL;
    strcpy(bad, argv[1]);
  }
  printf("total %d status %d\n", total, status);
  return 0;
}
C
gcc -g -O0 -pthread -o t t.c || exit 1
calls() { grep -oE '^([0-9]+ +)?([a-z_0-9]+\(|(---|\+\+\+).*)' "$1" | sed -E 's/^[0-9]+ +//; s/si_pid=[0-9]+/si_pid=N/; s/si_(u|s)time=[0-9]+/si_\1time=N/g'; }
echo "== strace"
strace -o s1 /bin/true; echo "exit $?"; calls s1 | head -3
strace -e trace=openat,write,exit_group -o s2 /bin/echo hello; sed -E 's/0x[0-9a-f]+/X/g' s2
echo "== strace -f"
strace -f -e trace=clone,clone3,execve,wait4,exit,tgkill,vfork -o s3 ./t; calls s3 | sort | uniq -c
echo "== strace, a signal, a crash"
strace -o s5 ./t x; echo "exit $?"; calls s5 | tail -3
strace -o s6 sh -c 'kill -TERM $$'; echo "exit $?"; tail -n 2 s6 | sed -E 's/si_pid=[0-9]+/N/'
echo "== strace -p"
sleep 100 & s=$!
timeout 2 strace -o s7 -p $s
kill $s; wait $s; echo "slept $?"; grep -oE '^[a-z_]+' s7
echo "== strace inject"
strace -e inject=getcwd:error=ENOENT -e trace=getcwd -o s8 /bin/pwd; echo "exit $?"; head -1 s8 | sed -E 's/0x[0-9a-f]+/X/g'

g() { gdb -nx -batch -ex 'set confirm off' -ex 'set width 0' -ex 'set debuginfod enabled off' "$@" 2>&1 |
  sed -E 's/0x[0-9a-f]+/X/g; s/(LWP|process|Thread X \(LWP|pid) [0-9]+/\1 N/g' |
  grep -vE 'libthread_db|Using host|New Thread|Thread .* exited|debugging using|Downloading|warning:|^$|Detaching'; }
echo "== gdb: breakpoints, frames, steps"
g -ex 'break add' -ex run -ex bt -ex 'info args' -ex next -ex 'print sum' -ex 'print $rip == $pc' -ex finish -ex 'delete' -ex 'handle SIGUSR1 nostop noprint pass' -ex 'break handler' \
  -ex continue -ex 'print s' -ex 'set var s = 100' -ex 'delete' -ex continue ./t
echo "== gdb: stepping and calls"
g -ex 'break main' -ex run -ex 'print add(20, 22)' -ex 'stepi 5' -ex 'next' -ex 'next' -ex 'print numbers' -ex 'set var numbers[0] = 40' \
  -ex 'info registers cs ss' -ex 'print $xmm0.v4_float[3]' -ex 'x/1i $pc' -ex 'handle SIGUSR1 nostop' -ex continue ./t | sed -E 's/^=>.*/=> instruction/; s/.*xmm.*//'
echo "== gdb: a crash"
g -ex 'handle SIGUSR1 nostop noprint' -ex run -ex 'frame function main' -ex 'print argc' -ex 'info signals SIGUSR1' --args ./t x | sed -E 's/__strcpy_[a-z0-9_]+ \(\).*/strcpy/; /No such file/d'
echo "== gdb: threads and watchpoints"
g -ex 'set can-use-hw-watchpoints 0' -ex 'break work' -ex run -ex 'info threads' -ex 'watch total' -ex continue -ex 'print total' -ex kill ./t |
  grep -vE 'Id|^\* |^  [0-9]|pthread_create'
echo "== gdb: follow a child"
g -ex 'handle SIGUSR1 nostop noprint' -ex 'set follow-fork-mode child' -ex run ./t | grep -oE 'exited normally|process N is executing new program|total.*' | sort
echo "== gdb: attach"
sleep 100 & s=$!
sleep 0.2
g -p $s -ex 'print $_siginfo.si_signo' -ex detach | tail -n 2
kill $s; wait $s; echo "slept $?"
rm -f t t.c s[0-9]
