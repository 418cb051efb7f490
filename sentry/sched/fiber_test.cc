// SPDX-License-Identifier: Apache-2.0
// Fibers: switching, parking, waking, many of them, stuck workers, idleness.
#include <fenv.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <cstring>
#include <mutex>
#include <set>

#include "sentry/sched/context.h"
#include "sentry/sched/test_scheduler.h"

namespace sentry::sched {
namespace {

TEST(Fiber, RunsAndFinishes) {
  int ran = 0;
  on_scheduler(1, [&] {
    EXPECT_NE(current(), nullptr);
    Group g;
    Fiber& f = g.add([&] { ran++; });
    EXPECT_FALSE(f.finished());
    yield();
    yield();
    EXPECT_TRUE(f.finished());
    f.wake();  // of a finished one: nothing happens
  });
  EXPECT_EQ(ran, 1);
  EXPECT_EQ(current(), nullptr);
}

TEST(Fiber, SecondSchedulerIsEbusy) {
  auto a = Scheduler::create({});
  ASSERT_TRUE(a.ok());
  auto b = Scheduler::create({});
  ASSERT_FALSE(b.ok());
  EXPECT_EQ(b.error(), kEBUSY);
}

void ping_pong(unsigned workers, int rounds) {
  on_scheduler(workers, [&] {
    std::atomic<int> turn{0};
    Fiber* fibers[2] = {};
    std::atomic<int> ready{0};
    Group g;
    for (int me : {0, 1}) {
      g.add([&, me] {
        fibers[me] = current();
        ready++;
        while (ready < 2) yield();
        for (int i = 0; i < rounds; i++) {
          while (turn.load() != me) park();
          turn.store(1 - me);
          fibers[1 - me]->wake();
        }
      });
    }
    g.join();
    EXPECT_EQ(turn.load(), 0);
  });
}
TEST(Fiber, PingPongOneWorker) { ping_pong(1, 20000); }
TEST(Fiber, PingPongTwoWorkers) { ping_pong(2, 20000); }

TEST(Fiber, WakeBeforeParkIsNotLost) {
  on_scheduler(1, [] {
    current()->wake();
    EXPECT_EQ(park(), Parked::woken);
    // And only once.
    EXPECT_EQ(park(now() + kMs), Parked::timed_out);
  });
}

TEST(Fiber, YieldKeepsAPendingWake) {
  on_scheduler(2, [] {
    current()->wake();
    yield();
    EXPECT_EQ(park(), Parked::woken);
  });
}

TEST(Fiber, ParkTimesOut) {
  on_scheduler(1, [] {
    Nanos t = now();
    EXPECT_EQ(park(t + 5 * kMs), Parked::timed_out);
    EXPECT_GE(now(), t + 5 * kMs);
    EXPECT_LT(now(), t + 500 * kMs);
    EXPECT_EQ(park(t), Parked::timed_out);  // already past
  });
}

// Two fibers hand a counter to and fro while threads outside wake them at random: every increment must be seen.
TEST(Fiber, LostWakeUpTorture) {
  constexpr int kRounds = 30000;
  on_scheduler(2, [&] {
    struct Box {
      std::atomic<int> value{0};
      std::atomic<bool> full{false};
    };
    constexpr int kPairs = 4;
    std::vector<Box> boxes(kPairs);
    std::vector<Ref<Fiber>> readers, writers;
    std::atomic<bool> go{false}, done{false};
    std::atomic<long> sum{0};
    for (int p = 0; p < kPairs; p++) {
      readers.push_back(spawn([&, p] {
        while (!go) yield();
        for (int i = 0; i < kRounds / kPairs; i++) {
          while (!boxes[p].full.load()) park();
          sum += boxes[p].value.load();
          boxes[p].full.store(false);
          writers[p]->wake();
        }
      }).value());
      writers.push_back(spawn([&, p] {
        while (!go) yield();
        for (int i = 0; i < kRounds / kPairs; i++) {
          while (boxes[p].full.load()) park();
          boxes[p].value.store(i);
          boxes[p].full.store(true);
          readers[p]->wake();
        }
      }).value());
    }
    go = true;
    pthread_t noise;
    struct Noise {
      std::vector<Ref<Fiber>>* a;
      std::atomic<bool>* done;
    } n{&readers, &done};
    pthread_create(
        &noise, nullptr,
        [](void* p) -> void* {
          auto* x = static_cast<Noise*>(p);
          unsigned i = 0;
          while (!x->done->load()) {
            (*x->a)[i++ % x->a->size()]->wake();
            usleep(50);
          }
          return nullptr;
        },
        &n);
    for (auto& f : readers)
      while (!f->finished()) park(now() + kMs);
    for (auto& f : writers)
      while (!f->finished()) park(now() + kMs);
    done = true;
    pthread_join(noise, nullptr);
    long k = kRounds / kPairs;
    EXPECT_EQ(sum.load(), kPairs * (k * (k - 1) / 2));
  });
}

// One wake per park from outside; without a lost one it ends.
TEST(Fiber, WakeFromAnotherThread) {
  for (unsigned workers : {1u, 2u}) {
    on_scheduler(workers, [&] {
      constexpr int kRounds = 3000;
      struct Shared {
        Fiber* fiber;
        std::atomic<int> asked{0}, answered{0};
      } s{.fiber = current()};
      pthread_t t;
      pthread_create(
          &t, nullptr,
          [](void* p) -> void* {
            auto* x = static_cast<Shared*>(p);
            for (int i = 1; i <= kRounds; i++) {
              while (x->asked.load() < i) sched_yield();
              if (i % 16 == 0) usleep(20);
              x->answered.store(i);
              x->fiber->wake();
            }
            return nullptr;
          },
          &s);
      for (int i = 1; i <= kRounds; i++) {
        s.asked.store(i);
        while (s.answered.load() < i) park();
      }
      pthread_join(t, nullptr);
    });
  }
}

TEST(Fiber, TenThousand) {
  constexpr int kFibers = 10000;
  std::atomic<int> count{0};
  on_scheduler(2, [&] {
    std::vector<Ref<Fiber>> all;
    std::atomic<bool> go{false};
    for (int i = 0; i < kFibers; i++)
      all.push_back(spawn([&] {
        while (!go.load()) park();
        count++;
      }).value());
    yield();
    EXPECT_EQ(count.load(), 0);
    go = true;
    for (auto& f : all) f->wake();
    for (auto& f : all)
      while (!f->finished()) park(now() + kMs);
    // And again, on recycled stacks.
    Group g;
    for (int i = 0; i < 100; i++) g.add([&] { count++; });
  });
  EXPECT_EQ(count.load(), kFibers + 100);
}

TEST(Fiber, DeepStackIsUsable) {
  on_scheduler(1, [] {
    Group g;
    g.add([] {
      volatile char deep[48 * 1024];
      memset(const_cast<char*>(deep), 7, sizeof deep);
      yield();
      EXPECT_EQ(deep[0], 7);
      EXPECT_EQ(deep[sizeof deep - 1], 7);
    });
  });
}

TEST(FiberDeathTest, StackOverflowHitsTheGuard) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(on_scheduler(1,
                            [] {
                              auto* here = static_cast<volatile char*>(__builtin_frame_address(0));
                              for (size_t i = 0; i < (size_t{1} << 20); i += 512) here[-static_cast<long>(i)] = 1;
                            }),
               "");
}

TEST(Fiber, FloatingPointModesArePerFiber) {
  on_scheduler(1, [] {
    Group g;
    std::atomic<int> at{0};
    g.add([&] {
      EXPECT_EQ(fegetround(), FE_TONEAREST);
      fesetround(FE_UPWARD);
      at = 1;
      while (at < 2) yield();
      EXPECT_EQ(fegetround(), FE_UPWARD);
      fesetround(FE_TONEAREST);
    });
    g.add([&] {
      while (at < 1) yield();
      EXPECT_EQ(fegetround(), FE_TONEAREST);
      EXPECT_EQ(_mm_getcsr() & _MM_ROUND_MASK, _MM_ROUND_NEAREST);
      at = 2;
    });
    g.join();
  });
}

TEST(Fiber, InterruptWakesAndSetsTheFlag) {
  on_scheduler(1, [] {
    Group g;
    Fiber& f = g.add([] {
      while (!current()->interrupt_pending.load()) park();
    });
    yield();
    EXPECT_FALSE(f.finished());
    f.interrupt();
    g.join();
  });
}

// A fiber that never lets go of the only worker must not stop the others for ever.
TEST(Monitor, ReplacesAStuckWorker) {
  on_scheduler(1, [] {
    std::atomic<bool> other_ran{false};
    std::atomic<bool> saw{false};
    Group g;
    Fiber& sleeper = g.add([&] {
      park();
      other_ran = true;
    });
    yield();
    g.add([&] {
      sleeper.wake();  // into the slot of the worker that is about to be stuck
      Nanos end = now() + 5'000 * kMs;
      while (now() < end && !other_ran) usleep(100);
      saw = other_ran.load();
    });
    g.join();
    EXPECT_TRUE(saw);
    // Afterwards there is still one active worker, and things go on.
    for (int i = 0; i < 1000; i++) yield();
  });
}

// Stubs that were told not to knock while one worker was stuck: whoever sleeps last looks at them, or nobody ever does.
TEST(Monitor, ABackComerDoesNotLeaveStubsUnattended) {
  struct Stubs : Poller {
    bool poll() override { return false; }
    bool prepare_sleep() override {
      attended = false;
      return true;
    }
    bool attends() const override { return attended.load(); }
    bool worth_spinning(Nanos) override { return false; }
    std::atomic<bool> attended{false};
  } stubs;
  on_scheduler(Options{.workers = 1}, [&] {
    for (int i = 0; i < 10; i++) {
      std::atomic<bool> set{false}, done{false};
      Fiber* self = current();
      // No fiber looks, and no timer: whoever runs for one looks at the stubs as well.
      std::thread outside([&] {
        while (!set) usleep(200);
        const Nanos end = now() + 30'000 * kMs;
        while (stubs.attended && now() < end) usleep(200);
        done = true;
        self->wake();
      });
      auto stuck = spawn([&] {
        usleep(30'000);  // another worker takes the place of this one, finds nothing and sleeps in epoll
        stubs.attended = true;
        set = true;
      });
      while (!done) park();
      outside.join();
      ASSERT_FALSE(stubs.attended) << "round " << i;
    }
  }, &stubs);
}

TEST(Monitor, ManyTimesStuck) {
  on_scheduler(2, [] {
    std::atomic<int> ran{0};
    Group g;
    for (int i = 0; i < 12; i++) {
      g.add([&] {
        usleep(6000);
        ran++;
      });
      g.add([&] {
        for (int k = 0; k < 20; k++) {
          park(now() + kMs / 2);
          yield();
        }
        ran++;
      });
    }
    g.join();
    EXPECT_EQ(ran.load(), 24);
  });
}

// A worker that comes back from where it was stuck finds its place taken, and may be one too many: it must not leave with a fiber
// that has just come into its slot.
TEST(Monitor, WhoeverLeavesLosesNoFiber) {
  constexpr int kChains = 12, kRounds = 30;
  Options o{.workers = 3};
  o.surplus_life = 3 * kMs / 2;
  on_scheduler(o, [] {
    std::atomic<bool> over{false};
    std::array<std::atomic<unsigned>, kChains> steps{};
    Group g;
    for (auto& mine : steps)
      g.add([&] {
        while (!over) {
          mine++;
          park((now() / (kMs / 5) + 1) * (kMs / 5));  // all wake up at once; in between everybody sleeps
        }
      });
    for (int i = 0; i < kRounds && !over; i++) {
      {
        Group stuck;  // several workers at once, time and again
        for (int n = 0; n < 4; n++)
          stuck.add([n] {
            for (int k = 0; k < 4; k++) {
              usleep(3000 + 700 * static_cast<unsigned>(n));  // the host's
              park(now() + kMs / 2);
            }
          });
      }
      std::array<unsigned, kChains> before;
      for (size_t k = 0; k < kChains; k++) before[k] = steps[k];
      const Nanos end = now() + 20'000 * kMs;
      for (size_t k = 0; k < kChains && !over; k++) {
        while (steps[k] < before[k] + 3 && now() < end) park(now() + kMs);
        EXPECT_GE(steps[k], before[k] + 3) << "fiber " << k << " is lost in round " << i;
        if (now() >= end) over = true;
      }
    }
    over = true;
  });
}

Nanos cpu_time() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}

TEST(Worker, IdleUsesNoCpu) {
  struct Quiet : Poller {
    bool poll() override { return false; }
    bool prepare_sleep() override { return true; }
    bool attends() const override { return false; }
    bool worth_spinning(Nanos idle_for) override { return idle_for < 50'000; }
  } quiet;
  Nanos used = 0;
  on_scheduler(
      Options{.workers = 2},
      [&] {
        park(now() + 20 * kMs);  // let everything settle
        Nanos before = cpu_time();
        park(now() + 300 * kMs);
        used = cpu_time() - before;
      },
      &quiet);
  EXPECT_LT(used, 10 * kMs);
}

// A poller whose requests come from another thread, with the knock protocol of stubs.
struct FakeStub : Poller {
  std::atomic<int> requests{0};
  std::atomic<bool> asleep{false};
  int seen = 0, sleeps = 0;
  Fiber* handler = nullptr;
  bool spin = true;
  bool poll() override {
    asleep.store(false);
    int r = requests.load();
    if (r == seen) return false;
    seen = r;
    handler->wake();
    return true;
  }
  bool prepare_sleep() override {
    asleep.store(true);
    if (requests.load() == seen) {
      sleeps++;
      return true;
    }
    asleep.store(false);
    return false;
  }
  bool attends() const override { return !asleep.load(); }
  bool worth_spinning(Nanos idle_for) override { return spin && idle_for < 20'000; }
};

void poll_requests(bool spin, unsigned workers) {
  FakeStub stub;
  stub.spin = spin;
  constexpr int kRequests = 2000;
  std::atomic<int> answered{0};
  Fiber* bell = nullptr;
  on_scheduler(
      Options{.workers = workers},
      [&] {
        bell = stub.handler = current();
        struct Args {
          FakeStub* stub;
          std::atomic<int>* answered;
          Fiber* knock;
        } args{&stub, &answered, current()};
        pthread_t t;
        pthread_create(
            &t, nullptr,
            [](void* p) -> void* {
              auto* a = static_cast<Args*>(p);
              for (int i = 1; i <= kRequests; i++) {
                a->stub->requests.store(i);
                if (a->stub->asleep.load()) a->knock->wake();
                while (a->answered->load() < i) sched_yield();
                if (i % 64 == 0) usleep(100);
              }
              return nullptr;
            },
            &args);
        for (int i = 1; i <= kRequests; i++) {
          while (stub.requests.load() < i) park();
          answered.store(i);
        }
        pthread_join(t, nullptr);
      },
      &stub);
  EXPECT_EQ(answered.load(), kRequests);
  if (!spin) {
    EXPECT_GT(stub.sleeps, 0);
  }
}
TEST(Worker, PollsSpinningOneWorker) { poll_requests(true, 1); }
TEST(Worker, PollsSleepingOneWorker) { poll_requests(false, 1); }
TEST(Worker, PollsSpinningTwoWorkers) { poll_requests(true, 2); }

// A place to sleep whose callers write a byte.
struct PipeSeat : Seat {
  int fds[2];
  std::atomic<int> calls{0}, sits{0};
  std::atomic<bool> closed{false};
  Fiber* handler = nullptr;
  PipeSeat() { CHECK(pipe(fds) == 0); }
  ~PipeSeat() override {
    close(fds[0]);
    close(fds[1]);
  }
  bool sit() override {
    sits++;
    if (closed.load() && !called()) return false;
    char c;
    ssize_t n = read(fds[0], &c, 1);
    if (n == 1) {
      calls++;
      handler->wake();
    }
    return !closed.load();
  }
  bool called() {
    pollfd p{fds[0], POLLIN, 0};
    return ::poll(&p, 1, 0) == 1;
  }
};

TEST(Seat, IsAWorkerThatSleepsElsewhere) {
  Ref<PipeSeat> seat = make_ref<PipeSeat>();
  on_scheduler(Options{.workers = 1}, [&] {
    seat->handler = current();
    ASSERT_TRUE(Scheduler::get().start_seat(seat).ok());
    for (int i = 1; i <= 200; i++) {
      ASSERT_EQ(write(seat->fds[1], "x", 1), 1);
      while (seat->calls.load() < i) park();
    }
    Scheduler::get().stop_seat(*seat);
    Nanos deadline = now() + 10'000 * kMs;
    while (seat->ref_count() > 1 && now() < deadline) park(now() + kMs);
    EXPECT_EQ(seat->ref_count(), 1u);  // its worker has left
  });
  EXPECT_EQ(seat->calls.load(), 200);
}

TEST(Seat, LeavesWhenItCloses) {
  Ref<PipeSeat> seat = make_ref<PipeSeat>();
  on_scheduler(Options{.workers = 1}, [&] {
    seat->handler = current();
    for (int i = 1; i <= 20; i++) {  // its place is used again
      seat->closed = false;
      ASSERT_TRUE(Scheduler::get().start_seat(seat).ok());
      seat->closed = true;
      ASSERT_EQ(write(seat->fds[1], "x", 1), 1);
      while (seat->ref_count() > 1) park(now() + kMs / 10);
    }
  });
}

TEST(Seat, StopsWithTheScheduler) {
  for (int i = 0; i < 20; i++) {
    Ref<PipeSeat> seat = make_ref<PipeSeat>();
    on_scheduler(Options{.workers = 1}, [&] {
      seat->handler = current();
      ASSERT_TRUE(Scheduler::get().start_seat(seat).ok());
    });
    EXPECT_EQ(seat->ref_count(), 1u);
  }
}

// Work that the seat's worker leaves behind is not forgotten while it sits.
TEST(Seat, SharesWorkWithTheOthers) {
  Ref<PipeSeat> seat = make_ref<PipeSeat>();
  std::atomic<int> done{0};
  on_scheduler(Options{.workers = 1}, [&] {
    seat->handler = current();
    ASSERT_TRUE(Scheduler::get().start_seat(seat).ok());
    for (int i = 1; i <= 200; i++) {
      ASSERT_EQ(write(seat->fds[1], "x", 1), 1);
      while (seat->calls.load() < i) park();
      Group g;
      for (int k = 0; k < 5; k++) g.add([&, k] {
        if (k % 2) park(now() + kMs / 20);
        done++;
      });
      g.join();
    }
    Scheduler::get().stop_seat(*seat);
  });
  EXPECT_EQ(done.load(), 1000);
}

// A stub with both ways to its worker: it posts, and knocks at a seat unless somebody has said that he looks.
struct SpunStub : Poller {
  std::mutex mu;
  int posted = 0, taken = 0;
  bool attended = false;
  std::atomic<uint64_t> polls_from_seat{0}, polls_from_elsewhere{0};
  std::atomic<bool> spin{true};
  Fiber* handler = nullptr;
  pthread_t seat_thread{};
  int bell = -1;

  void post() {
    bool knock;
    {
      std::lock_guard l(mu);
      posted++;
      knock = !attended;
    }
    if (knock) {
      CHECK(write(bell, "x", 1) == 1);
    }
  }
  bool take_locked() {
    if (posted == taken) return false;
    taken = posted;
    handler->wake();
    return true;
  }
  bool poll() override {
    std::lock_guard l(mu);
    (pthread_equal(pthread_self(), seat_thread) ? polls_from_seat : polls_from_elsewhere)++;
    return take_locked();
  }
  bool prepare_sleep() override {
    std::lock_guard l(mu);
    attended = false;
    return !take_locked();
  }
  bool attends() const override {
    auto& self = const_cast<SpunStub&>(*this);
    std::lock_guard l(self.mu);
    return attended;
  }
  bool worth_spinning(Nanos idle_for) override { return spin.load() && idle_for < 20 * kMs; }
  bool spinner_wanted() override { return spin.load(); }
};

struct KnockSeat : Seat {
  SpunStub& stub;
  int fds[2];
  explicit KnockSeat(SpunStub& s) : stub(s) {
    CHECK(pipe(fds) == 0);
    s.bell = fds[1];
  }
  ~KnockSeat() override {
    close(fds[0]);
    close(fds[1]);
  }
  bool sit() override {
    {
      std::lock_guard l(stub.mu);
      stub.seat_thread = pthread_self();
    }
    char c;
    if (read(fds[0], &c, 1) != 1) return true;
    std::lock_guard l(stub.mu);
    stub.attended = true;
    stub.take_locked();
    return true;
  }
};

// Requests that come fast bring a second worker, which spins for them; the one in the seat looks no more than it must. Nothing is lost
// when the spinner begins, stops and begins again.
TEST(Seat, AnotherWorkerSpins) {
  SpunStub stub;
  Ref<KnockSeat> seat = make_ref<KnockSeat>(stub);
  constexpr int kRequests = 3000;
  std::atomic<int> answered{0};
  on_scheduler(
      Options{.workers = 1},
      [&] {
        stub.handler = current();
        ASSERT_TRUE(Scheduler::get().start_seat(seat).ok());
        struct Args {
          SpunStub* stub;
          std::atomic<int>* answered;
        } args{&stub, &answered};
        pthread_t t;
        pthread_create(
            &t, nullptr,
            [](void* p) -> void* {
              auto* a = static_cast<Args*>(p);
              for (int i = 1; i <= kRequests; i++) {
                if (i % 500 == 0) {
                  a->stub->spin = i % 1000 != 0;
                  usleep(30000);  // longer than anybody spins
                }
                a->stub->post();
                while (a->answered->load() < i) sched_yield();
              }
              return nullptr;
            },
            &args);
        for (int i = 1; i <= kRequests; i++) {
          for (;;) {
            {
              std::lock_guard l(stub.mu);
              if (stub.taken >= i) break;
            }
            park();
          }
          answered.store(i);
        }
        pthread_join(t, nullptr);
        Scheduler::get().stop_seat(*seat);
      },
      &stub);
  EXPECT_EQ(answered.load(), kRequests);
  // Had it spun, it would have looked many thousand times between two requests.
  EXPECT_LT(stub.polls_from_seat.load(), 20u * kRequests);
  EXPECT_GT(stub.polls_from_elsewhere.load(), stub.polls_from_seat.load());
}

#if !defined(SCHED_ASAN) && !defined(SCHED_TSAN)
struct Bare {
  void* here = nullptr;
  void* there = nullptr;
};

TEST(Switch, GoesToAndFro) {
  alignas(16) static char stack[16 * 1024];
  static Bare b;
  static int rounds;
  rounds = 0;
  b.there = prepare_stack(
      stack, sizeof stack,
      [](void* p) {
        auto* x = static_cast<Bare*>(p);
        for (;;) {
          rounds++;
          sched_switch(&x->there, x->here);
        }
      },
      &b);
  constexpr int kRounds = 1'000'000;
  Nanos t = now();
  for (int i = 0; i < kRounds; i++) sched_switch(&b.here, b.there);
  t = now() - t;
  EXPECT_EQ(rounds, kRounds);
  if (getenv("SCHED_BENCH")) printf("bare switch %.1f ns\n", double(t) / kRounds / 2);
}
#endif

// Not a test of right or wrong: SCHED_BENCH=1 prints what switching costs.
TEST(Bench, Switching) {
  if (!getenv("SCHED_BENCH")) GTEST_SKIP() << "set SCHED_BENCH to measure";
  for (unsigned workers : {1u, 2u}) {
    on_scheduler(workers, [&] {
      constexpr int kRounds = 1'000'000;
      Nanos t = now();
      for (int i = 0; i < kRounds; i++) {
        current()->wake();
        park();
      }
      Nanos self = now() - t;
      t = now();
      for (int i = 0; i < kRounds; i++) yield();
      Nanos yields = now() - t;
      std::atomic<bool> stop{false};
      Fiber* main = current();
      Group g;
      Fiber& other = g.add([&] {
        while (!stop.load(std::memory_order_relaxed)) {
          main->wake();
          park();
        }
      });
      t = now();
      for (int i = 0; i < kRounds; i++) {
        other.wake();
        park();
      }
      Nanos pair = now() - t;
      stop = true;
      other.wake();
      g.join();
      t = now();
      for (int i = 0; i < 100'000; i++) {
        auto f = spawn([] {});
        yield();
      }
      Nanos births = now() - t;
      printf("workers %u: wake self + park %.1f ns, yield %.1f ns, wake + park round trip of two %.1f ns, spawn %.1f ns\n",
             workers, double(self) / kRounds, double(yields) / kRounds, double(pair) / kRounds,
             double(births) / 100'000);
    });
  }
}

}  // namespace
}  // namespace sentry::sched
