// SPDX-License-Identifier: Apache-2.0
// File systems configured by descriptor: fsopen(2), fspick(2), fsconfig(2), fsmount(2). Linux: fs/fsopen.c, fs/fs_context.c.
#include <sys/mount.h>

#include <algorithm>
#include <deque>

#include "sentry/syscalls/mount.h"
#include "sentry/syscalls/paths.h"

namespace sentry::syscalls {
namespace {

// linux/mount.h: C libraries have them under conditions.
enum Command : unsigned { kSetFlag, kSetString, kSetBinary, kSetPath, kSetPathEmpty, kSetFd, kCreate, kReconfigure, kCreateExcl };
constexpr unsigned kFsCloexec = 1;  // FSOPEN_, FSMOUNT_ and FSPICK_CLOEXEC
constexpr unsigned kPickNoFollow = 2, kPickNoAutomount = 4, kPickEmpty = 8;
constexpr uint64_t kFsmountAttrs = 1 | 2 | 4 | 8 | 0x70 | 0x80 | 0x200000;
constexpr size_t kMaxKey = 256, kMaxOptions = 4096, kMaxMessages = 8;

// What a type takes besides what all take. Linux: its fs_parameter_spec. Those of tmpfs are checked by making one.
bool knows(std::string_view type, std::string_view key) {
  auto one_of = [&](std::initializer_list<std::string_view> keys) { return std::find(keys.begin(), keys.end(), key) != keys.end(); };
  if (type == "tmpfs" || type == "shm")
    return one_of({"size", "nr_blocks", "nr_inodes", "mode", "uid", "gid", "huge", "mpol", "inode32", "inode64", "noswap"});
  if (type == "ramfs") return one_of({"mode"});
  if (type == "proc") return one_of({"gid", "hidepid", "subset"});
  if (type == "devpts") return one_of({"uid", "gid", "mode", "ptmxmode", "newinstance", "max"});
  if (type == "cgroup2") return one_of({"nsdelegate", "favordynmods", "memory_localevents", "memory_recursiveprot", "memory_hugetlb_accounting", "pids_localevents"});
  return type == "cgroup";
}

struct SuperFlag {
  std::string_view key;
  uint64_t set, clear;
};
constexpr SuperFlag kSuperFlags[] = {
    {"ro", MS_RDONLY, 0}, {"rw", 0, MS_RDONLY}, {"sync", MS_SYNCHRONOUS, 0}, {"async", 0, MS_SYNCHRONOUS}, {"dirsync", MS_DIRSYNC, 0},
    {"lazytime", MS_LAZYTIME, 0}, {"nolazytime", 0, MS_LAZYTIME}, {"mand", MS_MANDLOCK, 0}, {"nomand", 0, MS_MANDLOCK},
};

// A file system on its way to a mount. Linux: struct fs_context.
class FsContextFile final : public vfs::File {
 public:
  static constexpr vfs::FileKind kKind = vfs::FileKind::fscontext;
  enum class Phase : uint8_t { params, mountable, mounted, reconfiguring, failed };

  FsContextFile(const vfs::Path& path, std::string type, RefOrNull<vfs::FileSystem> fs, Ref<auth::Credentials> cred)
      : File(kKind, path, path.inode().get_ref(), O_RDWR, std::move(cred)), type_(std::move(type)),
        phase_(fs ? Phase::reconfiguring : Phase::params), super_flags_(fs && fs->super_read_only() ? uint64_t{MS_RDONLY} : 0), fs_(std::move(fs)) {}

  // One message of what went wrong at a time.
  Result<size_t> read(std::span<std::byte> dst, int64_t*, vfs::IoFlags) override {
    sched::SleepLock l(mu_);
    if (messages_.empty()) return kENODATA;
    std::string text = std::move(messages_.front());
    messages_.pop_front();
    if (text.size() > dst.size()) return kEMSGSIZE;
    memcpy(dst.data(), text.data(), text.size());
    return text.size();
  }
  bool message_oriented() const override { return true; }

