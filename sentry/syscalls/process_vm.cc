// SPDX-License-Identifier: Apache-2.0
// process_vm_readv(2), process_vm_writev(2), kcmp(2): looking at other processes.
#include <linux/kcmp.h>

#include <algorithm>

#include "sentry/kernel/inspect.h"
#include "sentry/kernel/internal.h"
#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {
namespace {

constexpr size_t kMaxVectors = 1024;
constexpr size_t kChunk = 32 * 1024;

// A list of ranges, used up from the front.
class Ranges {
 public:
  static Result<Ranges> read(Task& task, UserIn<struct iovec> v, size_t count) {
    if (count > kMaxVectors) return kEINVAL;
    Ranges r;
    r.list_ = TRY(v.copy_in_array(task.context(), count));
    uint64_t sum = 0;
    for (const iovec& i : r.list_) {
      if (i.iov_len > INT64_MAX || (sum += i.iov_len) > INT64_MAX) return kEINVAL;
    }
    r.skip_empty();
    return r;
  }
  bool empty() const { return at_ == list_.size(); }
  uint64_t address() const { return reinterpret_cast<uint64_t>(list_[at_].iov_base); }
  size_t length() const { return list_[at_].iov_len; }
  void advance(size_t n) {
    list_[at_].iov_base = static_cast<char*>(list_[at_].iov_base) + n;
    list_[at_].iov_len -= n;
    skip_empty();
  }

 private:
  void skip_empty() {
    while (at_ < list_.size() && list_[at_].iov_len == 0) at_++;
  }
  std::vector<iovec> list_;
  size_t at_ = 0;
};

Result<long> transfer(Task& task, int pid, UserIn<struct iovec> local, size_t local_count, UserIn<struct iovec> remote,
                      size_t remote_count, uint64_t flags, bool write) {
  if (flags != 0) return kEINVAL;
  Ranges mine = TRY(Ranges::read(task, local, local_count));
  Ranges theirs = TRY(Ranges::read(task, remote, remote_count));
  if (mine.empty() || theirs.empty()) return 0L;
  RefOrNull<Task> t = task.group().pid_namespace().find_task(pid);
  if (!t) return kESRCH;
  if (!kernel::may_inspect(&task, *t, false)) return kEPERM;
  RefOrNull<mm::AddressSpace> mm = t->find_mm();
  if (!mm) return kESRCH;
  std::vector<std::byte> buffer(kChunk);
  size_t done = 0;
  while (!mine.empty() && !theirs.empty()) {
    size_t n = std::min({mine.length(), theirs.length(), kChunk});
    Result<size_t> got = kEFAULT;
    if (write) {
      got = task.context().copy_in_some(buffer.data(), mine.address(), n);
      if (got.ok()) got = mm->write_remote(theirs.address(), buffer.data(), *got);
    } else {
      got = mm->read_remote(theirs.address(), buffer.data(), n);
      if (got.ok()) got = task.context().copy_out_some(mine.address(), buffer.data(), *got);
    }
    if (!got.ok()) {
      if (done == 0) return got.error();
      break;
    }
    done += *got;
    if (*got < n) break;
    mine.advance(n);
    theirs.advance(n);
    sched::yield();
  }
  return static_cast<long>(done);
}

// Objects in some order that stays, which is not that of their addresses. Linux: kptr_obfuscate().
long order(Task& task, const void* a, const void* b) {
  const uint64_t secret = task.kernel().impl().namespace_secret;
  auto hidden = [secret](const void* p) { return (reinterpret_cast<uint64_t>(p) ^ secret) * (secret | 1); };
  return a == b ? 0 : hidden(a) < hidden(b) ? 1 : 2;
}

}  // namespace

Result<long> sys_process_vm_readv(Task& task, int pid, UserIn<struct iovec> local, size_t local_count,
                                  UserIn<struct iovec> remote, size_t remote_count, uint64_t flags) {
  return transfer(task, pid, local, local_count, remote, remote_count, flags, false);
}

Result<long> sys_process_vm_writev(Task& task, int pid, UserIn<struct iovec> local, size_t local_count,
                                   UserIn<struct iovec> remote, size_t remote_count, uint64_t flags) {
  return transfer(task, pid, local, local_count, remote, remote_count, flags, true);
}

Result<long> sys_kcmp(Task& task, int pid1, int pid2, int type, uint64_t a, uint64_t b) {
  kernel::PidNamespace& ns = task.group().pid_namespace();
  RefOrNull<Task> t1 = ns.find_task(pid1), t2 = ns.find_task(pid2);
  if (!t1 || !t2) return kESRCH;
  if (!kernel::may_inspect(&task, *t1, false) || !kernel::may_inspect(&task, *t2, false)) return kEPERM;
  switch (type) {
    case KCMP_FILE: {
      Ref<vfs::File> f1 = TRY(t1->files()->get_path(static_cast<int>(a)));
      Ref<vfs::File> f2 = TRY(t2->files()->get_path(static_cast<int>(b)));
      return order(task, f1.get(), f2.get());
    }
    case KCMP_VM: return order(task, t1->find_mm().get(), t2->find_mm().get());
    case KCMP_FILES: return order(task, t1->files().get(), t2->files().get());
    case KCMP_FS: return order(task, t1->fs().get(), t2->fs().get());
    case KCMP_SIGHAND: return order(task, t1->group().handlers().get(), t2->group().handlers().get());
    case KCMP_IO:
    case KCMP_SYSVSEM: return 0L;
    default: return kEINVAL;
  }
}

}  // namespace sentry::syscalls
