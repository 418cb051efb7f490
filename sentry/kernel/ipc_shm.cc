// SPDX-License-Identifier: Apache-2.0
// Segments. Each mapping of one holds a reference to it, so how many there are is how often it is attached.
#include "sentry/kernel/ipc_shm.h"

#include <sys/shm.h>

#include <algorithm>

#include "sentry/mm/user.h"

namespace sentry::kernel {

namespace {

constexpr uint64_t kMaxSegment = ~0ull - (1ull << 24);  // SHMMAX, SHMALL
constexpr size_t kMaxSegments = 4096;                   // SHMMNI
constexpr uint64_t kDevice = 0xfff000ff;                // of segments; vfs gives it to no file system
constexpr uint32_t kDest = 01000, kLocked = 02000;      // SHM_DEST, SHM_LOCKED

uint64_t page_up(uint64_t n) { return (n + platform::kPageSize - 1) & ~(platform::kPageSize - 1); }

// struct shmid64_ds, shminfo64, shm_info of amd64.
struct ShmidAbi {
  IpcPermAbi perm;
  uint64_t size;
  int64_t atime, dtime, ctime;
  int32_t cpid, lpid;
  uint64_t nattch, unused[2];
};
static_assert(sizeof(ShmidAbi) == sizeof(shmid_ds));
struct ShminfoAbi {
  uint64_t max, min, mni, seg, all, unused[4];
};
struct ShmInfoAbi {
  int32_t used_ids;
  int32_t pad;
  uint64_t total, resident, swapped, swap_attempts, swap_successes;
};

}  // namespace

class ShmSegment final : public mm::Mappable {
 public:
  ShmSegment(Ref<mm::Mappable> m, uint64_t bytes) : size(bytes), memory_(std::move(m)) {}
  Result<mm::MapFd> map_fd(bool writable) override { return memory_->map_fd(writable); }
  uint64_t device() const override { return kDevice; }
  uint64_t inode_number() const override { return memory_->inode_number(); }
  std::string path() const override { return base::format("/SYSV{:08x} (deleted)", static_cast<uint32_t>(owner.key)); }
  Result<void> punch_hole(int64_t offset, uint64_t length) override { return memory_->punch_hole(offset, length); }

  // Who attached or detached it last, and when: shmdt(2) knows the segment but not its table.
  struct Use {
    int64_t atime = 0, dtime = 0;
    RefOrNull<ThreadGroup> last;
  };
  void used(Task& t, int64_t Use::*when) EXCLUDES(use_mu_) {
    RefOrNull<ThreadGroup> old = t.group_ref();  // the one before goes after the lock
    MutexLock l(use_mu_);
    use_.*when = ipc_now();
    std::swap(use_.last, old);
  }
  Use use() EXCLUDES(use_mu_) {
    MutexLock l(use_mu_);
    return use_;
  }

  IpcOwner owner;
  bool removed = false;  // these are guarded by the table's lock
  const uint64_t size;
  int64_t ctime = ipc_now();
  RefOrNull<ThreadGroup> creator;

 private:
  const Ref<mm::Mappable> memory_;
  Mutex use_mu_{LockRank::kFilePages};
  Use use_ GUARDED_BY(use_mu_);
};

struct ShmTable::Impl {
  Mutex mu{LockRank::kFilePrivate};
  IpcIds<ShmSegment> ids GUARDED_BY(mu);
  uint64_t pages GUARDED_BY(mu) = 0;