  Result<void> set(Task& task, const std::string& key, const std::optional<std::string>& value) {
    sched::SleepLock l(mu_);
    start_again();
    if (phase_ != Phase::params && phase_ != Phase::reconfiguring) return kEBUSY;
    if (key.empty()) return fail("Unnamed parameter");
    for (const SuperFlag& f : kSuperFlags) {
      if (f.key != key) continue;
      super_flags_ = (super_flags_ & ~f.clear) | f.set;
      return {};
    }
    if (knows(type_, key)) return set_own(task, key, value);
    if (key != "source") return fail(type_ + ": Unknown parameter '" + key + "'");
    if (!value) return fail(type_ + ": Non-string source");
    if (source_) return fail(type_ + ": Multiple sources");
    source_ = *value;
    return {};
  }

  Result<void> create(Task& task) {
    sched::SleepLock l(mu_);
    start_again();
    if (phase_ != Phase::params) return kEBUSY;
    TRY(may_make(task, type_));
    phase_ = Phase::failed;
    Ref<vfs::FileSystem> fs = TRY(make_file_system(task, type_, options_));
    if (type_ != "mqueue") fs->set_super_read_only(super_flags_ & MS_RDONLY);  // that one has been there all along
    fs_ = std::move(fs);
    phase_ = Phase::mountable;
    return {};
  }

  Result<void> reconfigure(Task& task) {
    sched::SleepLock l(mu_);
    start_again();
    if (phase_ != Phase::reconfiguring) return kEBUSY;
    if (!task.own_credentials().has_cap_in(fs_->user_ns().get(), CAP_SYS_ADMIN)) {
      phase_ = Phase::failed;
      return kEPERM;
    }
    fs_->set_super_read_only(super_flags_ & MS_RDONLY);
    return {};
  }

  Result<Ref<vfs::MountNamespace>> mount(Task& task, uint64_t flags) {
    sched::SleepLock l(mu_);
    if (!fs_) return kEINVAL;
    TRY(may_show(task, type_, flags | super_flags_));
    if (phase_ != Phase::mountable) return kEBUSY;
    phase_ = Phase::mounted;
    constexpr uint64_t kOfTheMount = MS_SYNCHRONOUS | MS_DIRSYNC | MS_LAZYTIME | MS_MANDLOCK;
    return vfs::MountNamespace::detached(fs_.get_ref(), flags | (super_flags_ & kOfTheMount), source_.value_or("none"));
  }

 private:
  // After fsmount(2) it is there to change what was mounted. Linux: finish_clean_context().
  void start_again() {
    if (phase_ == Phase::mounted) phase_ = Phase::reconfiguring;
  }
  Errno fail(std::string text) {
    if (messages_.size() == kMaxMessages) messages_.pop_front();
    messages_.push_back("e " + std::move(text) + "\n");
    return kEINVAL;
  }
  Result<void> set_own(Task& task, const std::string& key, const std::optional<std::string>& value) {
    const std::string option = value ? key + "=" + *value : key;
    if (option.find(',') != std::string::npos || options_.size() + option.size() + 1 > kMaxOptions) return fail(type_ + ": Bad value for '" + key + "'");
    // Differs from Linux: what is changed of a file system that is mounted is ro and rw.
    if (phase_ == Phase::reconfiguring) return fail(type_ + ": '" + key + "' cannot be changed");
    if (auto tried = make_file_system(task, type_, option); !tried.ok()) {
      if (tried.error() != kEINVAL) return tried.error();
      return fail(type_ + ": Bad value for '" + key + "'");
    }
    options_ += (options_.empty() ? "" : ",") + option;
    return {};
  }

