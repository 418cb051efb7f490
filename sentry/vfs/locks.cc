// SPDX-License-Identifier: Apache-2.0
// File locks of one inode: a list of ranges, a list of flocks, and one queue for those who wait. Linux: fs/locks.c.
#include "sentry/vfs/locks.h"

#include <sys/file.h>

#include <algorithm>

namespace sentry::vfs {

class LockList {
 public:
  Mutex mu{LockRank::kFilePrivate};
  std::vector<RangeLock> ranges GUARDED_BY(mu);
  struct Flock {
    const File* owner;
    bool exclusive;
  };
  std::vector<Flock> flocks GUARDED_BY(mu);
  sched::WaitQueue released;

  // The first range that conflicts with r, or null.
  const RangeLock* conflict(const RangeLock& r) const REQUIRES(mu) {
    for (const RangeLock& l : ranges)
      if (l.owner != r.owner && l.start <= r.end && r.start <= l.end && (l.type == F_WRLCK || r.type == F_WRLCK))
        return &l;
    return nullptr;
  }
  bool replace(const RangeLock& r) REQUIRES(mu);
};

namespace {

constexpr size_t kMaxRanges = 16384;  // of one inode

// Who waits for whom among POSIX owners: at most one blocker each, as each call waits for one range. (Threads that share a
// table may wait for several; then the latest counts, as in Linux, where such owners are searched one by one.)
struct Waiting {
  const void* waiter;
  const void* blocker;
};
constinit Mutex g_waiting_mu{LockRank::kFilePrivate};
std::vector<Waiting>* g_waiting GUARDED_BY(g_waiting_mu) = nullptr;

// False: it would close a circle.
bool begin_wait(const void* waiter, const void* blocker) {
  MutexLock l(g_waiting_mu);
  if (!g_waiting) g_waiting = new std::vector<Waiting>;
  const void* at = blocker;
  for (int depth = 0; depth < 10; depth++) {  // Linux: MAX_DEADLK_ITERATIONS
    if (at == waiter) return false;
    auto it = std::find_if(g_waiting->begin(), g_waiting->end(), [&](const Waiting& w) { return w.waiter == at; });
    if (it == g_waiting->end()) break;
    at = it->blocker;
  }
  g_waiting->push_back({waiter, blocker});
  return true;
}
void end_wait(const void* waiter, const void* blocker) {
  MutexLock l(g_waiting_mu);
  auto it = std::find_if(g_waiting->begin(), g_waiting->end(),
                         [&](const Waiting& w) { return w.waiter == waiter && w.blocker == blocker; });
  if (it != g_waiting->end()) g_waiting->erase(it);
}

}  // namespace

// Cuts r out of the owner's ranges, puts it in unless it is an unlock, and joins neighbours of one type. False: too many.
bool LockList::replace(const RangeLock& r) {
  std::vector<RangeLock> out;
  out.reserve(ranges.size() + 2);
  RangeLock joined = r;
  for (const RangeLock& l : ranges) {
    if (l.owner != r.owner) {
      out.push_back(l);
      continue;
    }
    bool overlaps = l.start <= r.end && r.start <= l.end;
    bool touches = overlaps || (l.end != INT64_MAX && l.end + 1 == r.start) || (r.end != INT64_MAX && r.end + 1 == l.start);
    if (r.type == l.type && touches) {
      joined.start = std::min(joined.start, l.start);
      joined.end = std::max(joined.end, l.end);
      continue;
    }
    if (!overlaps) {
      out.push_back(l);
      continue;
    }
    if (l.start < r.start) {
      out.push_back(l);
      out.back().end = r.start - 1;
    }
    if (l.end > r.end) {
      out.push_back(l);
      out.back().start = r.end + 1;
    }
  }
  if (joined.type != F_UNLCK) out.push_back(joined);
  if (out.size() > kMaxRanges && out.size() > ranges.size()) return false;
  std::sort(out.begin(), out.end(), [](const RangeLock& a, const RangeLock& b) { return a.start < b.start; });
  ranges = std::move(out);
  return true;
}

LockList& Inode::locks() {
  LockList* l = locks_.load(std::memory_order_acquire);
  if (l) return *l;
  auto* fresh = new LockList;
  if (locks_.compare_exchange_strong(l, fresh, std::memory_order_acq_rel)) return *fresh;
  delete fresh;
  return *l;
}

void destroy_locks(LockList* list) { delete list; }

Result<void> set_range_lock(Inode& inode, const RangeLock& r, LockWait wait) {
  if (r.type == F_UNLCK && !inode.find_locks()) return {};
  LockList& list = inode.locks();
  for (;;) {
    const void* blocker = nullptr;
    {
      MutexLock l(list.mu);
      const RangeLock* c = r.type == F_UNLCK ? nullptr : list.conflict(r);
      if (!c) {
        if (!list.replace(r)) return kENOLCK;
      } else {
        blocker = c->owner;
      }
    }
    if (!blocker) {
      list.released.wake_all();  // an unlock, a downgrade
      return {};
    }
    if (wait == LockWait::no) return kEAGAIN;
    if (!r.ofd && !begin_wait(r.owner, blocker)) return kEDEADLK;
    auto free_now = [&] {
      MutexLock l(list.mu);
      const RangeLock* c = list.conflict(r);
      return !c || c->owner != blocker;  // another one in the way: the circle is looked for again
    };
    Result<void> w = sched::wait_for(list.released, free_now);
    if (!r.ofd) end_wait(r.owner, blocker);
    TRY(std::move(w));
  }
}

RangeLock test_range_lock(Inode& inode, const RangeLock& request) {
  RangeLock none = request;
  none.type = F_UNLCK;
  LockList* list = inode.find_locks();
  if (!list) return none;
  MutexLock l(list->mu);
  const RangeLock* c = list->conflict(request);
  return c ? *c : none;
}

void release_range_locks(Inode& inode, const void* owner) {
  LockList* list = inode.find_locks();
  if (!list) return;
  {
    MutexLock l(list->mu);
    if (std::erase_if(list->ranges, [&](const RangeLock& r) { return r.owner == owner; }) == 0) return;
  }
  list->released.wake_all();
}

Result<void> set_flock(Inode& inode, const File& owner, int operation, LockWait wait) {
  if (operation == LOCK_UN && !inode.find_locks()) return {};
  LockList& list = inode.locks();
  bool exclusive = operation == LOCK_EX;
  auto in_the_way = [&]() REQUIRES(list.mu) {
    return std::any_of(list.flocks.begin(), list.flocks.end(), [&](const LockList::Flock& f) {
      return f.owner != &owner && (f.exclusive || exclusive);
    });
  };
  for (;;) {
    bool blocked = false, dropped = false;
    {
      MutexLock l(list.mu);
      auto mine = std::find_if(list.flocks.begin(), list.flocks.end(),
                               [&](const LockList::Flock& f) { return f.owner == &owner; });
      if (mine != list.flocks.end()) {
        if (operation != LOCK_UN && mine->exclusive == exclusive) return {};
        list.flocks.erase(mine);  // a conversion is not atomic (man 2 flock)
        dropped = true;
      }
      if (operation != LOCK_UN) {
        blocked = in_the_way();
        if (!blocked) list.flocks.push_back({&owner, exclusive});
      }
    }
    if (dropped) list.released.wake_all();
    if (!blocked) return {};
    if (wait == LockWait::no) return kEAGAIN;
    TRY(sched::wait_for(list.released, [&] {
      MutexLock l(list.mu);
      return !in_the_way();
    }));
  }
}

void release_description_locks(Inode& inode, const File& owner) {
  LockList* list = inode.find_locks();
  if (!list) return;
  size_t gone;
  {
    MutexLock l(list->mu);
    gone = std::erase_if(list->flocks, [&](const LockList::Flock& f) { return f.owner == &owner; });
    gone += std::erase_if(list->ranges, [&](const RangeLock& r) { return r.owner == &owner; });
  }
  if (gone) list->released.wake_all();
}

Result<void> close_descriptor(File& file, const void* table) {
  if (file.flags() & O_PATH) return {};
  release_range_locks(file.inode(), table);
  return file.flush();
}

}  // namespace sentry::vfs
