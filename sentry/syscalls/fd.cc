// SPDX-License-Identifier: Apache-2.0
// dup(2), fcntl(2), ioctl(2) for every file.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "sentry/fs/pipe/pipe.h"
#include "sentry/syscalls/locks.h"
#include "sentry/syscalls/paths.h"
#include "sentry/vfs/locks.h"

namespace sentry::syscalls {
namespace {

constexpr int kDupfdQuery = 1024 + 3;  // F_DUPFD_QUERY

Result<long> duplicate_at_least(Task& task, const Ref<vfs::File>& file, uint64_t at_least, bool cloexec) {
  uint64_t limit = task.rlimit(RLIMIT_NOFILE);
  if (at_least >= limit || at_least > INT32_MAX) return kEINVAL;
  auto slot = TRY(kernel::FdReservation::reserve(task.files(), limit, static_cast<int>(at_least)));
  return long{slot.commit(file, cloexec)};
}

Result<long> duplicate_onto(Task& task, const Ref<vfs::File>& file, int new_fd, bool cloexec) {
  Ref<kernel::FdTable> table = task.files();
  RefOrNull<vfs::File> old = TRY(table->replace(new_fd, file, cloexec, task.rlimit(RLIMIT_NOFILE)));
  if (old) IGNORE_ERROR(vfs::close_descriptor(*old, table.get()), "man 2 dup: errors of the silent close are lost");
  return long{new_fd};
}

// Linux: fs/fcntl.c setfl.
Result<long> set_status_flags(Task& task, vfs::File& f, int arg) {
  constexpr int kMutable = O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME;
  int old = f.flags();
  int next = (old & ~kMutable) | (arg & kMutable);
  if ((next & ~old & O_NOATIME)) {
    const auth::Credentials& cred = task.own_credentials();
    if (!cred.owns_or(TRY(f.inode().attributes()).uid, CAP_FOWNER)) return kEPERM;
  }
  TRY(f.flags_changing(next));
  f.set_flags(next);
  return 0L;
}

// struct f_owner_ex.
struct OwnerEx {
  int type, pid;
};

Result<long> set_owner(vfs::File& f, int pid) {
  if (pid == INT32_MIN) return kEINVAL;
  f.owner_pid.store(pid);
  return 0L;
}

Result<long> set_owner_ex(Task& task, vfs::File& f, uint64_t arg) {
  auto o = TRY(UserIn<OwnerEx>(arg).copy_in(task.context()));
  if (o.type < F_OWNER_TID || o.type > F_OWNER_PGRP || o.pid < 0) return kEINVAL;
  f.owner_pid.store(o.type == F_OWNER_PGRP ? -o.pid : o.pid);
  return 0L;
}

Result<long> get_owner_ex(Task& task, vfs::File& f, uint64_t arg) {
  int pid = f.owner_pid.load();
  OwnerEx o{pid < 0 ? F_OWNER_PGRP : F_OWNER_PID, pid < 0 ? -pid : pid};
  TRY(UserOut<OwnerEx>(arg).copy_out(task.context(), o));
  return 0L;
}

// What an O_PATH description may be asked (man 2 open).
bool works_on_path(int command) {
  switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
    case kDupfdQuery:
    case F_GETFD:
    case F_SETFD:
    case F_GETFL: return true;
    default: return false;
  }
}

}  // namespace

Result<long> sys_dup(Task& task, int fd) { return task.install(TRY(task.files()->get_path(fd)), false); }

Result<long> sys_dup2(Task& task, int old_fd, int new_fd) {
  Ref<vfs::File> file = TRY(task.files()->get_path(old_fd));
  if (old_fd == new_fd) return long{new_fd};
  return duplicate_onto(task, file, new_fd, false);
}

Result<long> sys_dup3(Task& task, int old_fd, int new_fd, int flags) {
  if ((flags & ~O_CLOEXEC) || old_fd == new_fd) return kEINVAL;
  return duplicate_onto(task, TRY(task.files()->get_path(old_fd)), new_fd, flags & O_CLOEXEC);
}

