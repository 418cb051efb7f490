// SPDX-License-Identifier: Apache-2.0
// The guest program of the file calls: cases by name, --all, --list, as kernel_guest. Each case runs in a fresh directory.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kernel/guest.h"

Case* g_cases;

void fail(const char* file, int line, const char* what, long got) {
  dprintf(2, "%s:%d: %s failed (%ld, errno %d)\n", file, line, what, got, errno);
  _exit(99);
}

static void enter_directory() {
  static char name[] = "/tmp/files_XXXXXX";
  mkdir("/tmp", 01777);
  if (!mkdtemp(name) || chdir(name)) fail(__FILE__, __LINE__, "a directory to work in", 0);
  umask(022);
}

static int run_case(const Case* c) {
  pid_t pid = fork();
  if (pid == 0) {
    enter_directory();
    alarm(20);
    c->run();
    _exit(0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  if (status != 0) dprintf(2, "%s: status %x\n", c->name, static_cast<unsigned>(status));
  return status != 0;
}

int main(int argc, char** argv) {
  if (argc < 2) return 90;
  if (strcmp(argv[1], "--exit") == 0) return atoi(argv[2]);
  int failures = 0;
  for (Case* c = g_cases; c; c = c->next) {
    if (strcmp(argv[1], "--list") == 0) puts(c->name);
    else if (strcmp(argv[1], "--all") == 0) failures += run_case(c);
    else if (argc > 2 && strcmp(argv[2], c->name) == 0) return run_case(c);
  }
  return failures != 0;
}
