// SPDX-License-Identifier: Apache-2.0
// The steps of a child between its birth and its exec. The parent has one thread, so a child may use all of libc.
#include "runtime/host/spawn.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/sys.h"
#include "runtime/host/proc.h"

namespace runtime::host {

using base::Error;
using base::Errno;
using base::Fd;
using base::Result;
using base::ResultX;
namespace sys = base::sys;

namespace {

// At most PIPE_BUF bytes: one write is one record.
struct Record {
  int32_t pid = 0;
  int32_t error = 0;
  char text[504] = {};
};
static_assert(sizeof(Record) == 512);

}  // namespace

Result<Report> Report::create() {
  int p[2];
  TRY(sys::from_libc(::pipe2(p, O_CLOEXEC)));
  Report r;
  r.in_ = Fd(p[0]);
  Fd out(p[1]);
  // Where no descriptor is placed: an exec that fails is still told.
  r.out_ = TRY(sys::dup_cloexec(out.get(), kFirstFree));
  return r;
}

void Report::fail(const Error& e) {
  Record r;
  r.error = e.code().value();
  size_t n = std::min(e.text().size(), sizeof r.text - 1);
  memcpy(r.text, e.text().data(), n);
  IGNORE_ERROR(sys::write(out_.get(), &r, sizeof r), "the parent is gone, so nobody asks");
  _exit(1);
}

void Report::tell_pid(int pid) {
  Record r;
  r.pid = pid;
  IGNORE_ERROR(sys::write(out_.get(), &r, sizeof r), "the parent is gone, so nobody asks");
}

ResultX<int> Report::await(int timeout_ms, int child) {
  out_.reset();
  int64_t end = now_ms() + timeout_ms;
  StopWatch watch([&] { return std::vector<int>{child, pid_}; });
  for (;;) {
    pollfd p{in_.get(), POLLIN, 0};
    int64_t left = std::max<int64_t>(end - now_ms(), 0);
    int n = ::poll(&p, 1, static_cast<int>(std::min<int64_t>(left, StopWatch::kPeriodMs)));
    if (n < 0) continue;
    if (n == 0) {
      TRY(watch.look());
      if (left > 0) continue;
      return base::error(base::kETIMEDOUT, "a child did not reach its program within {} ms", timeout_ms);
    }
    Record r;
    size_t got = TRY_MSG(sys::read(in_.get(), &r, sizeof r), "read a child's report");
    if (got == 0) return pid_;
    if (got != sizeof r) return base::error(base::kEPROTO, "a child's report is torn");
    if (r.error > 0 && r.error < 4096) return Error(Errno(r.error), std::string(r.text, strnlen(r.text, sizeof r.text)));
    pid_ = r.pid;
  }
}

Result<int> clone_process(const CloneOptions& options) {
  clone_args args{};
  args.flags = options.flags;
  if (!(options.flags & CLONE_PARENT)) args.exit_signal = SIGCHLD;
  if (options.cgroup >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<uint64_t>(options.cgroup);
  }
  long r = TRY(sys::raw(SYS_clone3, reinterpret_cast<long>(&args), sizeof args));
  return static_cast<int>(r);
}

Result<int> place_descriptors(const std::vector<Placed>& placed, int keep, Others others) {
  // First out of the way, so that no target number is a source still needed; duplicates close by themselves at exec.
  std::vector<int> moved;
  for (auto& p : placed) moved.push_back(TRY(sys::dup_cloexec(p.fd, kFirstFree)).release());
  int kept = TRY(sys::dup_cloexec(keep, kFirstFree)).release();
  std::vector<int> stay{kept};
  for (size_t i = 0; i < placed.size(); i++) {
    CHECK(placed[i].at < kFirstFree);
    TRY(sys::from_libc(::dup2(moved[i], placed[i].at)));
    stay.push_back(placed[i].at);
  }
  std::sort(stay.begin(), stay.end());
  long flags = others == Others::close_at_exec ? CLOSE_RANGE_CLOEXEC : 0;
  unsigned from = 0;
  for (int fd : stay) {
    auto n = static_cast<unsigned>(fd);
    if (n > from) TRY(sys::raw(SYS_close_range, from, n - 1, flags));
    from = n + 1;
  }
  TRY(sys::raw(SYS_close_range, from, ~0U, flags));
  return kept;
}

Result<void> limit_capabilities(uint64_t keep) {
  for (int cap = 0; cap < 64; cap++) {
    if (keep >> cap & 1) continue;
    auto r = sys::from_libc(::prctl(PR_CAPBSET_DROP, cap, 0, 0, 0));
    if (!r.ok()) {
      if (r.error() == base::kEINVAL) break;  // past the last capability that this kernel knows
      return r.error();
    }
  }
  IGNORE_ERROR(sys::from_libc(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)), "kernels before 4.3 have none");
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct have[2] = {}, want[2] = {};
  TRY(sys::raw(SYS_capget, reinterpret_cast<long>(&header), reinterpret_cast<long>(have)));
  for (int i = 0; i < 2; i++) {
    auto mask = static_cast<uint32_t>(keep >> (32 * i));
    want[i].permitted = want[i].effective = have[i].permitted & mask;
  }
  TRY(sys::raw(SYS_capset, reinterpret_cast<long>(&header), reinterpret_cast<long>(want)));
  return {};
}