Result<long> sys_fcntl(Task& task, int fd, int command, uint64_t arg) {
  Ref<kernel::FdTable> table = task.files();
  Ref<vfs::File> f = TRY(table->get_path(fd));
  if ((f->flags() & O_PATH) && !works_on_path(command)) return kEBADF;
  switch (command) {
    case F_DUPFD: return duplicate_at_least(task, f, arg, false);
    case F_DUPFD_CLOEXEC: return duplicate_at_least(task, f, arg, true);
    case kDupfdQuery: return long{TRY(table->get_path(static_cast<int>(arg))).get() == f.get()};
    case F_GETFD: return long{TRY(table->cloexec(fd)) ? FD_CLOEXEC : 0};
    case F_SETFD: return done(table->set_cloexec(fd, arg & FD_CLOEXEC));
    case F_GETFL: return long{f->flags()};
    case F_SETFL: return set_status_flags(task, *f, static_cast<int>(arg));
    case F_GETLK:
    case F_OFD_GETLK: return get_lock(task, *f, arg, command == F_OFD_GETLK);
    case F_SETLK:
    case F_SETLKW: return set_lock(task, *f, arg, false, command == F_SETLKW);
    case F_OFD_SETLK:
    case F_OFD_SETLKW: return set_lock(task, *f, arg, true, command == F_OFD_SETLKW);
    case F_SETOWN: return set_owner(*f, static_cast<int>(arg));
    case F_GETOWN: return long{f->owner_pid.load()};
    case F_SETOWN_EX: return set_owner_ex(task, *f, arg);
    case F_GETOWN_EX: return get_owner_ex(task, *f, arg);
    case F_SETSIG:
      if (arg > kernel::kSignals) return kEINVAL;
      f->owner_signal.store(static_cast<int>(arg));
      return 0L;
    case F_GETSIG: return long{f->owner_signal.load()};
    case F_GETLEASE: return long{F_UNLCK};
    case F_NOTIFY:  // no signals about directories; to ask for none is no error
      if (!f->inode().is_directory()) return kENOTDIR;
      return (arg & ~static_cast<uint64_t>(DN_MULTISHOT)) == 0 ? Result<long>(0L) : Result<long>(kEINVAL);
    case F_SETLEASE: return arg == F_UNLCK ? kEAGAIN : kEINVAL;  // as on file systems without leases
    case F_GETPIPE_SZ: return fs::pipe::capacity(*f);
    case F_SETPIPE_SZ: {
      if (static_cast<uint32_t>(arg) > fs::pipe::kMaxCapacity && !task.own_credentials().has_cap(CAP_SYS_RESOURCE)) return kEPERM;
      return fs::pipe::set_capacity(*f, static_cast<uint32_t>(arg));
    }
    case F_ADD_SEALS:
      if (!f->writable()) return kEPERM;
      return done(f->inode().add_seals(static_cast<int>(arg)));
    case F_GET_SEALS: return long{TRY(f->inode().seals())};
    default: return kEINVAL;
  }
}

Result<long> sys_ioctl(Task& task, int fd, unsigned command, uint64_t arg) {
  Ref<vfs::File> f = TRY(task.file(fd));
  platform::Context& context = task.context();
  switch (command) {
    case FIOCLEX: return done(task.files()->set_cloexec(fd, true));
    case FIONCLEX: return done(task.files()->set_cloexec(fd, false));
    case FIONBIO:
    case FIOASYNC: {
      int on = TRY(UserIn<int>(arg).copy_in(context));
      int bit = command == FIONBIO ? O_NONBLOCK : O_ASYNC;
      return set_status_flags(task, *f, on ? f->flags() | bit : f->flags() & ~bit);
    }
    case FIONREAD:
      if (!f->inode().is_regular()) break;
      {
        int64_t left = static_cast<int64_t>(TRY(f->inode().attributes()).size) - f->position;
        TRY(UserOut<int>(arg).copy_out(context, static_cast<int>(std::clamp<int64_t>(left, INT32_MIN, INT32_MAX))));
        return 0L;
      }
    case FIOQSIZE: {
      vfs::Inode& i = f->inode();
      if (!i.is_regular() && !i.is_directory() && !i.is_symlink()) return kENOTTY;
      TRY(UserOut<int64_t>(arg).copy_out(context, static_cast<int64_t>(TRY(i.attributes()).size)));
      return 0L;
    }
    default: break;
  }
  return f->ioctl(context, command, arg);
}

}  // namespace sentry::syscalls
