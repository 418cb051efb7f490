// SPDX-License-Identifier: Apache-2.0
// Small facts of the host: text files of /proc and /sys, processes by pid and start time, waiting.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace runtime::host {

// The whole of a small file; EFBIG beyond limit bytes.
base::Result<std::string> read_file(const std::string& path, size_t limit = 1 << 20);
base::Result<std::string> read_file_at(int dir, const char* name, size_t limit = 1 << 20);
// One write(2) of text to a file that exists (as the files of cgroupfs and /proc want it).
base::Result<void> write_file(const std::string& path, std::string_view text);
// Atomic replacement of dir/name: a temporary file and rename.
base::Result<void> replace_file_at(int dir, const char* name, std::string_view text, unsigned mode = 0600);
base::Result<void> replace_file(const std::string& path, std::string_view text, unsigned mode);
// mkdir -p.
base::Result<void> make_directories(const std::string& path, unsigned mode);

// A process, named so that a reused pid is never mistaken for it.
struct ProcessName {
  int pid = 0;
  uint64_t start_time = 0;  // field 22 of /proc/PID/stat
};
// The start time of a live process; nothing if it is gone or a zombie.
std::optional<uint64_t> start_time(int pid);
ProcessName process_name(int pid);
bool alive(const ProcessName& p);
// The letter of its state in /proc/PID/stat ('R', 'S', 'T' …), or 0 if there is no such process.
char process_state(int pid);

// Processes somebody waits for. One that a signal has stopped (SIGSTOP) would be waited for in vain, however long the patience.
class StopWatch {
 public:
  static constexpr int kPeriodMs = 100, kStoppedMs = 2000;
  // pids: those to look at now; called every time.
  explicit StopWatch(std::function<std::vector<int>()> pids) : pids_(std::move(pids)) {}
  // To be called every kPeriodMs: an error that names the process that was stopped each time for kStoppedMs.
  base::ResultX<void> look();

 private:
  std::function<std::vector<int>()> pids_;
  std::map<int, int64_t> since_;
};

// SIGKILL, if it is still this process; waits until it is gone, at most timeout_ms. A child of ours is reaped.
// Answers whether it is gone.
bool kill_and_wait(const ProcessName& p, int timeout_ms);
// waitpid for a child with EINTR retried; -1 when there is no such child.
int reap(int pid);

// Monotonic milliseconds.
int64_t now_ms();
void sleep_us(unsigned us);

}  // namespace runtime::host
