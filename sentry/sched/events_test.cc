// SPDX-License-Identifier: Apache-2.0
// Timers, watched descriptors, work on the I/O pool.
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/sys.h"
#include "sentry/sched/test_scheduler.h"

namespace sentry::sched {
namespace {

struct Shot {
  Fiber* fiber = current();
  std::atomic<int> count{0};
  Nanos at = 0;
  static void fire(void* p) {
    auto* s = static_cast<Shot*>(p);
    EXPECT_EQ(current(), nullptr);
    s->at = now();
    s->count++;
    s->fiber->wake();
  }
};

TEST(Timer, FiresOnceAndInTime) {
  on_scheduler(1, [] {
    Shot s;
    Timer t(Shot::fire, &s);
    EXPECT_FALSE(t.armed());
    Nanos due = now() + 3 * kMs;
    t.arm(due);
    EXPECT_TRUE(t.armed());
    while (s.count == 0) park();
    EXPECT_GE(s.at, due);
    EXPECT_LT(s.at, due + 200 * kMs);
    EXPECT_FALSE(t.armed());
    park(now() + 2 * kMs);
    EXPECT_EQ(s.count.load(), 1);
  });
}

TEST(Timer, ArmReplacesAndCancelStops) {
  on_scheduler(1, [] {
    Shot s;
    Timer t(Shot::fire, &s);
    t.arm(now() + 3600'000 * kMs);
    t.arm(now() + kMs);
    while (s.count == 0) park();
    t.arm(now() + kMs);
    t.cancel();
    EXPECT_FALSE(t.armed());
    park(now() + 3 * kMs);
    EXPECT_EQ(s.count.load(), 1);
  });
}

TEST(Timer, ManyFireInOrder) {
  on_scheduler(1, [] {
    struct One {
      std::vector<int>* order;
      int index;
    };
    std::vector<int> order;
    std::vector<One> ones;
    std::vector<std::unique_ptr<Timer>> timers;
    constexpr int kTimers = 200;
    for (int i = 0; i < kTimers; i++) ones.push_back({&order, i});
    Nanos base = now() + 2 * kMs;
    for (int k = 0; k < kTimers; k++) {
      int i = (k * 77) % kTimers;  // 77 and 200 have no common divisor
      timers.push_back(std::make_unique<Timer>(
          [](void* p) {
            auto* o = static_cast<One*>(p);
            o->order->push_back(o->index);
          },
          &ones[static_cast<size_t>(i)]));
      timers.back()->arm(base + i * 1000);
    }
    timers[5]->cancel();
    timers[100]->cancel();
    park(base + 2 * kMs);
    ASSERT_EQ(order.size(), size_t{kTimers - 2});
    for (size_t i = 1; i < order.size(); i++) EXPECT_LT(order[i - 1], order[i]);
  });
}

TEST(Timer, CallbackMayRearmAndDestroy) {
  on_scheduler(1, [] {
    struct Self {
      std::unique_ptr<Timer> timer;
      Fiber* fiber = current();
      int count = 0;
      std::atomic<bool> gone{false};
    } s;
    s.timer = std::make_unique<Timer>(
        [](void* p) {
          auto* x = static_cast<Self*>(p);
          if (++x->count < 3) {
            x->timer->arm(now());
            return;
          }
          x->timer.reset();
          x->gone = true;
          x->fiber->wake();
        },
        &s);
    s.timer->arm(now());
    while (!s.gone) park();
    EXPECT_EQ(s.count, 3);
  });
}

// After cancel() the callback must not run: its argument is poisoned then.
TEST(Timer, CancelRaces) {
  on_scheduler(2, [] {
    std::atomic<int> bad{0}, fired{0};
    Group g;
    for (int i = 0; i < 4; i++)
      g.add([&, i] {
        struct Arg {
          std::atomic<bool> alive{true};
          std::atomic<int>* bad;
          std::atomic<int>* fired;
        };
        for (int k = 0; k < 400; k++) {
          Arg a;
          a.bad = &bad;
          a.fired = &fired;
          {
            Timer t(
                [](void* p) {
                  auto* x = static_cast<Arg*>(p);
                  if (!x->alive) ++*x->bad;
                  for (int spin = 0; spin < 200; spin++) __builtin_ia32_pause();
                  if (!x->alive) ++*x->bad;
                  ++*x->fired;
                },
                &a);
            t.arm(now() + (k * 13 + i * 7) % 40 * 1000);
            if (k % 2) yield();
            else park(now() + (k % 5) * 10'000);
            t.cancel();
            a.alive = false;
          }
          if (k % 7 == 0) yield();
        }
      });
    g.join();
    EXPECT_EQ(bad.load(), 0);
    EXPECT_GT(fired.load(), 0);
  });
}

struct Pipe {
  Fd r, w;
  Pipe() {
    int p[2];
    CHECK(pipe2(p, O_CLOEXEC | O_NONBLOCK) == 0);
    r = Fd(p[0]);
    w = Fd(p[1]);
  }
};

struct Watched {
  Fiber* fiber = current();
  std::atomic<uint32_t> events{0};
  std::atomic<int> calls{0};
  static void ready(void* p, uint32_t events) {
    auto* w = static_cast<Watched*>(p);
    EXPECT_EQ(current(), nullptr);
    w->events |= events;
    w->calls++;
    w->fiber->wake();
  }
};

TEST(FdWatch, TellsOfReadinessAndHangup) {
  on_scheduler(1, [] {
    Pipe p;
    Watched w;
    FdWatch watch(Watched::ready, &w);
    ASSERT_TRUE(watch.start(p.r.get(), EPOLLIN).ok());
    EXPECT_EQ(watch.start(p.r.get(), EPOLLIN).error(), kEBUSY);
    park(now() + 2 * kMs);
    EXPECT_EQ(w.calls.load(), 0);
    for (int i = 1; i <= 3; i++) {
      ASSERT_TRUE(sys::write(p.w.get(), "x", 1).ok());
      while (w.calls < i) park();
      EXPECT_TRUE(w.events & EPOLLIN);
    }
    p.w.reset();
    while (!(w.events & EPOLLHUP)) park();
    watch.stop();
    watch.stop();
  });
}

TEST(FdWatch, RegularFileIsEperm) {
  on_scheduler(1, [] {
    Watched w;
    FdWatch watch(Watched::ready, &w);
    auto fd = sys::open("/proc/self/exe", O_RDONLY);
    ASSERT_TRUE(fd.ok());
    auto r = watch.start(fd->get(), EPOLLIN);
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.error(), kEPERM);
  });
}

// Two watches become ready in one batch, and the first callback stops the second: that one must stay silent, also when a
// third takes over its place.
TEST(FdWatch, StaleEventsAreDropped) {
  on_scheduler(1, [] {
    struct Both {
      Pipe a, b, c;
      std::unique_ptr<FdWatch> wa, wb, wc;
      int calls = 0, wrong = 0;
      static void first(void* p, uint32_t) {
        auto* x = static_cast<Both*>(p);
        x->calls++;
        x->wa->stop();
        x->wb->stop();
        x->wc = std::make_unique<FdWatch>([](void* q, uint32_t) { static_cast<Both*>(q)->wrong++; }, x);
        EXPECT_TRUE(x->wc->start(x->c.r.get(), EPOLLIN).ok());
      }
    } x;
    x.wa = std::make_unique<FdWatch>(Both::first, &x);
    x.wb = std::make_unique<FdWatch>(Both::first, &x);
    ASSERT_TRUE(x.wa->start(x.a.r.get(), EPOLLIN).ok());
    ASSERT_TRUE(x.wb->start(x.b.r.get(), EPOLLIN).ok());
    ASSERT_TRUE(sys::write(x.a.w.get(), "x", 1).ok());
    ASSERT_TRUE(sys::write(x.b.w.get(), "x", 1).ok());
    park(now() + 3 * kMs);
    EXPECT_EQ(x.calls, 1);
    EXPECT_EQ(x.wrong, 0);
  });
}

TEST(FdWatch, StopRaces) {
  on_scheduler(2, [] {
    std::atomic<int> bad{0}, calls{0};
    Group g;
    for (int i = 0; i < 3; i++)
      g.add([&] {
        struct Arg {
          std::atomic<bool> alive{true};
          std::atomic<int>* bad;
          std::atomic<int>* calls;
        };
        for (int k = 0; k < 200; k++) {
          Pipe p;
          Arg a;
          a.bad = &bad;
          a.calls = &calls;
          FdWatch w(
              [](void* q, uint32_t) {
                auto* x = static_cast<Arg*>(q);
                for (int spin = 0; spin < 100; spin++) __builtin_ia32_pause();
                if (!x->alive) ++*x->bad;
                ++*x->calls;
              },
              &a);
          EXPECT_TRUE(w.start(p.r.get(), EPOLLIN).ok());
          EXPECT_TRUE(sys::write(p.w.get(), "x", 1).ok());
          if (k % 3) park(now() + k % 4 * 10'000);
          w.stop();
          a.alive = false;
        }
      });
    g.join();
    EXPECT_EQ(bad.load(), 0);
    EXPECT_GT(calls.load(), 0);
  });
}

TEST(RunBlocking, OthersRunMeanwhile) {
  on_scheduler(1, [] {
    std::atomic<bool> go{false}, done{false};
    Group g;
    g.add([&] {
      pthread_t here = pthread_self(), there = here;
      run_blocking([&] {
        there = pthread_self();
        EXPECT_EQ(current(), nullptr);
        while (!go) usleep(100);
      });
      EXPECT_FALSE(pthread_equal(here, there));
      done = true;
    });
    for (int i = 0; i < 10; i++) yield();
    EXPECT_FALSE(done);
    go = true;
    g.join();
    EXPECT_TRUE(done);
  });
}

TEST(RunBlocking, ManyAtOnceOnFewThreads) {
  on_scheduler(Options{.workers = 2, .io_threads = 3}, [] {
    std::atomic<int> running{0}, most{0}, done{0};
    Group g;
    for (int i = 0; i < 60; i++)
      g.add([&] {
        for (int k = 0; k < 5; k++)
          run_blocking([&] {
            int n = ++running;
            int m = most;
            while (m < n && !most.compare_exchange_weak(m, n)) {
            }
            usleep(100);
            running--;
            done++;
          });
      });
    g.join();
    EXPECT_EQ(done.load(), 300);
    EXPECT_LE(most.load(), 3);
    EXPECT_GT(most.load(), 1);
  });
}

// An interrupt ends no blocking work, and is not lost either.
TEST(RunBlocking, IsNotInterruptible) {
  on_scheduler(1, [] {
    std::atomic<bool> go{false};
    bool pending = false;
    Group g;
    Fiber& f = g.add([&] {
      run_blocking([&] {
        while (!go) usleep(100);
      });
      EXPECT_TRUE(go);
      pending = current()->interrupt_pending;
    });
    park(now() + kMs);
    f.interrupt();
    park(now() + kMs);
    EXPECT_FALSE(f.finished());
    go = true;
    g.join();
    EXPECT_TRUE(pending);
  });
}

}  // namespace
}  // namespace sentry::sched
