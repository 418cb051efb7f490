// SPDX-License-Identifier: Apache-2.0
// Links of a process that are jumps: exe, cwd, root, and its namespaces. Linux: fs/proc/base.c, fs/proc/namespaces.c.
#include <sched.h>

#include "sentry/fs/proc/proc_fs.h"

namespace sentry::fs::proc {
namespace {

using kernel::NamespaceKind;
using kernel::Task;

// Where a place of the task leads; its text is the place as the reader sees it.
using PlaceOf = Result<vfs::Path> (*)(const Subject&, Task&);

class PlaceLink final : public OfTask<common::SyntheticSymlink> {
 public:
  PlaceLink(const Subject& s, uint64_t ino, PlaceOf place) : OfTask(s, ino), place_(place) {}
  Result<vfs::Path> jump() override {
    Ref<Task> t = TRY(inspected());
    return place_(subject_, *t);
  }
  Result<std::string> target() override { return text_for_reader(TRY(jump())); }

 private:
  const PlaceOf place_;
};

Result<vfs::Path> exe_of(const Subject& s, Task&) {
  vfs::Path p = s.group->exe();
  if (!p) return kENOENT;
  return p;
}
Result<vfs::Path> cwd_of(const Subject&, Task& t) {
  RefOrNull<kernel::FsContext> fs = kernel::find_fs(t);
  if (!fs) return kENOENT;
  return fs->cwd();
}
Result<vfs::Path> root_of(const Subject&, Task& t) {
  RefOrNull<kernel::FsContext> fs = kernel::find_fs(t);
  if (!fs) return kENOENT;
  return fs->root();
}

// ---- Namespaces ----

constexpr struct {
  const char* name;  // of the link
  const char* type;  // in its text
  NamespaceKind kind;
  bool for_children;
} kNamespaces[] = {
    {"net", "net", NamespaceKind::net, false},
    {"uts", "uts", NamespaceKind::uts, false},
    {"ipc", "ipc", NamespaceKind::ipc, false},
    {"pid", "pid", NamespaceKind::pid, false},
    {"pid_for_children", "pid", NamespaceKind::pid, true},
    {"user", "user", NamespaceKind::user, false},
    {"mnt", "mnt", NamespaceKind::mnt, false},
    {"cgroup", "cgroup", NamespaceKind::cgroup, false},
    {"time", "time", NamespaceKind::time, false},
    {"time_for_children", "time", NamespaceKind::time, true},
};
constexpr uint64_t kNsFirst = 512;

// Network and IPC are the sandbox's, the cgroup is the container's; there is one user and one time namespace.
uint64_t number_of(const Subject& s, Task& t, NamespaceKind kind, bool for_children) {
  const void* object = nullptr;
  RefOrNull<kernel::FsContext> fs;
  if (kind == NamespaceKind::net) object = &s.fs.kernel;
  if (kind == NamespaceKind::ipc) object = kernel::ipc_namespace(t);
  if (kind == NamespaceKind::cgroup) object = &t.container();
  if (kind == NamespaceKind::uts) object = t.uts().get();
  if (kind == NamespaceKind::pid) object = for_children ? kernel::pids_for_children(t).get() : &t.group().pid_namespace();
  if (kind == NamespaceKind::mnt && (fs = kernel::find_fs(t))) object = fs->mounts().get();
  return kernel::namespace_number(s.fs.kernel, kind, object);
}

// ioctls of a namespace's file (man 2 ioctl_ns).
enum : uint32_t { kGetUserns = 0xb701, kGetParent = 0xb702, kGetNstype = 0xb703, kGetOwnerUid = 0xb704 };

long clone_flag(NamespaceKind kind) {
  switch (kind) {
    case NamespaceKind::cgroup: return CLONE_NEWCGROUP;
    case NamespaceKind::ipc: return CLONE_NEWIPC;
    case NamespaceKind::mnt: return CLONE_NEWNS;
    case NamespaceKind::net: return CLONE_NEWNET;
    case NamespaceKind::pid: return CLONE_NEWPID;
    case NamespaceKind::time: return 0x80;  // CLONE_NEWTIME
    case NamespaceKind::user: return CLONE_NEWUSER;
    case NamespaceKind::uts: return CLONE_NEWUTS;
  }
  UNREACHABLE();
}

class NamespaceFile final : public vfs::File {
 public:
  NamespaceFile(const vfs::Path& where, Ref<vfs::Inode> inode, int flags, Ref<auth::Credentials> cred, ProcFs& fs,
                NamespaceKind kind)
      : File(vfs::FileKind::plain, where, std::move(inode), flags, std::move(cred)), fs_(fs), kind_(kind) {}
  Result<long> ioctl(platform::Context& c, uint32_t command, uint64_t arg) override;

