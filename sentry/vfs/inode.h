// SPDX-License-Identifier: Apache-2.0
// Inodes and file systems: what a file system implements. Names are single components, already checked by the walk:
// not empty, not "." or "..", at most 255 bytes, no '/'. Permission checks on directories and the sticky bit are the VFS's;
// calls that change a directory come with its lock held (SleepMutex), so they may park.
#pragma once

#include <sys/stat.h>
#include <time.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sentry/auth/credentials.h"
#include "sentry/mm/address_space.h"
#include "sentry/sched/wait.h"

namespace sentry::vfs {

class Attachment;
class Dentry;
class File;
class FileSystem;
class Inode;
struct Path;

// What stat(2) and statx(2) tell.
struct Attributes {
  uint64_t ino = 0, dev = 0, size = 0, blocks = 0, rdev = 0;
  uint32_t mode = 0, nlink = 1, uid = 0, gid = 0, blksize = 4096;
  timespec atime{}, mtime{}, ctime{}, btime{};
};

struct SetAttributes {
  enum Mask : uint32_t { kMode = 1, kUid = 2, kGid = 4, kSize = 8, kAtime = 16, kMtime = 32, kAtimeNow = 64, kMtimeNow = 128 };
  uint32_t mask = 0;
  uint32_t mode = 0, uid = 0, gid = 0;
  uint64_t size = 0;
  timespec atime{}, mtime{};
};

// For a new inode: type and permission bits (umask applied), owner, device number.
struct CreateRequest {
  uint32_t mode = 0;
  uint32_t uid = 0, gid = 0;
  uint64_t rdev = 0;
};

struct FsStat {
  uint64_t type = 0, bsize = 4096, blocks = 0, bfree = 0, bavail = 0, files = 0, ffree = 0, namelen = 255, flags = 0;
  uint64_t fsid = 0;
};

// CLOCK_REALTIME as file systems stamp it (a tick's precision, as Linux's current_time()).
timespec current_time();

// The rule of Linux's generic_permission() and its capabilities: may cred do mask (R_OK|W_OK|X_OK) to a file of this
// type, mode and owner? EACCES.
Result<void> check_mode(const auth::Credentials& cred, int mask, uint32_t mode, uint32_t uid, uint32_t gid);

// What a part of the kernel hangs on an inode: the pipe of a FIFO, the socket bound to a name. Held by: the inode.
class Attachment : public RefCounted<Attachment> {
 public:
  // Another description of a nameless inode, by way of /proc/PID/fd/N (a pipe's other end, a host file of stdio).
  virtual Result<Ref<File>> reopen(const Path&, int /*flags*/, const Ref<auth::Credentials>&);

 protected:
  friend class RefCounted<Attachment>;
  virtual ~Attachment() = default;
};

// POSIX and BSD locks of one inode (fs/locks.c); in vfs/locks.h.
class LockList;
// inotify's watches of one inode; in vfs/notify.h.
struct WatchList;

// Held by: dentries, open files. One object per file of a mounted file system.
class Inode : public RefCounted<Inode> {
 public:
  FileSystem& fs() const { return fs_; }
  // The type bits never change.
  bool is_directory() const { return S_ISDIR(type_); }
  bool is_symlink() const { return S_ISLNK(type_); }
  bool is_regular() const { return S_ISREG(type_); }
  uint32_t type() const { return type_; }  // S_IFMT bits

  virtual Result<Attributes> attributes() = 0;
  virtual Result<void> set_attributes(const SetAttributes&) { return kEPERM; }
  // Owner, group and mode, for permission checks; default asks attributes().
  virtual Result<void> check_access(const auth::Credentials& cred, int mask);  // mask: MAY_* = R_OK|W_OK|X_OK

  // Directories. lookup: null when there is no such name (a negative entry may be cached).
  virtual Result<RefOrNull<Inode>> lookup(std::string_view) { return kENOTDIR; }
  virtual Result<Ref<Inode>> create(std::string_view, const CreateRequest&) { return kEROFS; }  // regular, FIFO, socket, device
  virtual Result<Ref<Inode>> mkdir(std::string_view, const CreateRequest&) { return kEROFS; }
  virtual Result<Ref<Inode>> symlink(std::string_view, std::string_view /*target*/, const CreateRequest&) { return kEROFS; }
  virtual Result<void> link(std::string_view, Inode& /*existing*/) { return kEROFS; }
  virtual Result<void> unlink(std::string_view, Inode& /*victim*/) { return kEROFS; }
  virtual Result<void> rmdir(std::string_view, Inode& /*victim*/) { return kEROFS; }
  // flags: RENAME_NOREPLACE (already checked), RENAME_EXCHANGE, RENAME_WHITEOUT. replaced may be null.
  virtual Result<void> rename(std::string_view, Inode& /*moved*/, Inode& /*new_dir*/, std::string_view /*new_name*/,
                              Inode* /*replaced*/, unsigned /*flags*/) { return kEROFS; }
  // O_TMPFILE.
  virtual Result<Ref<Inode>> create_unnamed(const CreateRequest&) { return kEOPNOTSUPP; }

  virtual Result<std::string> read_link() { return kEINVAL; }
  // A symlink that is not text but a jump (/proc/PID/fd/N, exe, cwd, root): where it leads. ENOENT: follow read_link().
  virtual Result<Path> jump();

