// SPDX-License-Identifier: Apache-2.0
// Making child processes that set themselves up and exec: clone3 with fork's meaning, a report of what failed back to
// the parent, and the steps that every jailed child takes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace runtime::host {

// The pipe over which children of one launch tell what failed. Every process of the launch holds the writing end;
// exec closes it. So the end of file means: all of them run their programs (or are dead).
class Report {
 public:
  static base::Result<Report> create();
  // In a child: tells the error and ends the process.
  [[noreturn]] void fail(const base::Error& e);
  // In a child: tells a pid (as its own pid namespace counts).
  void tell_pid(int pid);
  // In the parent: closes its writing end and reads to the end of file, at most timeout_ms, and not that long if a process of the
  // launch (child, or the one that was told) is stopped. The pid that was told (0 if none), or the first error.
  base::ResultX<int> await(int timeout_ms, int child = 0);
  // What tell_pid() told so far, also when await() failed.
  int pid() const { return pid_; }

 private:
  int pid_ = 0;
  base::Fd in_, out_;
};

struct CloneOptions {
  uint64_t flags = 0;   // CLONE_NEW*, CLONE_PARENT
  int cgroup = -1;      // version 2 group to be born in, or -1
};
// clone3 with fork's meaning: 0 in the child. A host without CLONE_INTO_CGROUP is told by its errno.
base::Result<int> clone_process(const CloneOptions& options);

// A descriptor and the number at which the program shall find it.
struct Placed {
  int fd;
  int at;
};
// Puts descriptors at their numbers (below kFirstFree) and closes all others, at once or when the program is executed.
// `keep` is moved out of the way and closes at exec in any case; its new number comes back.
enum class Others { close_now, close_at_exec };
inline constexpr int kFirstFree = 64;
base::Result<int> place_descriptors(const std::vector<Placed>& placed, int keep, Others others);

// Capability sets permitted, effective and bounding become exactly `keep` (a mask), the rest empty. Once called,
// nothing brings a capability back.
base::Result<void> limit_capabilities(uint64_t keep);
base::Result<void> set_no_new_privileges();
// uid and gid 0 of the user namespace just entered, no supplementary groups.
base::Result<void> become_namespace_root();
// RLIMIT_CORE {1,1}: no core file, and no host core helper either (a limit of 1 tells the kernel not to run it).
base::Result<void> refuse_core_dumps();
// The caller's limits are for programs inside, whose kernel applies them: none of them shall end a program of ours.
void lift_limits();
// Soft = hard = min(limit, hard limit); 0: the hard limit.
base::Result<void> limit_open_files(uint64_t limit);
// A signal state that a new program can expect: nothing blocked, nothing ignored.
void reset_signals();
// execveat(fd, ""): only returns on failure.
base::Errno exec_fd(int fd, const std::vector<std::string>& args);

}  // namespace runtime::host