 private:
  const Ref<ProcFs> fs_;
  const NamespaceKind kind_;
};

// What the link leads to: a file that stands for the namespace.
class NamespaceInode final : public common::SyntheticInode {
 public:
  NamespaceInode(ProcFs& fs, uint64_t number, NamespaceKind kind)
      : SyntheticInode(fs, number, S_IFREG | 0444), fs_(fs), kind_(kind) {}
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override {
    if ((flags & O_ACCMODE) != O_RDONLY) return kEPERM;
    return Ref<vfs::File>(make_ref<NamespaceFile>(where, Ref<vfs::Inode>(*this), flags, cred, fs_, kind_));
  }
  static vfs::Path path(ProcFs& fs, uint64_t number, NamespaceKind kind, std::string text) {
    Ref<vfs::Inode> inode = make_ref<NamespaceInode>(fs, number, kind);
    return vfs::Path{nullptr, vfs::Dentry::make_anonymous(std::move(text), std::move(inode))};
  }

 private:
  ProcFs& fs_;
  const NamespaceKind kind_;
};

std::string namespace_text(const char* type, uint64_t number) {
  std::string out;
  append(out, "%s:[%llu]", type, static_cast<unsigned long long>(number));
  return out;
}

Result<long> NamespaceFile::ioctl(platform::Context& c, uint32_t command, uint64_t arg) {
  switch (command) {
    case kGetNstype: return clone_flag(kind_);
    case kGetUserns: {
      // There is one user namespace, and what owns it lies outside.
      if (kind_ == NamespaceKind::user) return kEPERM;
      const uint64_t number = kernel::namespace_number(fs_->kernel, NamespaceKind::user, nullptr);
      vfs::Path p = NamespaceInode::path(*fs_, number, NamespaceKind::user, namespace_text("user", number));
      return Task::current().install(TRY(p.inode()->open(p, O_RDONLY, credentials())), true);
    }
    case kGetParent:
      if (kind_ != NamespaceKind::pid && kind_ != NamespaceKind::user) return kEINVAL;
      return kEPERM;
    case kGetOwnerUid: {
      if (kind_ != NamespaceKind::user) return kEINVAL;
      const uint32_t uid = 0;
      TRY(c.copy_out(arg, &uid, sizeof uid));
      return 0L;
    }
    default: return kENOTTY;
  }
}

class NamespaceLink final : public OfTask<common::SyntheticSymlink> {
 public:
  NamespaceLink(const Subject& s, uint64_t ino, size_t index) : OfTask(s, ino), index_(index) {}
  Result<std::string> target() override {
    Ref<Task> t = TRY(inspected());
    const auto& n = kNamespaces[index_];
    return namespace_text(n.type, number_of(subject_, *t, n.kind, n.for_children));
  }
  Result<vfs::Path> jump() override {
    Ref<Task> t = TRY(inspected());
    const auto& n = kNamespaces[index_];
    const uint64_t number = number_of(subject_, *t, n.kind, n.for_children);
    return NamespaceInode::path(subject_.fs, number, n.kind, namespace_text(n.type, number));
  }

 private:
  const size_t index_;
};

class NamespaceDirectory final : public OfTask<common::SyntheticDirectory> {
 public:
  NamespaceDirectory(const Subject& s, uint64_t ino) : OfTask(s, ino, 0511) {}
  bool dentries_are_stable() const override { return false; }
  Result<RefOrNull<vfs::Inode>> lookup(std::string_view name) override {
    for (size_t i = 0; i < std::size(kNamespaces); i++)
      if (name == kNamespaces[i].name && subject_.alive())
        return RefOrNull<vfs::Inode>(make_ref<NamespaceLink>(subject_, ino_of(subject_, kNsFirst + i), i));
    return kENOENT;
  }
  Result<std::vector<Entry>> entries() override {
    if (!subject_.alive()) return kENOENT;
    std::vector<Entry> out;
    for (size_t i = 0; i < std::size(kNamespaces); i++)
      out.push_back({kNamespaces[i].name, ino_of(subject_, kNsFirst + i), S_IFLNK});
    return out;
  }
};

}  // namespace

Ref<vfs::Inode> make_exe(const Subject& s, uint64_t ino) { return make_ref<PlaceLink>(s, ino, exe_of); }
Ref<vfs::Inode> make_cwd(const Subject& s, uint64_t ino) { return make_ref<PlaceLink>(s, ino, cwd_of); }
Ref<vfs::Inode> make_root_link(const Subject& s, uint64_t ino) { return make_ref<PlaceLink>(s, ino, root_of); }
Ref<vfs::Inode> make_ns(const Subject& s, uint64_t ino) { return make_ref<NamespaceDirectory>(s, ino); }

}  // namespace sentry::fs::proc
