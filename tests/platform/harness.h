// SPDX-License-Identifier: Apache-2.0
// What the platform tests and its benchmark share: a scheduler, a platform with one zygote, and application threads
// whose calls are answered by the test itself.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "sentry/platform/platform.h"
#include "sentry/sched/sched.h"
#include "tests/platform/app.h"

namespace platform_test {

using namespace sentry;
using platform::Context;
using platform::EventKind;
using platform::MemoryCall;
using platform::MemoryOp;

inline constexpr uint64_t kCode = 0x10000000, kStack = 0x20000000, kStackSize = 0x100000, kData = 0x30000000,
                          kDataSize = 0x100000;
inline constexpr uint64_t kDone = 1000, kNull = 39;

// Runs the test process as init of a new PID namespace, so that no stub outlives it. Call first in main(); returns
// in the child, in the parent it exits.
void enter_pid_namespace();

// fn on a fiber of the running scheduler; returns when it has ended.
void on_fiber(const std::function<void()>& fn);

// One sentry without a kernel.
class World {
 public:
  struct Options {
    platform::Mode mode = platform::Mode::direct;
    bool may_spin = true;
    unsigned cpus = 2;
    std::vector<platform::CallDescriptor> descriptors = {};
    std::string cgroup = {};  // the zygote is moved there, and its threads file audited
    bool audit = true;
    unsigned workers = 1;
    bool filter = true;  // false: open_filter(), under which any instruction of the stub's text makes any call
    bool seal = true;
  };
  explicit World(const Options& options);
  ~World();
  platform::Platform& platform() { return *platform_; }
  platform::Zygote& zygote() { return **zygote_; }
  int zygote_pid() const { return zygote_pid_; }

 private:
  std::unique_ptr<sched::Scheduler> scheduler_;
  std::thread thread_;
  std::unique_ptr<platform::Platform> platform_;
  std::unique_ptr<Ref<platform::Zygote>> zygote_;
  int zygote_pid_ = 0;
};

// An application thread with the code image, a stack and some data mapped. All members on a fiber.
class Guest {
 public:
  // A fresh process.
  explicit Guest(World& w);
  // Another thread or process that came from clone or fork.
  Guest(World&, Ref<Context> c) : Guest(std::move(c)) {}
  // Another thread of the process, not yet running.
  Guest thread();
  Context& context() { return *context_; }
  Context* operator->() { return context_.get(); }

  // Sets the registers for a function of app.cc.
  void call(App f, std::initializer_list<uint64_t> args, uint64_t stack_top = kStack + kStackSize - 256);
  // What the application did next. Answers calls by `answer` (default: the first argument) until kDone, whose argument
  // is returned; any other event fails the test and returns INT64_MIN.
  using Answer = std::function<void(Context&, const platform::Call&)>;
  int64_t run(const Answer& answer = nullptr);
  int64_t call_and_run(App f, std::initializer_list<uint64_t> args) {
    call(f, args);
    return run();
  }
  uint64_t map(uint64_t at, uint64_t n, int prot = PROT_READ | PROT_WRITE);
  EventKind last = EventKind::syscall;

 private:
  explicit Guest(Ref<Context> c) : context_(std::move(c)) {}
  Ref<Context> context_;
};

// No wall: calls of the stub's text and of other architectures pass; what the platform answers notifies as ever.
std::vector<uint64_t> open_filter();

// Runs fn on a fiber of its own; join() waits for it, on the fiber that made the Task.
class Task {
 public:
  template <typename F>
  explicit Task(F fn) : state_(std::make_shared<State>(Ref<sched::Fiber>(*sched::current()))) {
    auto r = sched::spawn([s = state_, fn = std::move(fn)]() mutable {
      fn();
      s->done.store(true);
      s->maker->wake();
    });
    CHECK(r.ok());
  }
  void join() {
    while (!state_->done.load()) sched::park();
  }
  bool done() const { return state_->done.load(); }

 private:
  struct State {
    explicit State(Ref<sched::Fiber> f) : maker(std::move(f)) {}
    std::atomic<bool> done{false};
    Ref<sched::Fiber> maker;
  };
  std::shared_ptr<State> state_;
};

void sleep_ns(sched::Nanos n);
// Looks every millisecond; false when it does not come to hold in half a minute.
bool eventually(const std::function<bool()>& holds);
// The 64-bit word at addr of the application comes to be more than n.
bool reaches(Guest& g, uint64_t addr, uint64_t n);

// An anonymous file with this content (a memfd of our own), open for reading only or also for writing.
base::Fd file_of(const std::string& content, bool writable = false);
int code_file();
// The offset of a function in the code image.
uint64_t address_of(App f);
// Address of a symbol of the stub's blob; 0 when there is none.
uint64_t stub_symbol(const char* name);
// All of those whose names start so.
std::vector<uint64_t> stub_symbols(const char* prefix);
// "from-to perms" lines of /proc/PID/maps, addresses from `from` on.
std::string maps_of(int pid, uint64_t from = 0);

}  // namespace platform_test
