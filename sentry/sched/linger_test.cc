// SPDX-License-Identifier: Apache-2.0
#include "sentry/sched/linger.h"

#include "sentry/sched/test_scheduler.h"

namespace sentry::sched {
namespace {

TEST(Linger, LetsOthersGoFirst) {
  on_scheduler(1, [] {
    Group g;
    int steps = 0;
    g.add([&] {
      for (; steps < 1000; steps++) yield();
    });
    linger(1, 3600 * kMs * 1000);
    EXPECT_EQ(steps, 1000);
  });
}

TEST(Linger, EndsThoughOthersGoOn) {
  on_scheduler(1, [] {
    Group g;
    bool end = false;
    g.add([&] {
      while (!end) yield();
    });
    linger(3600 * kMs * 1000, kMs);
    end = true;
  });
}

}  // namespace
}  // namespace sentry::sched
