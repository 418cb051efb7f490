// SPDX-License-Identifier: Apache-2.0
#include "runtime/container/freeze.h"

#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <sstream>

#include "base/sys.h"
#include "runtime/container/pod.h"

namespace runtime::container {

using base::ResultX;

namespace {

constexpr int kRounds = 500, kRoundUs = 4000;

struct Freezer {
  std::string leaf;   // the container's group
  std::string group;  // what is frozen: the leaf, or one below it
  bool v1;
  std::string file() const { return group + (v1 ? "/freezer.state" : "/cgroup.freeze"); }
  bool apart() const { return group != leaf; }
};

std::optional<Freezer> find_freezer(const State& s) {
  for (auto& leaf : s.cgroup_leaves) {
    bool v1 = ::access((leaf + "/freezer.state").c_str(), F_OK) == 0;
    if (!v1 && ::access((leaf + "/cgroup.freeze").c_str(), F_OK) != 0) continue;
    bool apart = may_have_members(s.id, s.annotations).value_or(false);
    return Freezer{leaf, apart ? leaf + "/held" : leaf, v1};
  }
  return std::nullopt;
}

std::string state_of(const Freezer& f) {
  auto text = host::read_file(f.file());
  if (!text.ok()) return "THAWED";
  if (f.v1) return text->substr(0, text->find('\n'));
  return (*text)[0] == '1' ? "FROZEN" : "THAWED";
}

// A program's thread that waits for the sentry's answer cannot be frozen, but does not run either: the sentry is, or holds the answer back. So a
// group is still when every thread of it is frozen or waits so. Both show as D in version 1. In version 2 what is frozen shows as S, and nothing
// else does: whatever could sleep so was woken by the request to freeze.
bool all_asleep(const std::string& group, bool v1) {
  auto threads = host::read_file(group + "/tasks");
  if (!threads.ok()) threads = host::read_file(group + "/cgroup.threads");
  if (!threads.ok()) return false;
  std::istringstream in(*threads);
  for (std::string tid; in >> tid;) {
    auto stat = host::read_file("/proc/" + tid + "/stat");
    if (!stat.ok()) continue;
    size_t end = stat->rfind(") ");
    char state = end == std::string::npos || end + 2 >= stat->size() ? 'R' : (*stat)[end + 2];
    if (state == 'R' || (v1 && state == 'S')) return false;
  }
  return true;
}

std::vector<int> pids_of(const std::string& group) {
  std::vector<int> out;
  auto text = host::read_file(group + "/cgroup.procs");
  if (!text.ok()) return out;
  std::istringstream in(*text);
  for (int pid; in >> pid;) out.push_back(pid);
  return out;
}

// Moves the processes of a group to another, but for those that serve it. Those that are born meanwhile are moved too.
ResultX<void> move(const State& s, const std::string& from, const std::string& to) {
  for (int i = 0; i < kRounds; i++) {
    int moved = 0;
    for (int pid : pids_of(from)) {
      if (pid == s.sentry.pid || pid == s.gofer.pid) continue;
      auto r = host::write_file(to + "/cgroup.procs", std::to_string(pid));
      if (!r.ok() && r.error() != base::kESRCH) return base::wrap(r.error(), base::format("move process {} to cgroup {}", pid, to));
      moved++;
    }
    if (moved == 0) return {};
    if (i > 10) host::sleep_us(kRoundUs);
  }
  return base::error(base::kEBUSY, "the processes of cgroup {} become more and more", from);
}

// All are back where they were, and the group is gone.
ResultX<void> let_go(const State& s, const Freezer& f) {
  if (::access(f.group.c_str(), F_OK) != 0) return {};
  TRY(move(s, f.group, f.leaf));
  for (int i = 0; i < kRounds; i++) {
    auto r = base::sys::from_libc(::rmdir(f.group.c_str()));
    if (r.ok() || r.error() == base::kENOENT) return {};
    if (r.error() != base::kEBUSY) return base::wrap(r.error(), base::format("remove cgroup {}", f.group));
    host::sleep_us(kRoundUs);
  }
  return base::error(base::kEBUSY, "cgroup {} does not become empty", f.group);
}

base::Result<void> set(const Freezer& f, bool on) {
  return host::write_file(f.file(), f.v1 ? (on ? "FROZEN" : "THAWED") : (on ? "1" : "0"));
}

ResultX<void> wait_until(const Freezer& f, bool frozen) {
  int asleep = 0;
  for (int i = 0; i < kRounds; i++) {
    if (f.v1 && state_of(f) == (frozen ? "FROZEN" : "THAWED")) return {};
    if (!f.v1) {
      auto events = host::read_file(f.group + "/cgroup.events");
      if (!events.ok() || events->find(frozen ? "frozen 1" : "frozen 0") != std::string::npos) return {};
    }
    if (frozen && i >= 10 && i % 5 == 0) {
      asleep = all_asleep(f.group, f.v1) ? asleep + 1 : 0;
      if (asleep >= 3) return {};
    }
    host::sleep_us(kRoundUs);
  }
  return base::error(base::kETIMEDOUT, "cgroup {} did not {} within 2 s", f.group, frozen ? "freeze" : "thaw");
}

}  // namespace

bool is_frozen(const State& s) {
  auto f = find_freezer(s);
  if (!f) return false;
  std::string state = state_of(*f);
  return state == "FROZEN" || state == "FREEZING";
}

ResultX<void> freeze_groups(const State& s, bool frozen) {
  auto f = find_freezer(s);
  if (!f) return base::error(base::kEOPNOTSUPP, "container '{}' has no freezer cgroup", s.id);
  if (!frozen) {
    if (f->apart() && ::access(f->group.c_str(), F_OK) != 0) return {};
    TRY_MSG(set(*f, false), "write {}", f->file());
    TRY(wait_until(*f, false));
    return f->apart() ? let_go(s, *f) : ResultX<void>();
  }
  auto freeze = [&]() -> ResultX<void> {
    if (f->apart()) {
      auto made = base::sys::from_libc(::mkdir(f->group.c_str(), 0755));
      if (!made.ok() && made.error() != base::kEEXIST) return base::wrap(made.error(), base::format("make cgroup {}", f->group));
      TRY(move(s, f->leaf, f->group));
    }
    TRY_MSG(set(*f, true), "write {}", f->file());
    return wait_until(*f, true);
  };
  auto r = freeze();
  if (!r.ok()) {
    IGNORE_ERROR(set(*f, false), "half of it must not stay behind");
    if (f->apart()) IGNORE_ERROR(let_go(s, *f), "the first error is the one to tell");
  }
  return r;
}

void remove_held(const State& s) {
  auto f = find_freezer(s);
  if (f && f->apart()) IGNORE_ERROR(let_go(s, *f), "the removal of the container's own group tells of it");
}

}  // namespace runtime::container