  // A description for this inode. Truncation (O_TRUNC), permissions and O_CREAT are done. dentry is where it was found.
  virtual Result<Ref<File>> open(const Path& where, int flags, const Ref<auth::Credentials>& cred) = 0;

  virtual Result<std::string> get_xattr(const std::string& /*name*/) { return kEOPNOTSUPP; }
  virtual Result<void> set_xattr(const std::string&, std::string_view /*value*/, int /*flags*/) { return kEOPNOTSUPP; }
  virtual Result<std::vector<std::string>> list_xattr() { return std::vector<std::string>{}; }
  virtual Result<void> remove_xattr(const std::string&) { return kEOPNOTSUPP; }

  // Made by O_TMPFILE with O_EXCL: never linked.
  std::atomic<bool> stays_unnamed{false};

  // F_GET_SEALS, F_ADD_SEALS: files of tmpfs and memfds.
  virtual Result<int> seals() { return kEINVAL; }
  virtual Result<void> add_seals(int) { return kEINVAL; }

  // Cached dentries of this directory stay true until the VFS changes them. False (proc, shared mounts): ask again.
  virtual bool dentries_are_stable() const { return true; }

  // Directory changes and size changes of this inode (Linux: i_rwsem). Ancestors before descendants, else by address.
  sched::SleepMutex& lock() { return lock_; }
  LockList& locks();  // made on first use
  LockList* find_locks() const { return locks_.load(std::memory_order_acquire); }  // null: never had one
  WatchList* watches() const { return watches_.load(std::memory_order_acquire); }  // null: never had one
  WatchList* set_watches(WatchList* fresh);  // unless there is one; returns what there is now
  // Open descriptions, O_PATH ones included.
  int open_files() const { return open_files_.load(std::memory_order_relaxed); }
  void file_opened() { open_files_.fetch_add(1, std::memory_order_relaxed); }
  void file_closed() { open_files_.fetch_sub(1, std::memory_order_relaxed); }
  RefOrNull<Attachment> attachment() const EXCLUDES(attachment_mu_);
  // Hangs `a` on it unless something hangs there already; returns what hangs there now.
  Ref<Attachment> attach(Ref<Attachment> a) EXCLUDES(attachment_mu_);
  void detach() EXCLUDES(attachment_mu_);
  // Writers (deny exec: ETXTBSY) and executions (deny write). Linux: i_writecount.
  Result<void> get_write_access();
  void put_write_access();
  Result<void> deny_write_access();
  void allow_write_access();

 protected:
  Inode(FileSystem& fs, uint32_t mode) : fs_(fs), type_(mode & S_IFMT) {}
  friend class RefCounted<Inode>;
  virtual ~Inode();

 private:
  FileSystem& fs_;
  const uint32_t type_;
  sched::SleepMutex lock_;
  std::atomic<int> write_count_{0};
  std::atomic<int> open_files_{0};
  std::atomic<LockList*> locks_{nullptr};
  std::atomic<WatchList*> watches_{nullptr};
  mutable Mutex attachment_mu_{LockRank::kFilePrivate};
  RefOrNull<Attachment> attachment_ GUARDED_BY(attachment_mu_);
};

// A mounted instance (Linux: super_block). Held by: mounts, dentries; inodes borrow it: who keeps an inode keeps a path to it.
// While mounted it keeps its root dentry and recently used dentries; both go with its last mount.
class FileSystem : public RefCounted<FileSystem> {
 public:
  virtual Ref<Inode> root() = 0;
  virtual FsStat statfs() = 0;
  virtual const char* type_name() const = 0;   // as in /proc/mounts
  virtual std::string options() const { return {}; }  // extra options for /proc/mounts, "size=64k"
  virtual Result<void> sync() { return {}; }
  // Of whoever may mount it without privileges elsewhere: its device nodes are not opened. Null: the first one. Linux: s_user_ns.
  const RefOrNull<auth::UserNamespace>& user_ns() const { return user_ns_; }
  void set_user_ns(RefOrNull<auth::UserNamespace> ns) { user_ns_ = std::move(ns); }  // before anybody else sees it
  // Nothing in it can be changed, through whichever mount. Linux: SB_RDONLY.
  bool super_read_only() const { return super_read_only_.load(std::memory_order_relaxed); }
  void set_super_read_only(bool on) { super_read_only_.store(on, std::memory_order_relaxed); }
  uint64_t device() const { return device_; }  // st_dev of its inodes unless they say otherwise
  // Held while a directory moves to another parent (Linux: s_vfs_rename_mutex); taken before directory locks.
  sched::SleepMutex& rename_lock() { return rename_lock_; }

 protected:
  FileSystem();
  friend class RefCounted<FileSystem>;
  virtual ~FileSystem();

 private:
  friend struct DentryAccess;
  struct DentryCache;
  std::unique_ptr<DentryCache> dentries_;
  sched::SleepMutex rename_lock_;
  RefOrNull<auth::UserNamespace> user_ns_;
  std::atomic<bool> super_read_only_{false};
  uint64_t device_;  // anonymous: major 0, next minor
};

}  // namespace sentry::vfs
