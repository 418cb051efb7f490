// SPDX-License-Identifier: Apache-2.0
// Signals as data: numbers, sets, actions, pending queues. Delivery is in signal_delivery.cc. Linux: kernel/signal.c.
#pragma once

#include <signal.h>

#include <cstdint>
#include <cstring>
#include <list>
#include <map>
#include <vector>

#include "sentry/base.h"

namespace sentry::kernel {

inline constexpr int kSignals = 64;
using SignalSet = uint64_t;  // bit n-1 is signal n
constexpr SignalSet signal_bit(int s) { return 1ull << (s - 1); }
inline constexpr SignalSet kUnblockable = signal_bit(SIGKILL) | signal_bit(SIGSTOP);

// siginfo_t of the kernel's ABI: 128 bytes.
struct SignalInfo {
  siginfo_t si;
  SignalInfo() { memset(&si, 0, sizeof si); }
  static SignalInfo kernel(int signo, int code = SI_KERNEL) {
    SignalInfo i;
    i.si.si_signo = signo;
    i.si.si_code = code;
    return i;
  }
  static SignalInfo user(int signo, int code, int pid, uint32_t uid) {
    SignalInfo i = kernel(signo, code);
    i.si.si_pid = pid;
    i.si.si_uid = uid;
    return i;
  }
};
static_assert(sizeof(siginfo_t) == 128);

// struct kernel_sigaction.
struct SignalAction {
  uint64_t handler = 0;  // SIG_DFL, SIG_IGN or an address
  uint64_t flags = 0;    // SA_*
  uint64_t restorer = 0;
  SignalSet mask = 0;
};
static_assert(sizeof(SignalAction) == 32);

// How many signals wait for the processes of each user (RLIMIT_SIGPENDING). Linux: UCOUNT_RLIMIT_SIGPENDING. Held by: its container,
// queues with a signal in them.
class QueuedSignals : public RefCounted<QueuedSignals> {
 public:
  uint64_t of(uint32_t uid) const;
  void add(uint32_t uid);
  void forget(uint32_t uid);

 private:
  friend class RefCounted<QueuedSignals>;
  ~QueuedSignals() = default;
  Guarded<std::map<uint32_t, uint64_t>> counts_{LockRank::kFutex};
};

// Signals sent and not yet taken: standard ones once, real-time ones queued. Not locked: its owner's lock guards it.
class PendingSignals {
 public:
  PendingSignals() = default;
  PendingSignals(const PendingSignals&) = delete;
  PendingSignals& operator=(const PendingSignals&) = delete;
  ~PendingSignals() { remove(~SignalSet{0}); }
  SignalSet set() const { return set_; }
  // False: a standard signal that was already pending (dropped, as Linux does). It counts for the user uid until it is taken.
  bool add(const SignalInfo& info, RefOrNull<QueuedSignals> counts = nullptr, uint32_t uid = 0);
  // Takes the next signal of `wanted`: synchronous faults first, then lowest number first.
  bool take(SignalSet wanted, SignalInfo* out);
  void remove(SignalSet which);
  size_t queued() const { return queue_.size(); }
  std::vector<SignalInfo> all() const;  // in order of arrival

 private:
  struct Entry {
    SignalInfo info;
    RefOrNull<QueuedSignals> counts;
    uint32_t uid;
    Entry(const SignalInfo& i, RefOrNull<QueuedSignals> c, uint32_t u) : info(i), counts(std::move(c)), uid(u) {
      if (counts) counts->add(uid);
    }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;
    ~Entry() {
      if (counts) counts->forget(uid);
    }
  };
  SignalSet set_ = 0;
  std::list<Entry> queue_;
};

enum class DefaultAction : uint8_t { terminate, core, ignore, stop, resume };
DefaultAction default_action(int signo);

}  // namespace sentry::kernel
