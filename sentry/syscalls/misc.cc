// SPDX-License-Identifier: Apache-2.0
// Calls about the system as a whole: names, memory, random bytes, barriers.
#include <linux/membarrier.h>
#include <sys/personality.h>

#include <algorithm>
#include <bit>

#include "sentry/kernel/inspect.h"
#include "sentry/kernel/internal.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/syscalls/syscalls.h"

namespace sentry::syscalls {
namespace {

constexpr size_t kMaxName = 64;

void put(char (&field)[65], std::string_view s) {
  memset(field, 0, sizeof field);
  memcpy(field, s.data(), std::min(s.size(), sizeof field - 1));
}

Result<std::string> read_name(Task& task, UserIn<void> name, size_t len) {
  if (!task.own_credentials().has_cap_in(task.uts()->user_ns().get(), CAP_SYS_ADMIN)) return kEPERM;
  if (len > kMaxName) return kEINVAL;
  std::string s(len, '\0');
  TRY(name.copy_bytes_in(task.context(), s.data(), len));
  return s.substr(0, s.find('\0'));
}

}  // namespace

Result<long> sys_uname(Task& task, UserOut<struct utsname> name) {
  Ref<kernel::UtsNamespace> uts = task.uts();
  struct utsname n;
  put(n.sysname, kernel::kSysname);
  put(n.nodename, uts->hostname());
  put(n.release, kernel::kRelease);
  put(n.version, kernel::kVersion);
  put(n.machine, (task.impl().personality.load() & 0xff) == PER_LINUX32 ? "i686" : "x86_64");
  put(n.domainname, uts->domainname());
  TRY(name.copy_out(task.context(), n));
  return 0L;
}

Result<long> sys_sethostname(Task& task, UserIn<void> name, size_t len) {
  task.uts()->set_hostname(TRY(read_name(task, name, len)));
  return 0L;
}

Result<long> sys_setdomainname(Task& task, UserIn<void> name, size_t len) {
  task.uts()->set_domainname(TRY(read_name(task, name, len)));
  return 0L;
}

// The container's memory, as /proc/meminfo shows it.
Result<long> sys_sysinfo(Task& task, UserOut<struct sysinfo> info) {
  struct sysinfo s{};
  kernel::MemoryFacts memory = kernel::memory_facts(task.kernel(), task.container());
  s.uptime = (sched::now() - task.kernel().boot_monotonic_ns() + kernel::clock_offset(task, CLOCK_BOOTTIME)) / 1000000000;
  s.totalram = memory.total;
  s.freeram = memory.free;
  s.procs = static_cast<unsigned short>(std::min<int64_t>(kernel::tasks_in(task.container()), 65535));
  s.mem_unit = 1;
  TRY(info.copy_out(task.context(), s));
  return 0L;
}

Result<long> sys_getrandom(Task& task, UserOut<void> buf, size_t count, unsigned flags) {
  constexpr unsigned kInsecure = 4, kRandom = 2, kNonblock = 1;
  if (flags & ~(kInsecure | kRandom | kNonblock)) return kEINVAL;
  if ((flags & (kInsecure | kRandom)) == (kInsecure | kRandom)) return kEINVAL;
  count = std::min<size_t>(count, INT32_MAX);
  platform::Context& c = task.context();
  if (count <= 256) {
    unsigned char small[256];
    kernel::fill_random(small, count);
    if (count) TRY(c.copy_out(buf.unchecked_address(), small, count));
    return static_cast<long>(count);
  }
  size_t done = 0;
  while (done < count) {
    std::byte chunk[1024];
    size_t n = std::min(count - done, sizeof chunk);
    kernel::fill_random(chunk, n);
    Result<size_t> copied = c.copy_out_some(buf.unchecked_address() + done, chunk, n);
    if (!copied.ok() && done == 0) return copied.error();
    if (!copied.ok()) break;
    done += *copied;
    if (*copied < n) break;
    if (done % (64 * 1024) == 0) {
      if (task.signal_pending()) break;
      sched::yield();
    }
  }
  return static_cast<long>(done);
}

// An empty log. Linux: do_syslog() with dmesg_restrict off.
Result<long> sys_syslog(Task& task, int type, UserOut<void> buf, int len) {
  enum { kReadAll = 3, kSizeBuffer = 10, kRead = 2, kReadClear = 4, kLast = 10 };
  if (type < 0 || type > kLast) return kEINVAL;
  const auth::Credentials& c = task.own_credentials();
  if (type != kReadAll && type != kSizeBuffer && !c.has_cap(CAP_SYSLOG) && !c.has_cap(CAP_SYS_ADMIN)) return kEPERM;
  if (type == kRead || type == kReadAll || type == kReadClear) {
    if (buf.is_null() || len < 0) return kEINVAL;
    return 0L;
  }
  if (type == kSizeBuffer) return 16384L;
  return 0L;
}

Result<long> sys_membarrier(Task& task, int command, unsigned flags, int) {
  constexpr int kPrivate = MEMBARRIER_CMD_PRIVATE_EXPEDITED | MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED |
                           MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE |
                           MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE;
  if (flags != 0) return kEINVAL;
  if (command == MEMBARRIER_CMD_QUERY) return long{kPrivate};
  if (std::popcount(static_cast<unsigned>(command)) != 1 || !(command & kPrivate)) return kEINVAL;
  return static_cast<long>(TRY(task.context().host_membarrier(command)));
}

Result<long> sys_personality(Task& task, uint64_t persona) {
  constexpr uint32_t kQuery = 0xffffffff, kKindMask = 0xff;
  const uint32_t old = task.impl().personality.load();
  const uint32_t p = static_cast<uint32_t>(persona);
  if (p == kQuery) return long{old};
  if ((p & kKindMask) != 0 && (p & kKindMask) != PER_LINUX32) return kEINVAL;
  task.impl().personality = p;
  return long{old};
}

}  // namespace sentry::syscalls
