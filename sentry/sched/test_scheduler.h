// SPDX-License-Identifier: Apache-2.0
// For tests: a scheduler with one first fiber; everything stops when that fiber returns.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "sentry/sched/sched.h"

namespace sentry::sched {

inline constexpr Nanos kMs = 1'000'000;

template <typename F>
void on_scheduler(const Options& options, F body, Poller* poller = nullptr) {
  auto s = Scheduler::create(options);
  ASSERT_TRUE(s.ok());
  if (poller) (*s)->set_poller(poller);
  auto first = spawn([&] {
    body();
    Scheduler::get().stop();
  });
  ASSERT_TRUE(first.ok());
  (*s)->run();
}

template <typename F>
void on_scheduler(unsigned workers, F body) {
  on_scheduler(Options{.workers = workers}, body);
}

// Fibers to wait for.
class Group {
 public:
  template <typename F>
  Fiber& add(F f) {
    auto r = spawn(std::move(f));
    CHECK(r.ok());
    fibers_.push_back(std::move(r).value());
    return *fibers_.back();
  }
  void join() {
    for (auto& f : fibers_)
      while (!f->finished()) park(now() + kMs / 10);
    fibers_.clear();
  }
  ~Group() { join(); }

 private:
  std::vector<Ref<Fiber>> fibers_;
};

}  // namespace sentry::sched
