// SPDX-License-Identifier: Apache-2.0
// Threads for host calls that may block. They start when there is work, and end after a while without.
#pragma once

#include <pthread.h>

#include <atomic>
#include <vector>

#include "sentry/base.h"

namespace sentry::sched {

class Fiber;

class IoPool {
 public:
  // Lives on the stack of the fiber that waits for it.
  struct Job {
    void (*fn)(void*);
    void* arg;
    Fiber* fiber;
    std::atomic<bool> done{false};
    Job* next = nullptr;
  };

  explicit IoPool(unsigned max_threads) : mu_(LockRank::kIo), max_threads_(max_threads ? max_threads : 1) {}
  ~IoPool() { close(); }
  void close() EXCLUDES(mu_);  // waits for jobs that run
  IoPool(const IoPool&) = delete;
  IoPool& operator=(const IoPool&) = delete;

  // False: no thread can be had, and there is none; the caller does the work itself.
  bool submit(Job& job) EXCLUDES(mu_);
  unsigned threads() const EXCLUDES(mu_);

 private:
  struct Thread {
    IoPool* pool;
    pthread_t id{};
    bool used = false;
    bool exited = false;
  };
  static void* thread_main(void* thread);
  void serve(Thread& t) EXCLUDES(mu_);
  bool start_locked() REQUIRES(mu_);

  mutable Mutex mu_;
  Job* head_ GUARDED_BY(mu_) = nullptr;
  Job* tail_ GUARDED_BY(mu_) = nullptr;
  unsigned queued_ GUARDED_BY(mu_) = 0;
  unsigned idle_ GUARDED_BY(mu_) = 0;
  unsigned live_ GUARDED_BY(mu_) = 0;
  bool closing_ GUARDED_BY(mu_) = false;
  std::vector<Thread> slots_ GUARDED_BY(mu_);
  unsigned max_threads_;
  std::atomic<uint32_t> bell_{0};
};

}  // namespace sentry::sched
