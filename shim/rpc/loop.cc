// SPDX-License-Identifier: Apache-2.0
// epoll; watches are known by numbers that are never used again, so a late event finds nobody.
#include "shim/rpc/loop.h"

#include <time.h>

#include "base/check.h"
#include "base/sys.h"

namespace shim::rpc {

namespace sys = base::sys;

namespace {

int64_t now_ms() {
  timespec t;
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1'000'000;
}

}  // namespace

Loop::Loop() {
  auto e = sys::epoll_create();
  CHECK(e.ok());
  epoll_ = std::move(e).value();
}

base::Result<uint64_t> Loop::watch(int fd, uint32_t events, Handler handler) {
  uint64_t id = next_id_++;
  epoll_event e{};
  e.events = events;
  e.data.u64 = id;
  TRY(sys::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &e));
  watches_.emplace(id, Watch{fd, std::move(handler)});
  return id;
}

void Loop::change(uint64_t id, uint32_t events) {
  auto it = watches_.find(id);
  if (it == watches_.end()) return;
  epoll_event e{};
  e.events = events;
  e.data.u64 = id;
  CHECK(sys::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, it->second.fd, &e).ok());
}

void Loop::unwatch(uint64_t id) {
  auto it = watches_.find(id);
  if (it == watches_.end()) return;
  epoll_event e{};
  IGNORE_ERROR(sys::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, it->second.fd, &e), "a number that is not used again");
  ended_.push_back(watches_.extract(it));
}

uint64_t Loop::after(int64_t ms, Task task) {
  uint64_t id = next_id_++;
  timers_.emplace(now_ms() + ms, std::pair(id, std::move(task)));
  return id;
}

void Loop::cancel(uint64_t timer) {
  if (timer == 0) return;
  for (auto it = timers_.begin(); it != timers_.end(); ++it) {
    if (it->second.first == timer) {
      timers_.erase(it);
      return;
    }
  }
}

void Loop::post(Task task) { posted_.push_back(std::move(task)); }

int Loop::wait_ms() const {
  if (!posted_.empty()) return 0;
  if (timers_.empty()) return -1;
  int64_t left = timers_.begin()->first - now_ms();
  return static_cast<int>(std::max<int64_t>(0, std::min<int64_t>(left, 1 << 30)));
}

void Loop::run_due() {
  while (!timers_.empty() && timers_.begin()->first <= now_ms()) {
    Task task = std::move(timers_.begin()->second.second);
    timers_.erase(timers_.begin());
    task();
  }
  auto posted = std::move(posted_);
  posted_.clear();
  for (auto& task : posted) task();
}

void Loop::run() {
  while (!stopping_) {
    epoll_event events[64];
    auto n = sys::epoll_wait(epoll_.get(), events, 64, wait_ms());
    for (int i = 0; n.ok() && i < *n; i++) {
      auto it = watches_.find(events[i].data.u64);
      if (it != watches_.end()) it->second.handler(events[i].events);
    }
    run_due();
    ended_.clear();
  }
}

}  // namespace shim::rpc
