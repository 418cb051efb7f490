// SPDX-License-Identifier: Apache-2.0
// Calls that make, remove, rename and read names; chdir, chroot, getcwd.
#include <linux/fs.h>
#include <unistd.h>

#include "sentry/syscalls/paths.h"

namespace sentry::syscalls {
namespace {

uint32_t masked(Task& task, uint32_t mode) { return mode & ~task.fs()->umask(); }

}  // namespace

Result<long> sys_mkdirat(Task& task, int dirfd, UserString path, uint32_t mode) {
  PathArgument p = TRY(path_argument(task, dirfd, path));
  return done(vfs::make_directory(p.from, p.text, masked(task, mode)));
}
Result<long> sys_mkdir(Task& task, UserString path, uint32_t mode) { return sys_mkdirat(task, AT_FDCWD, path, mode); }

Result<long> sys_mknodat(Task& task, int dirfd, UserString path, uint32_t mode, uint32_t dev) {
  PathArgument p = TRY(path_argument(task, dirfd, path));
  return done(vfs::make_node(p.from, p.text, masked(task, mode), dev));
}
Result<long> sys_mknod(Task& task, UserString path, uint32_t mode, uint32_t dev) {
  return sys_mknodat(task, AT_FDCWD, path, mode, dev);
}

Result<long> sys_unlinkat(Task& task, int dirfd, UserString path, int flags) {
  if (flags & ~AT_REMOVEDIR) return kEINVAL;
  PathArgument p = TRY(path_argument(task, dirfd, path));
  if (flags & AT_REMOVEDIR) return done(vfs::remove_directory(p.from, p.text));
  return done(vfs::remove_file(p.from, p.text));
}
Result<long> sys_unlink(Task& task, UserString path) { return sys_unlinkat(task, AT_FDCWD, path, 0); }
Result<long> sys_rmdir(Task& task, UserString path) { return sys_unlinkat(task, AT_FDCWD, path, AT_REMOVEDIR); }

Result<long> sys_renameat2(Task& task, int old_dirfd, UserString old_path, int new_dirfd, UserString new_path, unsigned flags) {
  if (flags & ~static_cast<unsigned>(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) return kEINVAL;
  if ((flags & RENAME_EXCHANGE) && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT))) return kEINVAL;
  PathArgument from = TRY(path_argument(task, old_dirfd, old_path));
  PathArgument to = TRY(path_argument(task, new_dirfd, new_path));
  return done(vfs::rename(from.from, from.text, to.from, to.text, flags));
}
Result<long> sys_renameat(Task& task, int old_dirfd, UserString old_path, int new_dirfd, UserString new_path) {
  return sys_renameat2(task, old_dirfd, old_path, new_dirfd, new_path, 0);
}
Result<long> sys_rename(Task& task, UserString old_path, UserString new_path) {
  return sys_renameat2(task, AT_FDCWD, old_path, AT_FDCWD, new_path, 0);
}

Result<long> sys_linkat(Task& task, int old_dirfd, UserString old_path, int new_dirfd, UserString new_path, int flags) {
  if (flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) return kEINVAL;
  // Linux 6.10 and later also let the descriptor's opener; before, and here, it takes the capability.
  if ((flags & AT_EMPTY_PATH) && !task.own_credentials().has_cap(CAP_DAC_READ_SEARCH)) return kENOENT;
  int at = (flags & AT_SYMLINK_FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW) | (flags & AT_EMPTY_PATH);
  vfs::Path existing = TRY(find_path(task, old_dirfd, old_path, at));
  PathArgument to = TRY(path_argument(task, new_dirfd, new_path));
  return done(vfs::make_link(existing, to.from, to.text));
}
Result<long> sys_link(Task& task, UserString old_path, UserString new_path) {
  return sys_linkat(task, AT_FDCWD, old_path, AT_FDCWD, new_path, 0);
}

Result<long> sys_symlinkat(Task& task, UserString target, int dirfd, UserString path) {
  std::string text = TRY(target.copy_in(task.context()));
  if (text.empty()) return kENOENT;
  PathArgument p = TRY(path_argument(task, dirfd, path));
  return done(vfs::make_symlink(p.from, text, p.text));
}
Result<long> sys_symlink(Task& task, UserString target, UserString path) { return sys_symlinkat(task, target, AT_FDCWD, path); }

Result<long> sys_readlinkat(Task& task, int dirfd, UserString path, UserOut<void> buf, int size) {
  if (size <= 0) return kEINVAL;
  PathArgument p = TRY(path_argument(task, dirfd, path));
  vfs::Path found = TRY(vfs::walk(p.from, p.text, vfs::kAllowEmpty));
  RefOrNull<vfs::Inode> inode = found.inode();
  if (!inode->is_symlink()) return p.text.empty() ? kENOENT : kEINVAL;
  std::string target = TRY(inode->read_link());
  size_t n = std::min(target.size(), static_cast<size_t>(size));
  TRY(buf.copy_bytes_out(task.context(), target.data(), n));
  return n;
}
Result<long> sys_readlink(Task& task, UserString path, UserOut<void> buf, int size) {
  return sys_readlinkat(task, AT_FDCWD, path, buf, size);
}

// ---- Where a process is ----

Result<long> sys_chdir(Task& task, UserString path) {
  PathArgument p = TRY(path_argument(task, AT_FDCWD, path));
  vfs::Path to = TRY(vfs::walk(p.from, p.text, vfs::kFollow | vfs::kDirectory));
  TRY(vfs::may_access(to, X_OK, *p.from.cred));
  task.fs()->set_cwd(std::move(to));
  return 0L;
}

Result<long> sys_fchdir(Task& task, int fd) {
  Ref<vfs::File> file = TRY(task.files()->get_path(fd));
  if (!file->inode().is_directory()) return kENOTDIR;
  TRY(vfs::may_access(file->path(), X_OK, task.own_credentials()));
  task.fs()->set_cwd(file->path());
  return 0L;
}

Result<long> sys_chroot(Task& task, UserString path) {
  PathArgument p = TRY(path_argument(task, AT_FDCWD, path));
  vfs::Path to = TRY(vfs::walk(p.from, p.text, vfs::kFollow | vfs::kDirectory));
  TRY(vfs::may_access(to, X_OK, *p.from.cred));
  if (!task.own_credentials().has_own_cap(CAP_SYS_CHROOT)) return kEPERM;
  task.fs()->set_root(std::move(to));
  return 0L;
}

Result<long> sys_getcwd(Task& task, UserOut<void> buf, size_t size) {
  Ref<kernel::FsContext> fs = task.fs();
  vfs::Path cwd = fs->cwd();
  if (cwd.dentry->is_unlinked()) return kENOENT;
  std::string text = vfs::path_text(*fs->mounts(), cwd, fs->root());
  size_t n = text.size() + 1;
  if (n > 4096) return kENAMETOOLONG;
  if (n > size) return kERANGE;
  TRY(buf.copy_bytes_out(task.context(), text.c_str(), n));
  return n;
}

}  // namespace sentry::syscalls
