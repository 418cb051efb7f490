// SPDX-License-Identifier: Apache-2.0
// Links of a process that are jumps: exe, cwd, root, and its namespaces. Linux: fs/proc/base.c, fs/proc/namespaces.c.
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
  if (kind == NamespaceKind::net || kind == NamespaceKind::ipc) object = &s.fs.kernel;
  if (kind == NamespaceKind::cgroup) object = &t.container();
  if (kind == NamespaceKind::uts) object = t.uts().get();
  if (kind == NamespaceKind::pid) object = for_children ? kernel::pids_for_children(t).get() : &t.group().pid_namespace();
  if (kind == NamespaceKind::mnt && (fs = kernel::find_fs(t))) object = fs->mounts().get();
  return kernel::namespace_number(s.fs.kernel, kind, object);
}

class NamespaceFile final : public vfs::File {
 public:
  NamespaceFile(const vfs::Path& where, Ref<vfs::Inode> inode, int flags, Ref<auth::Credentials> cred)
      : File(vfs::FileKind::plain, where, std::move(inode), flags, std::move(cred)) {}
};

// What the link leads to: a file that stands for the namespace.
class NamespaceInode final : public common::SyntheticInode {
 public:
  NamespaceInode(vfs::FileSystem& fs, uint64_t number) : SyntheticInode(fs, number, S_IFREG | 0444) {}
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override {
    if ((flags & O_ACCMODE) != O_RDONLY) return kEPERM;
    return Ref<vfs::File>(make_ref<NamespaceFile>(where, Ref<vfs::Inode>(*this), flags, cred));
  }
};

class NamespaceLink final : public OfTask<common::SyntheticSymlink> {
 public:
  NamespaceLink(const Subject& s, uint64_t ino, size_t index) : OfTask(s, ino), index_(index) {}
  Result<std::string> target() override {
    Ref<Task> t = TRY(inspected());
    const auto& n = kNamespaces[index_];
    std::string out;
    append(out, "%s:[%llu]", n.type,
           static_cast<unsigned long long>(number_of(subject_, *t, n.kind, n.for_children)));
    return out;
  }
  Result<vfs::Path> jump() override {
    Ref<Task> t = TRY(inspected());
    const auto& n = kNamespaces[index_];
    Ref<vfs::Inode> inode = make_ref<NamespaceInode>(subject_.fs, number_of(subject_, *t, n.kind, n.for_children));
    return vfs::Path{nullptr, vfs::Dentry::make_anonymous(TRY(target()), std::move(inode))};
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
