// SPDX-License-Identifier: Apache-2.0
// futex(2): which domain a word belongs to, and what each operation does in it. Requeueing on the host is waking: woken threads
// look at their word again, as every waiter must.
#include "sentry/kernel/futex.h"

#include <linux/futex.h>

#include <deque>

#include "sentry/kernel/futex_pi.h"
#include "sentry/kernel/futex_table.h"
#include "sentry/mm/user.h"

namespace sentry::kernel {
namespace {

constexpr sched::Nanos kSecond = 1'000'000'000;
constexpr int kAll = INT32_MAX;
constexpr int kLockPi2 = 13;  // FUTEX_LOCK_PI2

FutexTable& table(Task& t) { return *t.kernel().impl().futexes; }

sched::Nanos realtime_offset() {
  timespec r;
  clock_gettime(CLOCK_REALTIME, &r);
  return r.tv_sec * kSecond + r.tv_nsec - sched::now();
}

struct Timeout {
  bool given = false;
  sched::Nanos deadline = sched::kNever;
};

// Absolute for everything but FUTEX_WAIT.
Result<Timeout> read_timeout(Task& t, uint64_t addr, bool relative, bool realtime) {
  if (addr == 0) return Timeout{};
  timespec ts = TRY(mm::UserIn<timespec>(addr).copy_in(t.context()));
  if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec >= kSecond) return kEINVAL;
  Timeout r{true, sched::kNever};
  if (ts.tv_sec > INT64_MAX / kSecond / 4) return r;
  r.deadline = ts.tv_sec * kSecond + ts.tv_nsec;
  if (relative) r.deadline += sched::now();
  else if (realtime) r.deadline -= realtime_offset();
  return r;
}

Result<long> wait_shared(Task& t, const mm::FutexKey& key, uint64_t addr, uint32_t expected, uint32_t bitset,
                         const Timeout& timeout) {
  if (bitset == 0) return kEINVAL;
  FutexWaiter w(key, bitset, sched::current());
  FutexTable& futexes = table(t);
  futexes.enqueue(w);
  // Queued first, read then: a wake after the waker's store is never missed.
  Result<uint32_t> now = t.context().load32(addr);
  if (!now.ok() || *now != expected) {
    if (futexes.dequeue(w)) return 0L;
    if (!now.ok()) return kEFAULT;
    return kEAGAIN;
  }
  for (;;) {
    if (w.woken.load(std::memory_order_acquire)) break;
    if (t.signal_pending()) {
      if (futexes.dequeue(w)) break;
      if (!timeout.given) return kERESTARTSYS;
      RestartBlock block;
      block.fn = futex_restart;
      block.deadline = timeout.deadline;
      block.args[0] = addr;
      block.args[1] = expected;
      block.args[2] = bitset;
      return t.restart_later(block);
    }
    if (sched::park(timeout.deadline) == sched::Parked::timed_out) {
      if (futexes.dequeue(w)) break;
      return kETIMEDOUT;
    }
  }
  return 0L;
}

// The thread itself makes the call; rax is the host's answer.
Result<long> on_host(Task& t, const platform::Call& c, int op, uint64_t val, uint64_t timeout, uint32_t bitset) {
  platform::Call host{202, {c.args[0], static_cast<uint64_t>(op | FUTEX_PRIVATE_FLAG), val, timeout, 0, bitset}};
  t.impl().host_futex = host;
  t.impl().host_futex_since = 0;
  t.impl().keep_registers = true;
  return 0L;
}

// FUTEX_WAKE_OP's operation on the second word. Linux: futex_atomic_op_inuser(). True: its condition held.
Result<bool> apply_wake_op(Task& t, uint64_t addr, uint32_t encoded) {
  uint32_t op = encoded >> 28 & 7, cmp = encoded >> 24 & 15;
  auto sign12 = [](uint32_t v) { return static_cast<int32_t>(v << 20) >> 20; };
  int32_t oparg = sign12(encoded >> 12 & 0xfff), cmparg = sign12(encoded & 0xfff);
  if (encoded >> 28 & FUTEX_OP_OPARG_SHIFT) oparg = static_cast<int32_t>(1u << (oparg & 31));
  if (op > FUTEX_OP_XOR) return kENOSYS;
  if (cmp > FUTEX_OP_CMP_GE) return kENOSYS;
  uint32_t old = TRY(t.context().load32(addr));
  for (;;) {
    uint32_t arg = static_cast<uint32_t>(oparg), next = 0;
    switch (op) {
      case FUTEX_OP_SET: next = arg; break;
      case FUTEX_OP_ADD: next = old + arg; break;
      case FUTEX_OP_OR: next = old | arg; break;
      case FUTEX_OP_ANDN: next = old & ~arg; break;
      default: next = old ^ arg; break;
    }
    uint32_t seen = TRY(t.context().cmpxchg32(addr, old, next));
    if (seen == old) break;
    old = seen;
  }
  int32_t v = static_cast<int32_t>(old);
  switch (cmp) {
    case FUTEX_OP_CMP_EQ: return v == cmparg;
    case FUTEX_OP_CMP_NE: return v != cmparg;
    case FUTEX_OP_CMP_LT: return v < cmparg;
    case FUTEX_OP_CMP_LE: return v <= cmparg;
    case FUTEX_OP_CMP_GT: return v > cmparg;
    default: return v >= cmparg;
  }
}

int wake_key(Task& t, const mm::FutexKey& key, uint64_t addr, int n, uint32_t bitset) {
  if (n <= 0) return 0;
  if (!key.is_private) return table(t).wake(key, n, bitset);
  int here = 0;
  if (table(t).private_waiters() > 0) {
    here = table(t).wake(mm::FutexKey{t.mm()->futex_key(addr, true)->a, addr, 0, true}, n, bitset);
    if (here >= n) return here;
    n -= here;
  }
  // The host is asked for plain wakes only: with a bitset everybody wakes and looks again.
  Result<int64_t> r = t.context().host_futex_wake(addr, bitset == FUTEX_BITSET_MATCH_ANY ? n : kAll);
  return here + (r.ok() ? static_cast<int>(*r) : 0);
}

Result<mm::FutexKey> key_of(Task& t, uint64_t addr, bool private_flag) {
  if (addr % 4) return kEINVAL;
  if (addr >= platform::kAppLimit) return kEFAULT;
  if (private_flag) return mm::FutexKey{0, addr, 0, true};  // the host's domain: no look at the list of mappings
  return t.mm()->futex_key(addr, false);
}

Result<long> requeue(Task& t, const mm::FutexKey& key, const platform::Call& c, bool private_flag, bool compare) {
  int n_wake = static_cast<int>(c.args[2]), n_move = static_cast<int>(c.args[3]);
  if (n_wake < 0 || n_move < 0) return kEINVAL;
  mm::FutexKey to = TRY(key_of(t, c.args[4], private_flag));
  if (compare) {
    uint32_t now = TRY(t.context().load32(c.args[0]));
    if (now != static_cast<uint32_t>(c.args[5])) return kEAGAIN;
  }
  if (!key.is_private && !to.is_private) return long{table(t).requeue(key, to, n_wake, n_move)};
  int64_t total = static_cast<int64_t>(n_wake) + n_move;
  return long{wake_key(t, key, c.args[0], static_cast<int>(std::min<int64_t>(total, kAll)), FUTEX_BITSET_MATCH_ANY)};
}

}  // namespace