  sched::SleepMutex mu_;
  const std::string type_;
  Phase phase_;
  uint64_t super_flags_;
  std::string options_;
  std::optional<std::string> source_;
  RefOrNull<vfs::FileSystem> fs_;
  std::deque<std::string> messages_;
};

// strndup_user(): EINVAL when it does not end in time.
Result<std::string> text_in(Task& task, uint64_t address, size_t limit) {
  Result<std::string> s = task.context().copy_in_string(address, limit);
  if (!s.ok() && s.error() == kENAMETOOLONG) return kEINVAL;
  return s;
}

Result<long> install(Task& task, std::string type, RefOrNull<vfs::FileSystem> fs, bool cloexec) {
  auto fd = TRY(kernel::FdReservation::reserve(task.files(), task.rlimit(RLIMIT_NOFILE)));
  vfs::Path path = vfs::make_anonymous_path("anon_inode:[fscontext]", 0600, task.own_credentials());
  return long{fd.commit(make_ref<FsContextFile>(path, std::move(type), std::move(fs), task.credentials()), cloexec)};
}

// EINVAL: these arguments do not go with the command.
Result<void> check_arguments(unsigned command, bool key, bool value, int aux) {
  auto need = [](bool ok) -> Result<void> {
    if (!ok) return kEINVAL;
    return {};
  };
  switch (command) {
    case kSetFlag: return need(key && !value && !aux);
    case kSetString: return need(key && value && !aux);
    case kSetBinary: return need(key && value && aux > 0 && aux <= 1024 * 1024);
    case kSetPath:
    case kSetPathEmpty: return need(key && value && (aux == AT_FDCWD || aux >= 0));
    case kSetFd: return need(key && !value && aux >= 0);
    case kCreate:
    case kReconfigure:
    case kCreateExcl: return need(!key && !value && !aux);
  }
  return kEOPNOTSUPP;
}

}  // namespace

Result<long> sys_fsopen(Task& task, UserString name, unsigned flags) {
  if (!may_mount(task)) return kEPERM;
  if (flags & ~kFsCloexec) return kEINVAL;
  std::string type = TRY(text_in(task, name.unchecked_address(), 4096));
  // ENODEV: no such type.
  if (auto tried = make_file_system(task, type, ""); !tried.ok() && tried.error() == kENODEV) return kENODEV;
  return install(task, std::move(type), nullptr, flags & kFsCloexec);
}

Result<long> sys_fspick(Task& task, int dirfd, UserString path, unsigned flags) {
  if (!may_mount(task)) return kEPERM;
  if (flags & ~(kFsCloexec | kPickNoFollow | kPickNoAutomount | kPickEmpty)) return kEINVAL;
  vfs::Path at = TRY(find_path(task, dirfd, path, (flags & kPickNoFollow ? AT_SYMLINK_NOFOLLOW : 0) | (flags & kPickEmpty ? AT_EMPTY_PATH : 0)));
  if (!at.mount || at.dentry.get() != at.mount->root().get()) return kEINVAL;
  return install(task, at.mount->fs()->type_name(), at.mount->fs(), flags & kFsCloexec);
}

Result<long> sys_fsconfig(Task& task, int fd, unsigned command, UserIn<char> key, UserIn<void> value, int aux) {
  if (fd < 0) return kEINVAL;
  TRY(check_arguments(command, !key.is_null(), !value.is_null(), aux));
  Ref<vfs::File> file = TRY(task.file(fd));
  FsContextFile* context = file->as<FsContextFile>();
  if (!context) return kEINVAL;
  std::string name;
  if (!key.is_null()) name = TRY(text_in(task, key.unchecked_address(), kMaxKey));
  switch (command) {
    case kSetFlag: return done(context->set(task, name, std::nullopt));
    case kSetString: return done(context->set(task, name, TRY(text_in(task, value.unchecked_address(), kMaxKey))));
    case kCreate:
    case kCreateExcl: return done(context->create(task));
    case kReconfigure: return done(context->reconfigure(task));
    default: return done(context->set(task, name, std::nullopt));  // no type here has parameters of these kinds
  }
}

Result<long> sys_fsmount(Task& task, int fd, unsigned flags, unsigned attributes) {
  if (!may_mount(task)) return kEPERM;
  if (flags & ~kFsCloexec) return kEINVAL;
  if (attributes & ~kFsmountAttrs) return kEINVAL;
  const uint64_t mount_flags = mount_flags_of(attributes) | TRY(atime_flags_of(attributes));
  Ref<vfs::File> file = TRY(task.file(fd));
  FsContextFile* context = file->as<FsContextFile>();
  if (!context) return kEINVAL;
  auto number = TRY(kernel::FdReservation::reserve(task.files(), task.rlimit(RLIMIT_NOFILE)));
  Ref<vfs::MountNamespace> tree = TRY(context->mount(task, mount_flags));
  vfs::Path top = tree->root();
  return long{number.commit(vfs::make_path_file(top, O_PATH, task.credentials(), tree), flags & kFsCloexec)};
}

}  // namespace sentry::syscalls
