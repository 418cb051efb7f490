// SPDX-License-Identifier: Apache-2.0
// Processes: fork, vfork, exec, exit, wait, groups. And main(): one case by name, or --all.
#include "tests/kernel/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

Case* g_cases;
extern char** environ;
static const char* g_self;

void fail(const char* file, int line, const char* what, long got) {
  dprintf(2, "%s:%d: %s failed (%ld, errno %d)\n", file, line, what, got, errno);
  _exit(99);
}

static int status_of(pid_t pid) {
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return status;
}

CASE(fork_and_wait) {
  pid_t pid = fork();
  if (pid == 0) _exit(getppid() > 0 ? 7 : 8);
  EXPECT(pid > 0);
  int status = status_of(pid);
  EXPECT(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_EQ(waitpid(-1, nullptr, 0), -1);
  EXPECT_EQ(errno, ECHILD);
}

CASE(fork_copies_memory) {
  volatile int value = 1;
  int* shared = static_cast<int*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  EXPECT(shared != MAP_FAILED);
  pid_t pid = fork();
  if (pid == 0) {
    value = 2;
    *shared = 42;
    _exit(0);
  }
  status_of(pid);
  EXPECT_EQ(value, 1);
  EXPECT_EQ(*shared, 42);
}

CASE(many_forks) {
  for (int i = 0; i < 40; i++) {
    pid_t pid = fork();
    if (pid == 0) _exit(i);
    EXPECT_EQ(WEXITSTATUS(status_of(pid)), i);
  }
}

CASE(fork_tree) {
  pid_t pid = fork();
  if (pid == 0) {
    for (int i = 0; i < 3; i++) {
      pid_t c = fork();
      if (c == 0) {
        pid_t d = fork();
        if (d == 0) _exit(5);
        _exit(WEXITSTATUS(status_of(d)) + 1);
      }
      if (WEXITSTATUS(status_of(c)) != 6) _exit(1);
    }
    _exit(0);
  }
  EXPECT_EQ(status_of(pid), 0);
}

CASE(killed_by_signal) {
  pid_t pid = fork();
  if (pid == 0)
    for (;;) pause();
  EXPECT_EQ(kill(pid, SIGTERM), 0);
  int status = status_of(pid);
  EXPECT(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
}

CASE(kill_a_spinner) {
  pid_t pid = fork();
  if (pid == 0)
    for (;;) asm volatile("");
  usleep(2000);
  EXPECT_EQ(kill(pid, SIGKILL), 0);
  EXPECT_EQ(WTERMSIG(status_of(pid)), SIGKILL);
}

CASE(null_dereference_is_sigsegv) {
  pid_t pid = fork();
  if (pid == 0) {
    *static_cast<volatile int*>(nullptr) = 1;
    _exit(0);
  }
  int status = status_of(pid);
  EXPECT(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGSEGV);
}

CASE(vfork_exec) {
  pid_t pid = vfork();
  if (pid == 0) {
    const char* argv[] = {g_self, "--exit", "23", nullptr};
    execve(g_self, const_cast<char**>(argv), environ);
    _exit(98);
  }
  EXPECT(pid > 0);
  EXPECT_EQ(WEXITSTATUS(status_of(pid)), 23);
}

CASE(vfork_shares_memory_and_exits) {
  volatile int value = 0;
  pid_t pid = vfork();
  if (pid == 0) {
    value = 9;
    _exit(4);
  }
  EXPECT_EQ(value, 9);
  EXPECT_EQ(WEXITSTATUS(status_of(pid)), 4);
}

CASE(vfork_keeps_the_parents_registers) {
  double d = 3.25;
  asm volatile("" : "+x"(d));
  static int i;
  for (i = 0; i < 20; i++) {
    pid_t pid = vfork();
    if (pid == 0) {
      double other = 1.5 * i;
      asm volatile("" : "+x"(other));
      _exit(0);
    }
    status_of(pid);
  }
  asm volatile("" : "+x"(d));
  EXPECT(d == 3.25);
}

CASE(posix_spawn_works) {
  for (int i = 0; i < 10; i++) {
    pid_t pid;
    char number[8];
    snprintf(number, sizeof number, "%d", i);
    const char* argv[] = {g_self, "--exit", number, nullptr};
    EXPECT_EQ(posix_spawn(&pid, g_self, nullptr, nullptr, const_cast<char**>(argv), environ), 0);
    EXPECT_EQ(WEXITSTATUS(status_of(pid)), i);
  }
}

CASE(failed_exec_changes_nothing) {
  const char* argv[] = {"x", nullptr};
  EXPECT_EQ(execve("/no/such/file", const_cast<char**>(argv), environ), -1);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(execve("/", const_cast<char**>(argv), environ), -1);
  EXPECT_EQ(errno, EACCES);
  pid_t pid;
  EXPECT_EQ(posix_spawn(&pid, "/no/such/file", nullptr, nullptr, const_cast<char**>(argv), environ), ENOENT);
}

CASE(exec_passes_arguments_and_closes) {
  int fd = open(g_self, O_RDONLY | O_CLOEXEC), kept = open(g_self, O_RDONLY);
  EXPECT(fd >= 0 && kept >= 0);
  pid_t pid = fork();
  if (pid == 0) {
    char a[16], b[16];
    snprintf(a, sizeof a, "%d", fd);
    snprintf(b, sizeof b, "%d", kept);
    const char* argv[] = {g_self, "--check-exec", a, b, "", "last argument", nullptr};
    const char* env[] = {"A=1", "EMPTY=", nullptr};
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, [](int) {});
    execve(g_self, const_cast<char**>(argv), const_cast<char**>(env));
    _exit(98);
  }
  EXPECT_EQ(status_of(pid), 0);
  close(fd);
  close(kept);
}

static void* exec_from_thread(void*) {
  const char* argv[] = {g_self, "--pid-is", nullptr, nullptr};
  static char pid[16];
  snprintf(pid, sizeof pid, "%d", getpid());
  argv[2] = pid;
  execve(g_self, const_cast<char**>(argv), environ);
  _exit(97);
}

CASE(exec_from_a_thread_takes_over_the_pid) {
  pid_t pid = fork();
  if (pid == 0) {
    pthread_t t[3];
    for (int i = 0; i < 2; i++)
      pthread_create(&t[i], nullptr, [](void*) -> void* { for (;;) pause(); }, nullptr);
    pthread_create(&t[2], nullptr, exec_from_thread, nullptr);
    for (;;) pause();
  }
  EXPECT_EQ(status_of(pid), 0);
}

CASE(wait_options) {
  pid_t pid = fork();
  if (pid == 0) {
    usleep(5000);
    _exit(3);
  }
  int status;
  EXPECT_EQ(waitpid(pid, &status, WNOHANG), 0);
  siginfo_t si{};
  EXPECT_EQ(waitid(P_PID, static_cast<id_t>(pid), &si, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(si.si_pid, pid);
  EXPECT_EQ(si.si_code, CLD_EXITED);
  EXPECT_EQ(si.si_status, 3);
  EXPECT_EQ(si.si_signo, SIGCHLD);
  struct rusage usage;
  EXPECT_EQ(wait4(pid, &status, 0, &usage), pid);
  EXPECT_EQ(WEXITSTATUS(status), 3);
  EXPECT_EQ(waitpid(pid, &status, 0), -1);
}

CASE(stop_and_continue_are_reported) {
  pid_t pid = fork();
  if (pid == 0)
    for (;;) pause();
  int status;
  EXPECT_EQ(kill(pid, SIGSTOP), 0);
  EXPECT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  EXPECT(WIFSTOPPED(status));
  EXPECT_EQ(WSTOPSIG(status), SIGSTOP);
  EXPECT_EQ(waitpid(pid, &status, WUNTRACED | WNOHANG), 0);
  EXPECT_EQ(kill(pid, SIGCONT), 0);
  EXPECT_EQ(waitpid(pid, &status, WCONTINUED), pid);
  EXPECT(WIFCONTINUED(status));
  EXPECT_EQ(kill(pid, SIGSTOP), 0);
  EXPECT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  EXPECT_EQ(kill(pid, SIGKILL), 0);
  EXPECT_EQ(WTERMSIG(status_of(pid)), SIGKILL);
}

CASE(ignored_sigchld_reaps) {
  pid_t outer = fork();
  if (outer == 0) {
    signal(SIGCHLD, SIG_IGN);
    for (int i = 0; i < 5; i++)
      if (fork() == 0) _exit(0);
    int r = waitpid(-1, nullptr, 0);  // returns once all are gone
    _exit(r == -1 && errno == ECHILD ? 0 : 1);
  }
  EXPECT_EQ(status_of(outer), 0);
}

CASE(orphans_go_to_the_subreaper) {
  pid_t outer = fork();
  if (outer == 0) {
    if (prctl(PR_SET_CHILD_SUBREAPER, 1)) _exit(1);
    pid_t middle = fork();
    if (middle == 0) {
      if (fork() == 0) {
        usleep(3000);
        _exit(getppid() == getpid() - 2 ? 11 : 12);
      }
      _exit(0);
    }
    if (status_of(middle) != 0) _exit(2);
    int status;
    if (wait(&status) <= 0) _exit(3);
    _exit(WEXITSTATUS(status) == 11 || WEXITSTATUS(status) == 12 ? 0 : 4);
  }
  EXPECT_EQ(status_of(outer), 0);
}

CASE(process_groups_and_sessions) {
  pid_t pid = fork();
  if (pid == 0) {
    if (setpgid(0, 0) != 0 || getpgrp() != getpid()) _exit(1);
    if (setsid() != -1 || errno != EPERM) _exit(2);  // a group leader may not
    pid_t c = fork();
    if (c == 0) {
      if (setsid() != getpid() || getsid(0) != getpid() || getpgrp() != getpid()) _exit(3);
      if (setpgid(0, 0) != -1 || errno != EPERM) _exit(4);  // a session leader may not
      _exit(0);
    }
    _exit(WEXITSTATUS(status_of(c)));
  }
  EXPECT_EQ(status_of(pid), 0);
  pid_t first = fork();
  if (first == 0)
    for (;;) pause();
  EXPECT_EQ(setpgid(first, first), 0);
  pid_t second = fork();
  if (second == 0)
    for (;;) pause();
  EXPECT_EQ(setpgid(second, first), 0);
  EXPECT_EQ(kill(-first, SIGUSR1), 0);
  int status;
  EXPECT(waitpid(-first, &status, 0) > 0);
  EXPECT_EQ(WTERMSIG(status), SIGUSR1);
  EXPECT(waitpid(-first, &status, 0) > 0);
  EXPECT_EQ(waitpid(-first, &status, 0), -1);
}

CASE(orphaned_stopped_group_is_hung_up) {
  int fds[2];
  EXPECT_EQ(pipe(fds), 0);
  pid_t middle = fork();
  if (middle == 0) {
    setsid();  // whoever adopts the child is of another session
    pid_t c = fork();
    if (c == 0) {
      setpgid(0, 0);
      signal(SIGHUP, [](int) {});
      raise(SIGSTOP);
      char ok = 'h';
      write(fds[1], &ok, 1);
      _exit(0);
    }
    int status;
    waitpid(c, &status, WUNTRACED);
    _exit(WIFSTOPPED(status) ? 0 : 1);
  }
  EXPECT_EQ(status_of(middle), 0);
  close(fds[1]);
  char got = 0;
  EXPECT_EQ(read(fds[0], &got, 1), 1);
  EXPECT_EQ(got, 'h');
}

CASE(pidfd_of_a_child) {
  pid_t pid = fork();
  if (pid == 0)
    for (;;) pause();
  int fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  EXPECT(fd >= 0);
  struct pollfd p = {fd, POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 0), 0);
  EXPECT_EQ(syscall(SYS_pidfd_send_signal, fd, SIGKILL, nullptr, 0), 0);
  EXPECT_EQ(poll(&p, 1, 2000), 1);
  siginfo_t si{};
  EXPECT_EQ(waitid(static_cast<idtype_t>(3) /* P_PIDFD */, static_cast<id_t>(fd), &si, WEXITED), 0);
  EXPECT_EQ(si.si_code, CLD_KILLED);
  EXPECT_EQ(syscall(SYS_pidfd_send_signal, fd, SIGKILL, nullptr, 0), -1);
  EXPECT_EQ(errno, ESRCH);
  close(fd);
}

CASE(clone3_with_pidfd) {
  struct { unsigned long flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls; } a{};
  int pidfd = -1;
  a.flags = CLONE_PIDFD;
  a.pidfd = reinterpret_cast<unsigned long>(&pidfd);
  a.exit_signal = SIGCHLD;
  long pid = syscall(SYS_clone3, &a, sizeof a);
  if (pid == 0) _exit(31);
  EXPECT(pid > 0);
  EXPECT(pidfd > 2);
  EXPECT_EQ(WEXITSTATUS(status_of(static_cast<pid_t>(pid))), 31);
  close(pidfd);
  EXPECT_EQ(syscall(SYS_clone3, &a, 8), -1);
  EXPECT_EQ(errno, EINVAL);
}

CASE(clone_flag_rules) {
  auto refused = [](unsigned long flags) {
    long r = syscall(SYS_clone, flags, 0, 0, 0, 0);
    if (r == 0) _exit(96);
    return r == -1 && errno == EINVAL;
  };
  EXPECT(refused(CLONE_THREAD));
  EXPECT(refused(CLONE_SIGHAND));
  EXPECT(refused(CLONE_NEWNS | CLONE_FS));
  EXPECT(refused(CLONE_THREAD | CLONE_SIGHAND));
}

CASE(clone_files_shares_the_table) {
  int fds[2];
  EXPECT_EQ(pipe(fds), 0);
  long pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) {
    close(fds[0]);
    _exit(0);
  }
  status_of(static_cast<pid_t>(pid));
  EXPECT_EQ(fcntl(fds[0], F_GETFD), -1);
  EXPECT_EQ(errno, EBADF);
  close(fds[1]);
}

static int run_case(const Case* c) {
  pid_t pid = fork();
  if (pid == 0) {
    c->run();
    _exit(0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  if (status != 0) dprintf(2, "%s: status %x\n", c->name, static_cast<unsigned>(status));
  return status != 0;
}

static int check_exec(int argc, char** argv) {
  if (argc != 6 || argv[4][0] != 0 || strcmp(argv[5], "last argument") != 0) return 1;
  if (fcntl(atoi(argv[2]), F_GETFD) != -1) return 2;
  if (fcntl(atoi(argv[3]), F_GETFD) == -1) return 3;
  if (!getenv("A") || strcmp(getenv("A"), "1") != 0 || !getenv("EMPTY")) return 4;
  struct sigaction sa;
  sigaction(SIGUSR1, nullptr, &sa);
  if (sa.sa_handler != SIG_IGN) return 5;
  sigaction(SIGUSR2, nullptr, &sa);
  if (sa.sa_handler != SIG_DFL) return 6;
  char name[17] = {};
  prctl(PR_GET_NAME, name);
  if (strncmp(name, "kernel_guest", 12) != 0) return 7;
  return 0;
}

int main(int argc, char** argv) {
  g_self = argv[0];
  if (argc < 2) return 90;
  if (strcmp(argv[1], "--exit") == 0) return atoi(argv[2]);
  if (strcmp(argv[1], "--crash") == 0) return *reinterpret_cast<volatile int*>(getppid() + 8);
  if (strcmp(argv[1], "--check-exec") == 0) return check_exec(argc, argv);
  if (strcmp(argv[1], "--pid-is") == 0)
    return atoi(argv[2]) == getpid() && getpid() == static_cast<int>(syscall(SYS_gettid)) ? 0 : 1;
  if (strcmp(argv[1], "--list") == 0) {
    for (Case* c = g_cases; c; c = c->next) puts(c->name);
    return 0;
  }
  if (strcmp(argv[1], "--one") == 0) {
    for (Case* c = g_cases; c; c = c->next)
      if (argc > 2 && strcmp(argv[2], c->name) == 0) return run_case(c);
    return 91;
  }
  int failures = 0;
  for (Case* c = g_cases; c; c = c->next)
    if (strcmp(argv[1], "--all") == 0) failures += run_case(c);
    else if (strcmp(argv[1], c->name) == 0) {
      c->run();
      return 0;
    }
  return strcmp(argv[1], "--all") == 0 ? failures != 0 : 91;
}
