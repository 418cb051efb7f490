// SPDX-License-Identifier: Apache-2.0
// Files of /proc and /sys, and processes by name.
#include "runtime/host/proc.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "base/sys.h"

namespace runtime::host {

using base::Fd;
using base::Result;
using base::ResultX;

Result<std::string> read_file(const std::string& path, size_t limit) {
  return read_file_at(AT_FDCWD, path.c_str(), limit);
}

Result<std::string> read_file_at(int dir, const char* name, size_t limit) {
  Fd f = TRY(base::sys::openat(dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY));
  struct stat st;
  TRY(base::sys::fstat(f.get(), &st));
  if (S_ISDIR(st.st_mode)) return base::kEISDIR;
  if (!S_ISREG(st.st_mode)) return base::kEINVAL;
  if (st.st_size > 0 && static_cast<size_t>(st.st_size) > limit) return base::kEFBIG;
  return base::sys::read_all(f.get(), limit);
}

Result<void> write_file(const std::string& path, std::string_view text) {
  Fd f = TRY(base::sys::open(path.c_str(), O_WRONLY));
  TRY(base::sys::write(f.get(), text.data(), text.size()));
  return {};
}

Result<void> replace_file_at(int dir, const char* name, std::string_view text, unsigned mode) {
  std::string tmp = std::string(".") + name + ".new";
  // Ours alone: in a directory that others may write to, one of that name may be theirs.
  ::unlinkat(dir, tmp.c_str(), 0);
  Fd f = TRY(base::sys::openat(dir, tmp.c_str(), O_WRONLY | O_CREAT | O_EXCL, mode));
  auto written = base::sys::write_all(f.get(), text.data(), text.size());
  if (written.ok()) {
    auto moved = base::sys::from_libc(::renameat(dir, tmp.c_str(), dir, name));
    if (moved.ok()) return {};
    written = moved.error();
  }
  ::unlinkat(dir, tmp.c_str(), 0);
  return written;
}

Result<void> replace_file(const std::string& path, std::string_view text, unsigned mode) {
  size_t cut = path.rfind('/');
  std::string dir = cut == std::string::npos ? "." : path.substr(0, cut + 1);
  Fd at = TRY(base::sys::open(dir.c_str(), O_RDONLY | O_DIRECTORY));
  return replace_file_at(at.get(), path.c_str() + (cut == std::string::npos ? 0 : cut + 1), text, mode);
}

Result<void> make_directories(const std::string& path, unsigned mode) {
  for (size_t at = 1; at <= path.size(); at++) {
    if (at != path.size() && path[at] != '/') continue;
    auto made = base::sys::from_libc(::mkdir(path.substr(0, at).c_str(), mode));
    if (!made.ok() && made.error() != base::kEEXIST) {
      struct stat st;  // a read-only parent that is there already is no failure
      if (::stat(path.substr(0, at).c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) return made.error();
    }
  }
  return {};
}

namespace {

// /proc/PID/stat, and where its third field (the state) is. The command name may hold anything, so count from the last ')'.
std::optional<std::pair<std::string, size_t>> read_stat(int pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  auto text = read_file(path, 4096);
  if (!text.ok()) return std::nullopt;
  size_t at = text->rfind(')');
  if (at == std::string::npos || at + 2 >= text->size()) return std::nullopt;
  return std::pair(std::move(text).value(), at + 2);
}

}  // namespace

char process_state(int pid) {
  auto stat = read_stat(pid);
  return stat ? stat->first[stat->second] : '\0';
}

ResultX<void> StopWatch::look() {
  int64_t now = now_ms();
  std::map<int, int64_t> stopped;
  for (int pid : pids_()) {
    if (process_state(pid) != 'T') continue;
    auto was = since_.find(pid);
    int64_t since = was == since_.end() ? now : was->second;
    if (now - since >= kStoppedMs) {
      auto name = read_file(base::format("/proc/{}/comm", pid));
      std::string shown = name.ok() ? name->substr(0, name->find('\n')) : "?";
      return base::error(base::kETIMEDOUT, "process {} ({}) is stopped by a signal: let it go on with `kill -CONT {}`, or remove "
                         "the container with `caisson delete --force`", pid, shown, pid);
    }
    stopped[pid] = since;
  }
  since_ = std::move(stopped);
  return {};
}

std::optional<uint64_t> start_time(int pid) {
  auto stat = read_stat(pid);  // state is field 3, start time field 22
  if (!stat) return std::nullopt;
  const std::string* text = &stat->first;
  size_t at = stat->second - 2;
  char state = (*text)[at + 2];
  if (state == 'Z' || state == 'X') return std::nullopt;
  for (int field = 3; field < 22; field++) {
    at = text->find(' ', at + 1);
    if (at == std::string::npos) return std::nullopt;
    if (field == 3) at = text->find(' ', at + 1);
    if (at == std::string::npos) return std::nullopt;
  }
  return strtoull(text->c_str() + at + 1, nullptr, 10);
}

ProcessName process_name(int pid) { return {pid, start_time(pid).value_or(0)}; }

bool alive(const ProcessName& p) {
  if (p.pid <= 0) return false;
  auto t = start_time(p.pid);
  return t && *t == p.start_time;
}

int reap(int pid) {
  int status = 0;
  for (;;) {
    pid_t r = ::waitpid(pid, &status, 0);
    if (r == pid) return status;
    auto e = base::sys::from_libc(r);
    if (!e.ok() && e.error() == base::kEINTR) continue;
    return -1;
  }
}

bool kill_and_wait(const ProcessName& p, int timeout_ms) {
  if (p.pid <= 0) return true;
  auto fd = base::sys::pidfd_open(p.pid);
  if (!fd.ok()) return true;
  // The descriptor holds this process; only now compare, so a reused pid is never hit. A zombie of ours has no
  // start time: it needs no signal but a reaper.
  auto t = start_time(p.pid);
  if (t && *t != p.start_time) return true;
  if (t) IGNORE_ERROR(base::sys::pidfd_send_signal(fd->get(), SIGKILL), "it may have ended by itself");
  pollfd pf{fd->get(), POLLIN, 0};
  int64_t end = now_ms() + timeout_ms;
  for (;;) {
    int64_t left = end - now_ms();
    int r = ::poll(&pf, 1, left > 0 ? static_cast<int>(left) : 0);
    if (r > 0) {
      ::waitpid(p.pid, nullptr, WNOHANG);
      return true;
    }
    if (r == 0) return false;
  }
}

int64_t now_ms() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void sleep_us(unsigned us) {
  timespec ts{us / 1000000, static_cast<long>(us % 1000000) * 1000};
  nanosleep(&ts, nullptr);
}

}  // namespace runtime::host