  // References beyond the table's and `others`.
  static uint64_t attached(ShmSegment& s, uint64_t others) {
    const uint64_t n = s.ref_count();
    return n > others + 1 ? n - others - 1 : 0;
  }
  // Segments that were removed and that nobody has attached any more go. What goes is returned, to be dropped outside the lock.
  std::vector<Ref<ShmSegment>> sweep_locked() REQUIRES(mu) {
    std::vector<Ref<ShmSegment>> gone;
    for (const Ref<ShmSegment>& s : ids.all()) {
      if (!s->removed || attached(*s, 1) > 0) continue;
      ids.remove(s->owner.id);
      pages -= page_up(s->size) / platform::kPageSize;
      gone.push_back(s);
    }
    return gone;
  }
};

ShmTable::ShmTable() : impl_(std::make_unique<Impl>()) {}
ShmTable::~ShmTable() = default;

Result<long> ShmTable::get(Task& t, int32_t key, uint64_t size, int flags) {
  constexpr int kHuge = 04000;  // SHM_HUGETLB
  if ((flags & kHuge) && (flags & IPC_CREAT)) return t.own_credentials().has_cap(CAP_IPC_LOCK) ? kENOMEM : kEPERM;
  std::vector<Ref<ShmSegment>> gone;
  Impl& i = *impl_;
  MutexLock l(i.mu);
  gone = i.sweep_locked();
  auto fits = [&](ShmSegment& s) -> Result<void> { return size > s.size ? Result<void>(kEINVAL) : Result<void>(); };
  auto make = [&]() -> Result<Ref<ShmSegment>> {
    if (size == 0 || size > kMaxSegment) return kEINVAL;
    Ref<mm::Mappable> memory = TRY(mm::create_shared_memory(page_up(size), "SYSV"));
    return make_ref<ShmSegment>(std::move(memory), size);
  };
  const size_t before = i.ids.size();
  int id = TRY(i.ids.get(key, flags, t.own_credentials(), kMaxSegments, fits, make));
  if (i.ids.size() != before) {
    Ref<ShmSegment> s = TRY(i.ids.find(id));
    s->creator = t.group_ref();
    i.pages += page_up(s->size) / platform::kPageSize;
  }
  return long{id};
}

Result<long> ShmTable::attach(Task& t, int id, uint64_t addr, int flags) {
  if (id < 0) return kEINVAL;
  constexpr uint64_t kMask = platform::kPageSize - 1;
  mm::MapRequest r;
  r.flags = MAP_SHARED;
  if (addr) {
    if (addr & kMask) {
      if (!(flags & SHM_RND)) return kEINVAL;
      addr &= ~kMask;
      if (addr == 0 && (flags & SHM_REMAP)) return kEINVAL;
    }
    r.flags |= flags & SHM_REMAP ? MAP_FIXED : MAP_FIXED_NOREPLACE;
  } else if (flags & SHM_REMAP) {
    return kEINVAL;
  }
  const bool read_only = flags & SHM_RDONLY, exec = flags & SHM_EXEC;
  RefOrNull<ShmSegment> s;
  {
    MutexLock l(impl_->mu);
    s = TRY(impl_->ids.find(id));
    if (!s->owner.permits(t.own_credentials(), (read_only ? 0444u : 0666u) | (exec ? 0111u : 0u))) return kEACCES;
  }
  r.address = addr;
  r.length = s->size;
  r.prot = PROT_READ | (read_only ? 0 : PROT_WRITE) | (exec ? PROT_EXEC : 0);
  r.file = Ref<mm::Mappable>(*s);
  r.file_writable = !read_only;
  Result<uint64_t> at = t.mm()->map(t.context(), r);
  // Differs from Linux: shared memory has its own part of the address space; elsewhere the host's rules for stubs answer ENOSYS.
  if (!at.ok()) return at.error() == kEEXIST || at.error() == kENOSYS ? Result<long>(kEINVAL) : Result<long>(at.error());
  s->used(t, &ShmSegment::Use::atime);
  return static_cast<long>(*at);
}

namespace {

int pid_for(const RefOrNull<ThreadGroup>& g, const PidNamespace& viewer) { return g ? g->pid_in(viewer) : 0; }

}  // namespace

Result<long> ShmTable::control(Task& t, int id, int command, uint64_t buf) {
  const auth::Credentials& c = t.own_credentials();
  Impl& i = *impl_;
  switch (command) {
    case IPC_INFO: {
      ShminfoAbi info{kMaxSegment, 1, kMaxSegments, kMaxSegments, kMaxSegment, {}};
      TRY(mm::UserOut<ShminfoAbi>(buf).copy_out(t.context(), info));
      MutexLock l(i.mu);
      return long{i.ids.highest()};
    }
    case SHM_INFO: {
      ShmInfoAbi info{};
      long highest;
      {
        MutexLock l(i.mu);
        info.used_ids = static_cast<int>(i.ids.size());
        info.total = info.resident = i.pages;
        highest = i.ids.highest();
      }
      TRY(mm::UserOut<ShmInfoAbi>(buf).copy_out(t.context(), info));
      return highest;
    }
    case IPC_STAT:
    case SHM_STAT:
    case 15 /* SHM_STAT_ANY */: {
      // What this process has taken away is gone from the count.
      t.mm()->settle(t.context());
      ShmidAbi a{};
      long result = 0;
      {
        RefOrNull<ShmSegment> s;
        std::vector<Ref<ShmSegment>> gone;
        ShmSegment::Use use;
        MutexLock l(i.mu);
        gone = i.sweep_locked();
        s = command == IPC_STAT ? TRY(i.ids.find(id)) : TRY(i.ids.find_index(id));
        if (command != 15 && !s->owner.permits(c, 0444)) return kEACCES;
        const PidNamespace& viewer = t.group().pid_namespace();
        a.perm = s->owner.abi(c);
        a.size = s->size;
        use = s->use();
        a.atime = use.atime;
        a.dtime = use.dtime;
        a.ctime = s->ctime;
        a.cpid = pid_for(s->creator, viewer);
        a.lpid = pid_for(use.last, viewer);
        a.nattch = Impl::attached(*s, 1);
        if (command != IPC_STAT) result = s->owner.id;
      }
      TRY(mm::UserOut<ShmidAbi>(buf).copy_out(t.context(), a));
      return result;
    }
    case IPC_SET:
    case IPC_RMID: {
      ShmidAbi a{};
      if (command == IPC_SET) a = TRY(mm::UserIn<ShmidAbi>(buf).copy_in(t.context()));
      t.mm()->settle(t.context());
      RefOrNull<ShmSegment> s;
      std::vector<Ref<ShmSegment>> gone;
      MutexLock l(i.mu);
      s = TRY(i.ids.find(id));
      if (!s->owner.owned_by(c)) return kEPERM;
      if (command == IPC_SET) {
        TRY(s->owner.set(a.perm, c));
        s->ctime = ipc_now();
        return 0L;
      }
      s->removed = true;
      s->owner.mode |= kDest;
      s->owner.key = IPC_PRIVATE;
      s = nullptr;
      gone = i.sweep_locked();
      return 0L;
    }
    case SHM_LOCK:
    case SHM_UNLOCK: {
      MutexLock l(i.mu);
      Ref<ShmSegment> s = TRY(i.ids.find(id));
      if (!c.has_cap(CAP_IPC_LOCK)) {
        if (c.euid != s->owner.uid && c.euid != s->owner.cuid) return kEPERM;
        if (command == SHM_LOCK && t.rlimit(RLIMIT_MEMLOCK) == 0) return kEPERM;
      }
      s->owner.mode = command == SHM_LOCK ? s->owner.mode | kLocked : s->owner.mode & ~kLocked;
      return 0L;
    }
    default:
      return kEINVAL;
  }
}

std::string ShmTable::proc_text(const PidNamespace& viewer) {
  std::string out =
      "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      "
      "ctime                   rss                  swap\n";
  std::vector<Ref<ShmSegment>> gone, all;
  std::vector<ShmSegment::Use> uses;
  MutexLock l(impl_->mu);
  gone = impl_->sweep_locked();
  all = impl_->ids.all();
  for (const Ref<ShmSegment>& s : all) {
    const ShmSegment::Use& use = uses.emplace_back(s->use());
    char line[256];
    snprintf(line, sizeof line, "%10d %10d  %4o %21llu %5d %5d  %5llu %5u %5u %5u %5u %10lld %10lld %10lld %21llu %21llu\n",
             s->owner.key, s->owner.id, s->owner.mode, static_cast<unsigned long long>(s->size), pid_for(s->creator, viewer),
             pid_for(use.last, viewer), static_cast<unsigned long long>(Impl::attached(*s, 1)), s->owner.uid, s->owner.gid,
             s->owner.cuid, s->owner.cgid, static_cast<long long>(use.atime), static_cast<long long>(use.dtime),
             static_cast<long long>(s->ctime), static_cast<unsigned long long>(page_up(s->size)), 0ull);
    out += line;
  }
  return out;
}

Result<long> shm_detach(Task& t, uint64_t addr) {
  if (addr & (platform::kPageSize - 1)) return kEINVAL;
  Ref<mm::AddressSpace> space = t.mm();
  RefOrNull<ShmSegment> s;
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const mm::Vma& v : space->list()) {
    if (v.start < addr || !v.file || v.file->device() != kDevice) continue;
    ShmSegment& here = static_cast<ShmSegment&>(*v.file);  // the device is no other file's
    if (v.start - addr != static_cast<uint64_t>(v.offset)) continue;
    if (s && s.get() != &here) continue;
    s = Ref<ShmSegment>(here);
    ranges.emplace_back(v.start, v.length());
  }
  if (!s) return kEINVAL;
  for (auto& [start, length] : ranges) TRY(space->unmap(t.context(), start, length));
  space->settle(t.context());
  s->used(t, &ShmSegment::Use::dtime);
  return 0L;
}

}  // namespace sentry::kernel
