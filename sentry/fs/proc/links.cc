// SPDX-License-Identifier: Apache-2.0
// Links of a process that are jumps: exe, cwd, root, and its namespaces. Linux: fs/proc/base.c, fs/proc/namespaces.c.
#include "sentry/fs/nsfs/nsfs.h"
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
  const char* name;
  NamespaceKind kind;
  bool for_children;
} kNamespaces[] = {
    {"net", NamespaceKind::net, false},
    {"uts", NamespaceKind::uts, false},
    {"ipc", NamespaceKind::ipc, false},
    {"pid", NamespaceKind::pid, false},
    {"pid_for_children", NamespaceKind::pid, true},
    {"user", NamespaceKind::user, false},
    {"mnt", NamespaceKind::mnt, false},
    {"cgroup", NamespaceKind::cgroup, false},
    {"time", NamespaceKind::time, false},
    {"time_for_children", NamespaceKind::time, true},
};
constexpr uint64_t kNsFirst = 512;

class NamespaceLink final : public OfTask<common::SyntheticSymlink> {
 public:
  NamespaceLink(const Subject& s, uint64_t ino, size_t index) : OfTask(s, ino), index_(index) {}
  Result<std::string> target() override {
    Ref<Task> t = TRY(inspected());
    return nsfs::text_of(subject_.fs.kernel, TRY(of(*t)));
  }
  Result<vfs::Path> jump() override {
    Ref<Task> t = TRY(inspected());
    return nsfs::path_of(subject_.fs.kernel, TRY(of(*t)));
  }

 private:
  Result<kernel::AnyNamespace> of(Task& t) const {
    return kernel::namespace_of(t, kNamespaces[index_].kind, kNamespaces[index_].for_children);
  }
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
