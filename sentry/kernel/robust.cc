// SPDX-License-Identifier: Apache-2.0
// What a dying thread leaves behind in memory: held robust futexes, the word of set_tid_address(2). Linux:
// kernel/futex/core.c exit_robust_list(), kernel/fork.c mm_release().
#include <linux/futex.h>

#include "sentry/kernel/futex.h"
#include "sentry/mm/user.h"

namespace sentry::kernel {
namespace {

struct RobustHead {
  uint64_t next;
  int64_t futex_offset;
  uint64_t pending;
};

// Linux: handle_futex_death(). False: memory that cannot be used, give up.
bool owner_died(Task& t, uint64_t addr, bool pi, bool pending) {
  if (addr % 4) return false;
  const uint32_t tid = static_cast<uint32_t>(t.tid());
  Result<uint32_t> read = t.context().load32(addr);
  if (!read.ok()) return false;
  uint32_t v = *read;
  for (;;) {
    uint32_t owner = v & FUTEX_TID_MASK;
    // It died between unlocking and waking: its wake is made up for.
    if (pending && !pi && owner == 0) {
      futex_wake(t, addr, 1);
      return true;
    }
    if (owner != tid) return true;
    Result<uint32_t> seen = t.context().cmpxchg32(addr, v, (v & FUTEX_WAITERS) | FUTEX_OWNER_DIED);
    if (!seen.ok()) return false;
    if (*seen == v) break;
    v = *seen;
  }
  if (!pi && (v & FUTEX_WAITERS)) futex_wake(t, addr, 1);
  return true;
}

}  // namespace

void walk_robust_list(Task& t) {
  uint64_t head_addr = std::exchange(t.impl().robust_list, 0);
  if (head_addr == 0) return;
  Result<RobustHead> head = mm::UserIn<RobustHead>(head_addr).copy_in(t.context());
  if (!head.ok()) return;
  const uint64_t pending = head->pending & ~1ull;
  const auto offset = static_cast<uint64_t>(head->futex_offset);
  uint64_t entry = head->next;
  for (int i = 0; (entry & ~1ull) != head_addr && i < ROBUST_LIST_LIMIT; i++) {
    uint64_t at = entry & ~1ull;
    // The next link is read before this lock is let go: its memory may then be somebody else's.
    Result<uint64_t> next = mm::UserIn<uint64_t>(at).copy_in(t.context());
    if (at != pending && !owner_died(t, at + offset, entry & 1, false)) return;
    if (!next.ok()) return;
    entry = *next;
  }
  if (pending) owner_died(t, pending + offset, head->pending & 1, true);
}

uint64_t clear_child_tid(Task& t) {
  uint64_t addr = std::exchange(t.impl().clear_child_tid, 0);
  if (addr == 0 || addr >= platform::kAppLimit) return 0;
  bool others;
  {
    MutexLock l(t.impl().mu);
    others = t.impl().mm && t.impl().mm->users.load() > 1;
  }
  if (!others) return 0;
  Result<mm::FutexKey> key = t.mm()->futex_key(addr, false);
  if (key.ok() && key->is_private && !t.impl().vfork) return addr;
  // Shared memory, or a Context that lives on: done now.
  const uint32_t zero = 0;
  if (t.context().copy_out_now(addr, &zero, sizeof zero).ok()) futex_wake(t, addr, 1);
  return 0;
}

}  // namespace sentry::kernel