Result<long> futex_call(Task& t, const platform::Call& c) {
  const uint64_t addr = c.args[0];
  const int op = static_cast<int>(c.args[1]);
  const int cmd = op & FUTEX_CMD_MASK;
  const bool private_flag = op & FUTEX_PRIVATE_FLAG, realtime = op & FUTEX_CLOCK_REALTIME;
  const uint32_t val = static_cast<uint32_t>(c.args[2]);
  if (realtime && cmd != FUTEX_WAIT_BITSET && cmd != FUTEX_WAIT_REQUEUE_PI && cmd != kLockPi2) return kENOSYS;
  PiTable& pi = *t.kernel().impl().pi;
  switch (cmd) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET: {
      uint32_t bitset = cmd == FUTEX_WAIT ? FUTEX_BITSET_MATCH_ANY : static_cast<uint32_t>(c.args[5]);
      if (bitset == 0) return kEINVAL;
      mm::FutexKey key = TRY(key_of(t, addr, private_flag));
      if (key.is_private) return on_host(t, c, op, val, c.args[3], bitset);
      Timeout timeout = TRY(read_timeout(t, c.args[3], cmd == FUTEX_WAIT, realtime));
      return wait_shared(t, key, addr, val, bitset, timeout);
    }
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET: {
      uint32_t bitset = cmd == FUTEX_WAKE ? FUTEX_BITSET_MATCH_ANY : static_cast<uint32_t>(c.args[5]);
      if (bitset == 0) return kEINVAL;
      mm::FutexKey key = TRY(key_of(t, addr, private_flag));
      int n = std::max(static_cast<int>(val), 1);  // Linux wakes one for 0
      if (!key.is_private) return long{table(t).wake(key, n, bitset)};
      if (table(t).private_waiters() > 0) return long{wake_key(t, key, addr, n, bitset)};
      if (bitset != FUTEX_BITSET_MATCH_ANY) n = kAll;
      return on_host(t, c, FUTEX_WAKE, static_cast<uint64_t>(n), 0, 0);
    }
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE:
      return requeue(t, TRY(key_of(t, addr, private_flag)), c, private_flag, cmd == FUTEX_CMP_REQUEUE);
    case FUTEX_WAKE_OP: {
      mm::FutexKey first = TRY(key_of(t, addr, private_flag));
      mm::FutexKey second = TRY(key_of(t, c.args[4], private_flag));
      bool also = TRY(apply_wake_op(t, c.args[4], static_cast<uint32_t>(c.args[5])));
      int n = wake_key(t, first, addr, static_cast<int>(val), FUTEX_BITSET_MATCH_ANY);
      if (also) n += wake_key(t, second, c.args[4], static_cast<int>(c.args[3]), FUTEX_BITSET_MATCH_ANY);
      return long{n};
    }
    case FUTEX_LOCK_PI:
    case kLockPi2: {
      Timeout timeout = TRY(read_timeout(t, c.args[3], false, cmd == FUTEX_LOCK_PI || realtime));
      return pi.lock(t, addr, private_flag, timeout.deadline, false);
    }
    case FUTEX_TRYLOCK_PI:
      return pi.lock(t, addr, private_flag, sched::kNever, true);
    case FUTEX_UNLOCK_PI:
      return pi.unlock(t, addr, private_flag);
    case FUTEX_WAIT_REQUEUE_PI: {
      Timeout timeout = TRY(read_timeout(t, c.args[3], false, realtime));
      return pi.wait_requeue(t, addr, private_flag, val, timeout.deadline, c.args[4]);
    }
    case FUTEX_CMP_REQUEUE_PI:
      return pi.requeue(t, addr, private_flag, static_cast<int>(val), static_cast<int>(c.args[3]), c.args[4],
                        static_cast<uint32_t>(c.args[5]));
    default:
      return kENOSYS;
  }
}

