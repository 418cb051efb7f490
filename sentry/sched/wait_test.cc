// SPDX-License-Identifier: Apache-2.0
// Wait queues, interruptible waits, the sleeping lock.
#include "sentry/sched/wait.h"

#include "sentry/sched/test_scheduler.h"

namespace sentry::sched {
namespace {

TEST(WaitQueue, WakesByMask) {
  on_scheduler(1, [] {
    WaitQueue q;
    int hits[2] = {};
    auto count = [](WaitEntry& e, uint32_t) { ++*static_cast<int*>(e.arg()); };
    WaitEntry in(count, &hits[0], 1), out(count, &hits[1], 4);
    EXPECT_TRUE(q.empty());
    q.add(in);
    q.add(out);
    q.wake_all(1);
    q.wake_all(4);
    q.wake_all();
    EXPECT_EQ(hits[0], 2);
    EXPECT_EQ(hits[1], 2);
    in.detach();
    in.detach();  // again: no effect
    q.wake_all();
    EXPECT_EQ(hits[0], 2);
    out.detach();
    EXPECT_TRUE(q.empty());
  });
}

TEST(WaitQueue, WakeCountsExclusiveEntriesAndTakesTurns) {
  on_scheduler(1, [] {
    WaitQueue q;
    int hits[4] = {};
    auto count = [](WaitEntry& e, uint32_t) { ++*static_cast<int*>(e.arg()); };
    WaitEntry a(count, &hits[0], ~0u), b(count, &hits[1], ~0u), c(count, &hits[2], ~0u), all(count, &hits[3], ~0u);
    a.exclusive = b.exclusive = c.exclusive = true;
    for (WaitEntry* e : {&a, &b, &c, &all}) q.add(*e);
    EXPECT_EQ(q.wake(~0u, 1), 1);
    EXPECT_EQ(hits[0], 1);
    EXPECT_EQ(hits[1] + hits[2], 0);
    EXPECT_EQ(hits[3], 1);
    EXPECT_EQ(q.wake(~0u, 2), 2);
    EXPECT_EQ(hits[0], 1);
    EXPECT_EQ(hits[1], 1);
    EXPECT_EQ(hits[2], 1);
    EXPECT_EQ(q.wake(~0u, 100), 3);
    EXPECT_EQ(q.wake(~0u, 0), 0);
    EXPECT_EQ(hits[3], 4);
  });
}

TEST(WaitFor, EndsWhenTheConditionHolds) {
  on_scheduler(2, [] {
    WaitQueue q;
    std::atomic<int> value{0};
    Group g;
    for (int i = 1; i <= 50; i++)
      g.add([&, i] {
        auto r = wait_for(q, [&] { return value.load() >= i; });
        EXPECT_TRUE(r.ok());
      });
    for (int i = 1; i <= 50; i++) {
      value = i;
      q.wake_all();
      yield();
    }
    g.join();
  });
}

TEST(WaitFor, TimesOut) {
  on_scheduler(1, [] {
    WaitQueue q;
    auto r = wait_for(q, [] { return false; }, now() + 2 * kMs);
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.error(), kETIMEDOUT);
    EXPECT_TRUE(q.empty());
  });
}

TEST(WaitFor, IsInterrupted) {
  on_scheduler(1, [] {
    WaitQueue q;
    std::atomic<bool> free{false};
    int errors[2] = {};
    Group g;
    Fiber& yes = g.add([&] {
      auto r = wait_for(q, [&] { return free.load(); });
      if (!r.ok()) errors[0] = r.error().value();
    });
    Fiber& no = g.add([&] {
      auto r = wait_for(q, [&] { return free.load(); }, kNever, Interruptible::no);
      if (!r.ok()) errors[1] = r.error().value();
    });
    yield();
    yes.interrupt();
    no.interrupt();
    for (int i = 0; i < 5; i++) yield();
    EXPECT_TRUE(yes.finished());
    EXPECT_FALSE(no.finished());
    free = true;
    q.wake_all();
    g.join();
    EXPECT_EQ(errors[0], kERESTARTSYS.value());
    EXPECT_EQ(errors[1], 0);
  });
}

// A condition that itself parks must not swallow the wake-up of the wait around it.
TEST(WaitFor, ConditionMayBlock) {
  on_scheduler(1, [] {
    WaitQueue q;
    std::atomic<bool> ready{false};
    std::atomic<int> looks{0};
    Group g;
    g.add([&] {
      auto r = wait_for(q, [&] {
        bool was = ready.load();
        looks++;
        run_blocking([&] {
          if (looks == 2) {  // the event comes between the look and the park
            ready = true;
            q.wake_all();
          }
        });
        return was;
      });
      EXPECT_TRUE(r.ok());
    });
    g.join();
    EXPECT_EQ(looks.load(), 3);
  });
}

TEST(SleepMutex, ExcludesAcrossParks) {
  for (unsigned workers : {1u, 2u}) {
    on_scheduler(workers, [] {
      SleepMutex m;
      int inside = 0, total = 0;
      Group g;
      for (int i = 0; i < 8; i++)
        g.add([&] {
          for (int k = 0; k < 300; k++) {
            SleepLock l(m);
            EXPECT_EQ(++inside, 1);
            if (k % 3 == 0) yield();
            if (k % 100 == 0) park(now() + kMs / 10);
            total++;
            inside--;
          }
        });
      g.join();
      EXPECT_EQ(total, 8 * 300);
      if (m.try_lock()) m.unlock();
      else ADD_FAILURE() << "nobody holds it";
    });
  }
}

TEST(SleepMutex, IsFirstComeFirstServed) {
  on_scheduler(1, [] {
    SleepMutex m;
    std::vector<int> order;
    Group g;
    m.lock();
    for (int i = 0; i < 5; i++) {
      g.add([&, i] {
        for (int k = 0; k < 3; k++) {
          SleepLock l(m);
          order.push_back(i);
          yield();
        }
      });
      yield();  // they queue up in this order
    }
    EXPECT_FALSE(m.try_lock());
    m.unlock();
    g.join();
    ASSERT_EQ(order.size(), 15u);
    for (size_t i = 0; i < order.size(); i++) EXPECT_EQ(order[i], static_cast<int>(i % 5)) << i;
  });
}

}  // namespace
}  // namespace sentry::sched
