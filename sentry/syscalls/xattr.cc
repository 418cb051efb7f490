// SPDX-License-Identifier: Apache-2.0
// The extended attribute calls.
#include "sentry/vfs/xattr.h"

#include <sys/xattr.h>

#include <cstring>

#include "sentry/syscalls/paths.h"

namespace sentry::syscalls {
namespace {

constexpr size_t kMaxName = 255, kMaxValue = 65536, kMaxList = 65536;

Result<std::string> name_of(Task& task, UserIn<char> name) {
  Result<std::string> s = task.context().copy_in_string(name.unchecked_address(), kMaxName + 1);
  if (!s.ok()) return s.error() == kENAMETOOLONG ? kERANGE : s.error();
  if (s->empty() || s->size() > kMaxName) return kERANGE;
  return s;
}

// What a path or a descriptor names.
Result<vfs::Path> by_path(Task& task, UserString path, bool follow) {
  return find_path(task, AT_FDCWD, path, follow ? 0 : AT_SYMLINK_NOFOLLOW);
}
Result<vfs::Path> by_fd(Task& task, int fd) { return TRY(task.file(fd))->path(); }

struct Setting {
  std::string name, value;
};
Result<Setting> setting_of(Task& task, UserIn<char> name, UserIn<void> value, size_t size, int flags) {
  if (flags & ~(XATTR_CREATE | XATTR_REPLACE)) return kEINVAL;
  Setting s;
  s.name = TRY(name_of(task, name));
  if (size > kMaxValue) return kE2BIG;
  s.value.resize(size);
  if (size) TRY(value.copy_bytes_in(task.context(), s.value.data(), size));
  return s;
}
Result<long> set(Task& task, const vfs::Path& p, const Setting& s, int flags) {
  return done(vfs::set_xattr(p, s.name, s.value, flags, task.own_credentials()));
}

// size 0 asks how much it would be.
Result<long> give(Task& task, const std::string& bytes, UserOut<void> out, size_t size) {
  if (size == 0) return bytes.size();
  if (bytes.size() > size) return kERANGE;
  if (!bytes.empty()) TRY(out.copy_bytes_out(task.context(), bytes.data(), bytes.size()));
  return bytes.size();
}
Result<long> get(Task& task, Result<vfs::Path> at, UserIn<char> name, UserOut<void> value, size_t size) {
  vfs::Path p = TRY(std::move(at));
  std::string n = TRY(name_of(task, name));
  return give(task, TRY(vfs::get_xattr(p, n, task.own_credentials())), value, size);
}
Result<long> list(Task& task, Result<vfs::Path> at, UserOut<void> out, size_t size) {
  vfs::Path p = TRY(std::move(at));
  std::string all;
  for (const std::string& n : TRY(vfs::list_xattr(p, task.own_credentials()))) {
    all += n;
    all += '\0';
  }
  if (all.size() > kMaxList) return kE2BIG;
  return give(task, all, out, size);
}
Result<long> remove(Task& task, Result<vfs::Path> at, UserIn<char> name) {
  vfs::Path p = TRY(std::move(at));
  std::string n = TRY(name_of(task, name));
  return done(vfs::remove_xattr(p, n, task.own_credentials()));
}

}  // namespace

Result<long> sys_setxattr(Task& task, UserString path, UserIn<char> name, UserIn<void> value, size_t size, int flags) {
  Setting s = TRY(setting_of(task, name, value, size, flags));
  return set(task, TRY(by_path(task, path, true)), s, flags);
}
Result<long> sys_lsetxattr(Task& task, UserString path, UserIn<char> name, UserIn<void> value, size_t size, int flags) {
  Setting s = TRY(setting_of(task, name, value, size, flags));
  return set(task, TRY(by_path(task, path, false)), s, flags);
}
Result<long> sys_fsetxattr(Task& task, int fd, UserIn<char> name, UserIn<void> value, size_t size, int flags) {
  vfs::Path p = TRY(by_fd(task, fd));
  return set(task, p, TRY(setting_of(task, name, value, size, flags)), flags);
}
Result<long> sys_getxattr(Task& task, UserString path, UserIn<char> name, UserOut<void> value, size_t size) {
  return get(task, by_path(task, path, true), name, value, size);
}
Result<long> sys_lgetxattr(Task& task, UserString path, UserIn<char> name, UserOut<void> value, size_t size) {
  return get(task, by_path(task, path, false), name, value, size);
}
Result<long> sys_fgetxattr(Task& task, int fd, UserIn<char> name, UserOut<void> value, size_t size) {
  return get(task, by_fd(task, fd), name, value, size);
}
Result<long> sys_listxattr(Task& task, UserString path, UserOut<void> out, size_t size) {
  return list(task, by_path(task, path, true), out, size);
}
Result<long> sys_llistxattr(Task& task, UserString path, UserOut<void> out, size_t size) {
  return list(task, by_path(task, path, false), out, size);
}
Result<long> sys_flistxattr(Task& task, int fd, UserOut<void> out, size_t size) {
  return list(task, by_fd(task, fd), out, size);
}
Result<long> sys_removexattr(Task& task, UserString path, UserIn<char> name) {
  return remove(task, by_path(task, path, true), name);
}
Result<long> sys_lremovexattr(Task& task, UserString path, UserIn<char> name) {
  return remove(task, by_path(task, path, false), name);
}
Result<long> sys_fremovexattr(Task& task, int fd, UserIn<char> name) { return remove(task, by_fd(task, fd), name); }

// ---- By directory descriptor (Linux 6.13) ----

namespace {

struct XattrArgs {
  uint64_t value;
  uint32_t size, flags;
};
constexpr size_t kArgsSize = 16;

Result<vfs::Path> at_path(Task& task, int dirfd, UserString path, unsigned flags) {
  if (flags & ~static_cast<unsigned>(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) return kEINVAL;
  return find_path(task, dirfd, path, static_cast<int>(flags));
}
// Larger structures must be zero beyond what is known. Linux: copy_struct_from_user().
Result<XattrArgs> args_of(Task& task, UserIn<void> args, size_t size) {
  if (size < kArgsSize) return kEINVAL;
  if (size > platform::kPageSize) return kE2BIG;
  std::vector<char> bytes(size);
  TRY(args.copy_bytes_in(task.context(), bytes.data(), size));
  for (size_t i = kArgsSize; i < size; i++)
    if (bytes[i]) return kE2BIG;
  XattrArgs a;
  memcpy(&a, bytes.data(), sizeof a);
  return a;
}

}  // namespace

Result<long> sys_setxattrat(Task& task, int dirfd, UserString path, unsigned at_flags, UserIn<char> name, UserIn<void> args,
                            size_t size) {
  XattrArgs a = TRY(args_of(task, args, size));
  Setting s = TRY(setting_of(task, name, UserIn<void>(a.value), a.size, static_cast<int>(a.flags)));
  return set(task, TRY(at_path(task, dirfd, path, at_flags)), s, static_cast<int>(a.flags));
}
Result<long> sys_getxattrat(Task& task, int dirfd, UserString path, unsigned at_flags, UserIn<char> name, UserIn<void> args,
                            size_t size) {
  XattrArgs a = TRY(args_of(task, args, size));
  if (a.flags != 0) return kEINVAL;
  return get(task, at_path(task, dirfd, path, at_flags), name, UserOut<void>(a.value), a.size);
}
Result<long> sys_listxattrat(Task& task, int dirfd, UserString path, unsigned at_flags, UserOut<void> out, size_t size) {
  return list(task, at_path(task, dirfd, path, at_flags), out, size);
}
Result<long> sys_removexattrat(Task& task, int dirfd, UserString path, unsigned at_flags, UserIn<char> name) {
  return remove(task, at_path(task, dirfd, path, at_flags), name);
}

}  // namespace sentry::syscalls
