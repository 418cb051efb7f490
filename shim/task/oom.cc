// SPDX-License-Identifier: Apache-2.0
// Version 1: an eventfd that the kernel raises when the group runs out of memory, a moment before it chooses whom to kill.
// Version 2: memory.events changes. Both say only "look".
#include "shim/task/oom.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sys.h"
#include "runtime/host/cgroup_stats.h"
#include "runtime/host/proc.h"

namespace shim::task {

using base::Fd;
namespace sys = base::sys;

OomWatch::OomWatch(rpc::Loop& loop, std::vector<std::string> leaves, std::function<void()> killed)
    : loop_(loop), leaves_(std::move(leaves)), killed_(std::move(killed)) {
  seen_ = runtime::host::count_oom_kills(leaves_);
  for (auto& leaf : leaves_) {
    if (::access((leaf + "/memory.oom_control").c_str(), F_OK) == 0) watch_v1(leaf);
    else if (::access((leaf + "/memory.events").c_str(), F_OK) == 0) watch_v2(leaf);
  }
}

OomWatch::~OomWatch() {
  for (uint64_t w : watches_) loop_.unwatch(w);
  loop_.cancel(later_);
}

void OomWatch::watch_v1(const std::string& leaf) {
  auto control = sys::open((leaf + "/memory.oom_control").c_str(), O_RDONLY);
  auto event = sys::eventfd(0);
  if (!control.ok() || !event.ok()) return;
  auto r = runtime::host::write_file(leaf + "/cgroup.event_control", base::format("{} {}", event->get(), control->get()));
  if (!r.ok()) {
    LOG(warn, "no word of programs killed for want of memory in {}: {}", leaf, r.error().text());
    return;
  }
  add(std::move(event).value());
}

void OomWatch::watch_v2(const std::string& leaf) {
  auto n = sys::from_libc(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!n.ok()) return;
  Fd fd(static_cast<int>(*n));
  if (::inotify_add_watch(fd.get(), (leaf + "/memory.events").c_str(), IN_MODIFY) < 0) return;
  add(std::move(fd));
}

void OomWatch::add(Fd fd) {
  int number = fd.get();
  size_t at = watches_.size();
  auto w = loop_.watch(number, EPOLLIN, [this, number, at](uint32_t) {
    char buf[4096];
    auto n = sys::read(number, buf, sizeof buf);
    if (!n.ok() && !(n.error() == base::kEAGAIN)) loop_.unwatch(std::exchange(watches_[at], 0));
    look();
    // The kill may come a little later than the word of it.
    if (later_ == 0) {
      later_ = loop_.after(100, [this] {
        later_ = 0;
        look();
      });
    }
  });
  if (!w.ok()) return;
  watches_.push_back(*w);
  fds_.push_back(std::move(fd));
}

void OomWatch::look() {
  uint64_t n = runtime::host::count_oom_kills(leaves_);
  if (n <= seen_) return;
  seen_ = n;
  killed_();
}

}  // namespace shim::task