Result<long> futex_restart(Task& t, const RestartBlock& b) {
  mm::FutexKey key = TRY(key_of(t, b.args[0], false));
  return wait_shared(t, key, b.args[0], static_cast<uint32_t>(b.args[1]), static_cast<uint32_t>(b.args[2]),
                     Timeout{true, b.deadline});
}

void begin_host_futex(Task& t) {
  Task::Impl& i = t.impl();
  if (i.host_futex_since == 0) i.host_futex_since = sched::now();
  t.context().run_host_futex(*i.host_futex);
  i.futex_in_progress = i.host_futex;
  i.host_futex.reset();
}

// A wait without time-out is made again if handlers allow it. With one, only a stop lets it go on; a relative time starts
// anew then.
CallOutcome futex_outcome_when_interrupted(Task& t) {
  Task::Impl& i = t.impl();
  CallOutcome o;
  o.number_valid = true;
  o.number = 202;
  o.call = i.host_futex ? *i.host_futex : *i.futex_in_progress;
  i.host_futex.reset();
  i.futex_in_progress.reset();
  i.restart.fn = nullptr;
  const bool wait = (o.call.args[1] & FUTEX_CMD_MASK) != FUTEX_WAKE;
  const bool timed = wait && o.call.args[3] != 0;
  o.restart = (!wait ? kERESTARTNOINTR : timed ? kERESTART_RESTARTBLOCK : kERESTARTSYS).value();
  return o;
}

// ---- futex_waitv(2), futex_wake(2), futex_wait(2), futex_requeue(2) ----

namespace {

constexpr uint32_t kSizeMask = 3, kSizeU32 = 2;

// EINVAL: words of other sizes, unknown flags. True: private.
Result<bool> check_futex2(uint64_t addr, uint64_t value, uint32_t flags) {
  if (flags & ~(kSizeMask | FUTEX_PRIVATE_FLAG)) return kEINVAL;
  if ((flags & kSizeMask) != kSizeU32 || value > UINT32_MAX || addr % 4) return kEINVAL;
  return (flags & FUTEX_PRIVATE_FLAG) != 0;
}

Result<Timeout> read_futex2_timeout(Task& t, uint64_t addr, int clock) {
  if (addr == 0) return Timeout{};
  if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC) return kEINVAL;
  return read_timeout(t, addr, false, clock == CLOCK_REALTIME);
}

// In its queues as long as it lives.
struct ManyWaiters {
  explicit ManyWaiters(FutexTable& f) : futexes(f) {}
  ~ManyWaiters() { leave(); }
  // The first that was woken before it could leave, or -1.
  int leave() {
    int woken = -1;
    for (size_t i = 0; i < queued; i++)
      if (futexes.dequeue(list[i]) && woken < 0) woken = static_cast<int>(i);
    queued = 0;
    return woken;
  }
  FutexTable& futexes;
  std::deque<FutexWaiter> list;  // they do not move
  size_t queued = 0;
};

}  // namespace

