# SPDX-License-Identifier: Apache-2.0
# Signals to and from shells and C programs.
set -e
cat > s.c <<'S'
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <setjmp.h>
#include <sys/wait.h>
#include <errno.h>
#include <ucontext.h>
static volatile int got; static sigjmp_buf jb;
static void on(int s, siginfo_t *i, void *u) { got = s * 1000 + i->si_code; (void)u; }
static void seg(int s, siginfo_t *i, void *u) { printf("segv %d at %p code %d\n", s, i->si_addr, i->si_code); (void)u; siglongjmp(jb, 1); }
int main(void) {
  struct sigaction a = {0}; a.sa_sigaction = on; a.sa_flags = SA_SIGINFO; sigaction(SIGUSR1, &a, 0);
  raise(SIGUSR1); printf("%d\n", got);
  a.sa_sigaction = seg; a.sa_flags = SA_SIGINFO | SA_ONSTACK; sigaction(SIGSEGV, &a, 0); sigaction(SIGFPE, &a, 0);
  stack_t st = {.ss_sp = malloc(65536), .ss_size = 65536}; sigaltstack(&st, 0);
  if (!sigsetjmp(jb, 1)) *(volatile int *)0x10 = 1;
  if (!sigsetjmp(jb, 1)) { volatile int z = 0; printf("%d\n", 1 / z); }
  int p[2]; pipe(p); alarm(1); a.sa_sigaction = on; a.sa_flags = SA_SIGINFO; sigaction(SIGALRM, &a, 0); char c;
  int r = read(p[0], &c, 1); printf("read %d %s\n", r, strerror(errno));
  sigset_t s; sigemptyset(&s); sigaddset(&s, SIGRTMIN); sigprocmask(SIG_BLOCK, &s, 0);
  for (int i = 0; i < 5; i++) { union sigval v = {.sival_int = i}; sigqueue(getpid(), SIGRTMIN, v); }
  for (int i = 0; i < 5; i++) { siginfo_t si; sigwaitinfo(&s, &si); printf("rt %d\n", si.si_value.sival_int); }
  pid_t k = fork(); if (!k) { pause(); _exit(0); } kill(k, SIGSTOP); int w; waitpid(k, &w, WUNTRACED); printf("stopped %d\n", WIFSTOPPED(w));
  kill(k, SIGCONT); waitpid(k, &w, WCONTINUED); printf("continued %d\n", WIFCONTINUED(w)); kill(k, SIGTERM); waitpid(k, &w, 0); printf("term %d\n", WTERMSIG(w));
  if (!fork()) { abort(); } wait(&w); printf("abort %d\n", WTERMSIG(w)); fflush(stdout); execlp("sh", "sh", "-c", "kill -TERM $$", (char *)0);
}
S
gcc -O1 -o s s.c; ./s || echo "exit $?"; rm s