Result<void> set_no_new_privileges() {
  TRY(sys::from_libc(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)));
  return {};
}

Result<void> become_namespace_root() {
  // An outer user namespace may forbid setgroups; then there is nothing to give up that it would let us keep.
  auto groups = sys::raw(SYS_setgroups, 0, 0);
  if (!groups.ok() && groups.error() != base::kEPERM) return groups.error();
  TRY(sys::raw(SYS_setresgid, 0, 0, 0));
  TRY(sys::raw(SYS_setresuid, 0, 0, 0));
  return {};
}

Result<void> refuse_core_dumps() {
  // A hard limit of 0 cannot be raised to 1 without privilege; 0 is good enough unless a core helper is set.
  rlimit now{};
  TRY(sys::from_libc(::getrlimit(RLIMIT_CORE, &now)));
  rlimit one{std::min<rlim_t>(1, now.rlim_max), std::min<rlim_t>(1, now.rlim_max)};
  TRY(sys::from_libc(::setrlimit(RLIMIT_CORE, &one)));
  return {};
}

void lift_limits() {
  constexpr __rlimit_resource kLifted[] = {RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_AS, RLIMIT_RSS, RLIMIT_NPROC, RLIMIT_RTTIME};
  for (auto resource : kLifted) {
    rlimit now{}, none{RLIM_INFINITY, RLIM_INFINITY};
    if (::setrlimit(resource, &none) == 0 || ::getrlimit(resource, &now) != 0) continue;
    now.rlim_cur = now.rlim_max;
    IGNORE_ERROR(sys::from_libc(::setrlimit(resource, &now)), "then the caller's limit holds for the sandbox as a whole");
  }
}

Result<void> limit_open_files(uint64_t limit) {
  rlimit now{};
  TRY(sys::from_libc(::getrlimit(RLIMIT_NOFILE, &now)));
  rlim_t want = limit ? std::min<rlim_t>(limit, now.rlim_max) : now.rlim_max;
  rlimit set{want, want};
  TRY(sys::from_libc(::setrlimit(RLIMIT_NOFILE, &set)));
  return {};
}

void reset_signals() {
  for (int s = 1; s < 65; s++) {
    struct sigaction dfl{};
    dfl.sa_handler = SIG_DFL;
    ::sigaction(s, &dfl, nullptr);  // fails for SIGKILL, SIGSTOP and libc's own two: they stay as they are
  }
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

Errno exec_fd(int fd, const std::vector<std::string>& args) {
  std::vector<char*> argv;
  for (auto& a : args) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  char* envp[] = {nullptr};
  return sys::raw(SYS_execveat, fd, reinterpret_cast<long>(""), reinterpret_cast<long>(argv.data()),
                  reinterpret_cast<long>(envp), AT_EMPTY_PATH)
      .error();
}

}  // namespace runtime::host
