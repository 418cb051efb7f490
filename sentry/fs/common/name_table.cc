// SPDX-License-Identifier: Apache-2.0
// Names of directories in memory, and reading them.
#include "sentry/fs/common/name_table.h"

#include <unistd.h>

namespace sentry::fs::common {

RefOrNull<vfs::Inode> NameTable::find(std::string_view name) const {
  MutexLock l(mu_);
  auto it = names_.find(name);
  return it == names_.end() ? RefOrNull<vfs::Inode>() : RefOrNull<vfs::Inode>(it->second.inode);
}

void NameTable::set(std::string_view name, Ref<vfs::Inode> inode, uint64_t ino) {
  MutexLock l(mu_);
  auto it = names_.find(name);
  if (it != names_.end()) {
    std::swap(it->second.inode, inode);  // the old one goes after the lock
    it->second.ino = ino;
    return;
  }
  it = names_.emplace(std::string(name), Slot{std::move(inode), ino, next_}).first;
  order_.emplace(next_++, it);
}

RefOrNull<vfs::Inode> NameTable::remove(std::string_view name) {
  MutexLock l(mu_);
  auto it = names_.find(name);
  if (it == names_.end()) return nullptr;
  RefOrNull<vfs::Inode> inode = it->second.inode;
  order_.erase(it->second.position);
  names_.erase(it);
  return inode;
}

std::vector<Ref<vfs::Inode>> NameTable::take_all() {
  std::vector<Ref<vfs::Inode>> all;
  MutexLock l(mu_);
  for (auto& [name, slot] : names_) all.push_back(slot.inode);
  order_.clear();
  names_.clear();
  return all;
}

bool NameTable::empty() const {
  MutexLock l(mu_);
  return names_.empty();
}
size_t NameTable::size() const {
  MutexLock l(mu_);
  return names_.size();
}

bool NameTable::next(uint64_t position, Entry* out) const {
  MutexLock l(mu_);
  auto it = order_.lower_bound(position);
  if (it == order_.end()) return false;
  const Slot& s = it->second->second;
  *out = Entry{it->second->first, s.ino, s.inode->type(), s.position};
  return true;
}

bool add_dots(const vfs::File& dir, vfs::DirectorySink& sink, int64_t* pos) {
  while (*pos < 2) {
    uint64_t ino = 0;
    RefOrNull<vfs::Inode> inode = dir.path().inode();
    if (*pos == 1)
      if (auto parent = dir.path().dentry->parent()) inode = parent->inode();
    if (inode) {
      Result<vfs::Attributes> a = inode->attributes();
      if (a.ok()) ino = a->ino;
    }
    if (!sink.add(*pos == 0 ? "." : "..", ino, directory_type(S_IFDIR), *pos + 1)) return false;
    ++*pos;
  }
  return true;
}

namespace {

class NameTableFile final : public vfs::File {
 public:
  NameTableFile(const vfs::Path& where, Ref<vfs::Inode> inode, const NameTable& names, int flags, Ref<auth::Credentials> cred)
      : File(vfs::FileKind::directory, where, std::move(inode), flags, std::move(cred)), names_(names) {}

  bool seekable() const override { return true; }
  Result<size_t> read(std::span<std::byte>, int64_t*, vfs::IoFlags) override { return kEISDIR; }
  Result<void> sync(bool) override { return {}; }
  Result<void> read_directory(vfs::DirectorySink& sink, int64_t* pos) override {
    if (!add_dots(*this, sink, pos)) return {};
    NameTable::Entry e;
    for (int n = 1; names_.next(static_cast<uint64_t>(*pos), &e); n++) {
      auto after = static_cast<int64_t>(e.position + 1);
      if (!sink.add(e.name, e.ino, directory_type(e.type), after)) break;
      *pos = after;
      if (n % 256 == 0) sched::yield();
    }
    return {};
  }

 private:
  const NameTable& names_;
};

}  // namespace

Ref<vfs::File> open_name_table(const vfs::Path& where, Ref<vfs::Inode> inode, const NameTable& names, int flags,
                               const Ref<auth::Credentials>& cred) {
  return make_ref<NameTableFile>(where, std::move(inode), names, flags, cred);
}

}  // namespace sentry::fs::common
