// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/nsfs/nsfs.h"

#include "sentry/fs/common/synthetic.h"
#include "sentry/fs/common/text.h"
#include "sentry/kernel/inspect.h"

namespace sentry::fs::nsfs {
namespace {

using kernel::AnyNamespace;
using kernel::NamespaceKind;
using kernel::Task;

constexpr uint64_t kMagic = 0x6e736673;
enum : uint32_t { kGetUserns = 0xb701, kGetParent = 0xb702, kGetNstype = 0xb703, kGetOwnerUid = 0xb704 };

class NsFs final : public vfs::FileSystem {
 public:
  static NsFs& the() {
    static auto* fs = new NsFs;
    return *fs;
  }
  Ref<vfs::Inode> root() override;
  vfs::FsStat statfs() override {
    vfs::FsStat s;
    s.type = kMagic;
    return s;
  }
  const char* type_name() const override { return "nsfs"; }

 private:
  NsFs() = default;
};

class NamespaceFile final : public vfs::File {
 public:
  static constexpr vfs::FileKind kKind = vfs::FileKind::nsfs;
  NamespaceFile(const vfs::Path& where, Ref<vfs::Inode> inode, int flags, Ref<auth::Credentials> cred, kernel::Kernel& k, AnyNamespace ns)
      : File(kKind, where, std::move(inode), flags, std::move(cred)), kernel_(k), ns_(std::move(ns)) {}
  Result<long> ioctl(platform::Context& c, uint32_t command, uint64_t arg) override;
  const AnyNamespace& ns() const { return ns_; }

 private:
  Result<long> install(Task& t, AnyNamespace ns) {
    vfs::Path p = path_of(kernel_, std::move(ns));
    return t.install(TRY(p.inode()->open(p, O_RDONLY, t.credentials())), true);
  }
  kernel::Kernel& kernel_;
  const AnyNamespace ns_;
};

class NamespaceInode final : public common::SyntheticInode {
 public:
  NamespaceInode(kernel::Kernel& k, uint64_t number, AnyNamespace ns)
      : SyntheticInode(NsFs::the(), number, S_IFREG | 0444), kernel_(k), ns_(std::move(ns)) {}
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override {
    if ((flags & O_ACCMODE) != O_RDONLY) return kEPERM;
    return Ref<vfs::File>(make_ref<NamespaceFile>(where, Ref<vfs::Inode>(*this), flags, cred, kernel_, ns_));
  }

 private:
  kernel::Kernel& kernel_;
  const AnyNamespace ns_;
};

class RootInode final : public common::SyntheticDirectory {
 public:
  explicit RootInode(NsFs& fs) : SyntheticDirectory(fs, 1) {}
  Result<RefOrNull<vfs::Inode>> lookup(std::string_view) override { return RefOrNull<vfs::Inode>(); }
  Result<std::vector<Entry>> entries() override { return std::vector<Entry>(); }
};

Ref<vfs::Inode> NsFs::root() { return make_ref<RootInode>(*this); }

uint64_t number_of(kernel::Kernel& k, const AnyNamespace& ns) { return kernel::namespace_number(k, ns.kind(), ns.identity()); }

// Linux: ns_ioctl().
Result<long> NamespaceFile::ioctl(platform::Context& c, uint32_t command, uint64_t arg) {
  Task& t = Task::current();
  switch (command) {
    case kGetNstype: return long{ns_.clone_flag()};
    case kGetUserns: {
      kernel::UserNs owner = ns_.owner();
      if (ns_.kind() == NamespaceKind::user && !ns_.identity()) return kEPERM;
      if (!auth::lies_in(owner.get(), kernel::user_ns_of(t))) return kEPERM;
      return install(t, AnyNamespace(NamespaceKind::user, std::move(owner)));
    }
    case kGetParent: return install(t, TRY(ns_.parent(t)));
    case kGetOwnerUid: {
      if (ns_.kind() != NamespaceKind::user) return kEINVAL;
      const kernel::UserNs& u = std::get<kernel::UserNs>(ns_.object());
      const uint32_t uid = auth::shown_uid(kernel::user_ns_of(t), u ? u->owner : 0);
      TRY(c.copy_out(arg, &uid, sizeof uid));
      return 0L;
    }
    default: return kENOTTY;
  }
}

}  // namespace

std::string text_of(kernel::Kernel& k, const AnyNamespace& ns) {
  std::string out;
  common::append(out, "%s:[%llu]", kernel::namespace_type(ns.kind()), static_cast<unsigned long long>(number_of(k, ns)));
  return out;
}

vfs::Path path_of(kernel::Kernel& k, AnyNamespace ns) {
  std::string text = text_of(k, ns);
  const uint64_t number = number_of(k, ns);
  Ref<vfs::Inode> inode = make_ref<NamespaceInode>(k, number, std::move(ns));
  return vfs::Path{nullptr, vfs::Dentry::make_anonymous(std::move(text), std::move(inode))};
}

Result<AnyNamespace> namespace_of_file(vfs::File& file) {
  auto* f = file.as<NamespaceFile>();
  if (!f) return kEINVAL;
  return f->ns();
}

}  // namespace sentry::fs::nsfs
