// SPDX-License-Identifier: Apache-2.0
// What the platform remembers of processes, births, ends and calls on their way. Only sentry/platform includes this.
#pragma once

#include <atomic>

#include "base/fd.h"
#include "base/ref.h"
#include "sentry/platform/control.h"
#include "sentry/platform/platform.h"
#include "sentry/sched/wait.h"

namespace sentry::platform {

// A host process of ours, until its death has been seen and it has been reaped.
struct Process {
  Process(Platform::Impl& p, int host_pid, Fd fd, Space* s);
  Platform::Impl& platform;
  int pid;
  Fd pidfd;
  Space* space;       // null once that is gone; guarded by Platform::Impl::mu
  Control control;    // of its space, once that is gone: to be used again when the process is known to be dead
  bool dead = false;  // waits to be reaped
  sched::FdWatch watch;
};

// One call that a thread may make once.
struct Grant {
  uint64_t number;
  uint64_t args[6];
};
// A descriptor that a thread gets when it knocks with the token.
struct FdGrant {
  uint64_t token;
  int number;
  Fd fd;
  uint64_t key;
};
// A thread or process that is being made: whoever knocks with the token is it.
struct Birth : RefCounted<Birth> {
  enum Kind : uint8_t { zygote, process, thread };
  enum State : uint8_t { waiting, born, refused };
  Birth(Kind k, Ref<Context> c, Ref<Space> p) : kind(k), child(std::move(c)), parent(std::move(p)), since(sched::now()) {}
  const Kind kind;
  const Ref<Context> child;
  const Ref<Space> parent;  // whose thread makes it
  const sched::Nanos since;
  std::atomic<State> state{waiting};
  uint64_t token = 0;       // in the table; the last one if there were several tries
  uint64_t flags = 0, stack = 0;
  int tries = 0;
  // Its maker is the only thread of its process and hands the control memory on: the host then wakes nobody on another processor.
  bool carried = false;
  bool cloned = false;              // the host was allowed to make it; guarded by mu
  RefOrNull<sched::Fiber> waiter;   // guarded by mu
};

// A thread told to leave whose host thread is still there.
struct Leaving {
  Ref<Space> space;
  int tid;
  unsigned slot;
  sched::Nanos since;
  uint64_t cpu;
};

// A thread that has ended and waits, in its slot, to be used for another one of its process.
struct Resting {
  Space* space;
  int tid;
  unsigned slot, clock;  // `clock`: which operation of its last list tells its CPU time
  sched::Nanos since;
  uint64_t cpu;
};

// One knock that has not been answered: its thread sleeps in it until its call is answered. That wakes it on the processor of the
// worker, where the host's futex would wake it on its last one. Only a few may wait so: the host looks through all of them.
struct PendingKnock {
  int listener;
  uint64_t id;
  const Context* context;  // never looked into
};
inline constexpr size_t kMaxPendingKnocks = 8;

}  // namespace sentry::platform
