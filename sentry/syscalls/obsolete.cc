// SPDX-License-Identifier: Apache-2.0
// Old and rare calls: ustat, sysfs, vhangup, file handles, the kernel's clock parameters.
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>

#include "sentry/syscalls/paths.h"

namespace sentry::syscalls {
namespace {

constexpr std::string_view kTypes[] = {"sysfs", "tmpfs", "proc", "cgroup", "cgroup2", "devtmpfs", "devpts", "mqueue", "overlay"};

// struct ustat of amd64.
struct UstatAbi {
  int32_t free_blocks;
  uint64_t free_inodes;
  char name[6], pack[6];
};

// The clock is the host's: it can be read, never set.
Result<long> read_clock(Task& task, UserInOut<void> buf, int clock) {
  timex t = TRY(UserIn<timex>(buf.unchecked_address()).copy_in(task.context()));
  if (t.modes != 0) return kEPERM;
  timespec now;
  clock_gettime(clock, &now);
  t = timex{};
  t.status = STA_UNSYNC;
  t.maxerror = t.esterror = 16000000;
  t.constant = 2;
  t.precision = 1;
  t.tolerance = 32768000;
  t.tick = 10000;
  t.time = {now.tv_sec, now.tv_nsec / 1000};
  TRY(UserOut<timex>(buf.unchecked_address()).copy_out(task.context(), t));
  return long{TIME_ERROR};
}

}  // namespace

Result<long> sys_adjtimex(Task& task, UserInOut<void> buf) { return read_clock(task, buf, CLOCK_REALTIME); }
Result<long> sys_clock_adjtime(Task& task, int clock, UserInOut<void> buf) {
  if (clock == CLOCK_REALTIME) return read_clock(task, buf, clock);
  if (clock < 0 || clock > CLOCK_TAI || clock == 10) return kEINVAL;
  return kEOPNOTSUPP;
}

Result<long> sys_ustat(Task& task, uint32_t device, UserOut<void> buf) {
  Ref<kernel::FsContext> fs = task.fs();
  // The number as struct stat has it, cut to 32 bits.
  for (auto& m : fs->mounts()->list(fs->mounts()->root())) {
    if (static_cast<uint32_t>(m.mount->fs()->device()) != device) continue;
    vfs::FsStat s = m.mount->fs()->statfs();
    UstatAbi u{};
    u.free_blocks = static_cast<int32_t>(s.bfree);
    u.free_inodes = s.ffree;
    TRY(buf.copy_bytes_out(task.context(), &u, sizeof u));
    return 0L;
  }
  return kEINVAL;
}

Result<long> sys_sysfs(Task& task, int option, uint64_t a1, uint64_t a2) {
  switch (option) {
    case 1: {
      std::string name = TRY(UserString(a1).copy_in(task.context()));
      for (size_t i = 0; i < std::size(kTypes); i++)
        if (kTypes[i] == name) return i;
      return kEINVAL;
    }
    case 2:
      if (a1 >= std::size(kTypes)) return kEINVAL;
      TRY(UserOut<void>(a2).copy_bytes_out(task.context(), std::string(kTypes[a1]).c_str(), kTypes[a1].size() + 1));
      return 0L;
    case 3: return std::size(kTypes);
    default: return kEINVAL;
  }
}

Result<long> sys_vhangup(Task& task) {
  if (!task.own_credentials().has_cap(CAP_SYS_TTY_CONFIG)) return kEPERM;
  Ref<kernel::Session> s = task.group().session();
  if (RefOrNull<kernel::TtyLink> tty = s->tty()) tty->session_leader_exited(*s);
  return 0L;
}

// As overlayfs without nfs_export: no file has a handle.
Result<long> sys_name_to_handle_at(Task& task, int dirfd, UserString path, UserIn<uint64_t> handle, UserOut<int>, int flags) {
  constexpr int kKnown = AT_SYMLINK_FOLLOW | AT_EMPTY_PATH | 0x200 /* AT_HANDLE_FID */ | 1 /* AT_HANDLE_MNT_ID_UNIQUE */;
  if (flags & ~kKnown) return kEINVAL;
  TRY(find_path(task, dirfd, path, (flags & AT_SYMLINK_FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW) | (flags & AT_EMPTY_PATH)));
  TRY(handle.copy_in(task.context()));
  return kEOPNOTSUPP;
}
Result<long> sys_open_by_handle_at(Task& task, int, UserIn<uint64_t> handle, int) {
  uint64_t h = TRY(handle.copy_in(task.context()));
  if ((h & 0xffffffff) == 0 || (h & 0xffffffff) > 128) return kEINVAL;
  if (!task.own_credentials().has_cap(CAP_DAC_READ_SEARCH)) return kEPERM;
  return kESTALE;
}

}  // namespace sentry::syscalls