Result<long> futex_waitv(Task& t, uint64_t waiters, unsigned n, unsigned flags, uint64_t timeout_addr, int clock) {
  struct Wanted {
    uint64_t value, addr;
    uint32_t flags, reserved;
  };
  if (flags != 0 || n == 0 || n > 128 || waiters == 0) return kEINVAL;
  Timeout timeout = TRY(read_futex2_timeout(t, timeout_addr, clock));
  auto wanted = TRY(mm::UserIn<Wanted>(waiters).copy_in_array(t.context(), n));
  ManyWaiters many(table(t));
  for (const Wanted& w : wanted) {
    if (w.reserved != 0) return kEINVAL;
    bool is_private = TRY(check_futex2(w.addr, w.value, w.flags));
    if (is_private) t.context().watch_futexes();
    many.list.emplace_back(TRY(t.mm()->futex_key(w.addr, is_private)), FUTEX_BITSET_MATCH_ANY, sched::current());
  }
  for (FutexWaiter& w : many.list) {
    many.futexes.enqueue(w);
    many.queued++;
  }
  for (size_t i = 0; i < n; i++) {
    Result<uint32_t> now = t.context().load32(wanted[i].addr);
    if (now.ok() && *now == wanted[i].value) continue;
    if (int woken = many.leave(); woken >= 0) return long{woken};
    return now.ok() ? Result<long>(kEAGAIN) : Result<long>(kEFAULT);
  }
  for (;;) {
    for (FutexWaiter& w : many.list)
      if (w.woken.load(std::memory_order_acquire)) return long{many.leave()};
    const bool interrupted = t.signal_pending();
    if (!interrupted && sched::park(timeout.deadline) != sched::Parked::timed_out) continue;
    if (int woken = many.leave(); woken >= 0) return long{woken};
    return interrupted ? Result<long>(kERESTARTSYS) : Result<long>(kETIMEDOUT);
  }
}

Result<long> futex2_wake(Task& t, uint64_t addr, uint64_t mask, int n, uint32_t flags) {
  bool is_private = TRY(check_futex2(addr, mask, flags));
  if (mask == 0) return kEINVAL;
  mm::FutexKey key = TRY(key_of(t, addr, is_private));
  return long{wake_key(t, key, addr, n, static_cast<uint32_t>(mask))};
}

Result<long> futex2_wait(Task& t, uint64_t addr, uint64_t value, uint64_t mask, uint32_t flags, uint64_t timeout_addr,
                         int clock) {
  bool is_private = TRY(check_futex2(addr, value, flags));
  if (mask == 0 || mask > UINT32_MAX) return kEINVAL;
  Timeout timeout = TRY(read_futex2_timeout(t, timeout_addr, clock));
  mm::FutexKey key = TRY(key_of(t, addr, is_private));
  const auto bits = static_cast<uint32_t>(mask);
  if (!key.is_private) return wait_shared(t, key, addr, static_cast<uint32_t>(value), bits, timeout);
  const int op = FUTEX_WAIT_BITSET | (timeout_addr && clock == CLOCK_REALTIME ? FUTEX_CLOCK_REALTIME : 0);
  return on_host(t, platform::Call{202, {addr}}, op, value, timeout_addr, bits);
}

Result<long> futex2_requeue(Task& t, uint64_t waiters, unsigned flags, int n_wake, int n_move) {
  struct Wanted {
    uint64_t value, addr;
    uint32_t flags, reserved;
  };
  if (flags != 0 || waiters == 0) return kEINVAL;
  auto w = TRY(mm::UserIn<Wanted>(waiters).copy_in_array(t.context(), 2));
  for (const Wanted& x : w)
    if (x.reserved != 0) return kEINVAL;
  bool first_private = TRY(check_futex2(w[0].addr, w[0].value, w[0].flags));
  bool second_private = TRY(check_futex2(w[1].addr, w[1].value, w[1].flags));
  mm::FutexKey from = TRY(key_of(t, w[0].addr, first_private));
  platform::Call c{202, {w[0].addr, 0, static_cast<uint64_t>(n_wake), static_cast<uint64_t>(n_move), w[1].addr, w[0].value}};
  return requeue(t, from, c, second_private, true);
}

void futex_wake(Task& t, uint64_t addr, int n) {
  Result<mm::FutexKey> key = key_of(t, addr, false);
  if (key.ok()) wake_key(t, *key, addr, n, FUTEX_BITSET_MATCH_ANY);
}

}  // namespace sentry::kernel
