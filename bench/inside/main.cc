// SPDX-License-Identifier: Apache-2.0
// caisson-bench: what `caisson bench` runs inside each container. One static program, so that it needs nothing of the root file system.
//   caisson-bench measure SUITE MS [pin] [stretch] [only=NAME,NAME…]   a line of JSON for each operation
//   caisson-bench time N COMMAND…                                        how long the command takes, N times after one not counted
//   caisson-bench hold PROCESSES THREADS                                 says "ready" and stays, with so many more of them
//   caisson-bench exit                                                   ends at once
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>

#include "bench/inside/measure.h"

namespace {

using namespace bench;

// On the first processor that it may use.
void pin() {
  cpu_set_t may, one;
  if (sched_getaffinity(0, sizeof may, &may) != 0) return;
  for (int c = 0; c < CPU_SETSIZE; c++) {
    if (!CPU_ISSET(c, &may)) continue;
    CPU_ZERO(&one);
    CPU_SET(c, &one);
    sched_setaffinity(0, sizeof one, &one);
    return;
  }
}

int measure_suite(int argc, char** argv) {
  std::string suite = argv[2], only;
  Budget budget;
  budget.ms = atof(argv[3]);
  for (int i = 4; i < argc; i++) {
    if (!strcmp(argv[i], "pin")) pin();
    else if (!strcmp(argv[i], "stretch")) budget.one_stretch = true;
    else if (!strncmp(argv[i], "only=", 5)) only = std::string(",") + (argv[i] + 5) + ",";
    else return 2;
  }
  std::vector<Operation> all;
  add_call_operations(all);
  add_process_operations(all);
  add_file_operations(all);
  for (auto& o : all) {
    if (suite == o.suite && (only.empty() || only.find("," + std::string(o.name) + ",") != only.npos)) measure(o, budget);
  }
  fflush(stdout);
  _exit(0);  // threads and processes that answer others go too
}

int time_command(char** argv) {
  int repeats = atoi(argv[2]);
  std::vector<double> took;
  for (int i = 0; i <= repeats; i++) {
    double from = now_ns();
    pid_t pid = fork();
    if (pid == 0) {
      int null = open("/dev/null", O_RDWR);
      dup2(null, 0);
      dup2(null, 1);
      execvp(argv[3], argv + 3);
      _exit(127);
    }
    int st = -1;
    if (pid < 0 || waitpid(pid, &st, 0) != pid || !WIFEXITED(st) || WEXITSTATUS(st) != 0) {
      fprintf(stderr, "%s ended with %s %d\n", argv[3], WIFSIGNALED(st) ? "signal" : "exit code", WIFSIGNALED(st) ? WTERMSIG(st) : WEXITSTATUS(st));
      return 1;
    }
    if (i > 0) took.push_back(now_ns() - from);
  }
  double sum = 0;
  for (double t : took) sum += t;
  print_points({"app", "", "command", "command", nullptr}, took, sum / static_cast<double>(took.size()));
  return 0;
}

int hold(int processes, int threads) {
  for (int i = 0; i < processes; i++) {
    pid_t pid = fork();
    if (pid < 0) return 1;
    if (pid == 0) {
      for (;;) pause();
    }
  }
  for (int i = 0; i < threads; i++) {
    std::thread([] {
      for (;;) pause();
    }).detach();
  }
  if (write(1, "ready\n", 6) != 6) return 1;
  for (;;) pause();
}

}  // namespace

int main(int argc, char** argv) {
  self = argv[0];
  std::string verb = argc > 1 ? argv[1] : "";
  if (verb == "exit") return 0;
  if (verb == "measure" && argc >= 4) return measure_suite(argc, argv);
  if (verb == "time" && argc >= 4) return time_command(argv);
  if (verb == "hold" && argc == 4) return hold(atoi(argv[2]), atoi(argv[3]));
  fputs("caisson-bench is what `caisson bench` runs inside containers: see caisson bench --help\n", stderr);
  return 2;
}
