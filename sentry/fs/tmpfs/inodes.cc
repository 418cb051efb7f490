// SPDX-License-Identifier: Apache-2.0
// The inodes of tmpfs. Directory changes come with the directory's lock held (vfs/inode.h). Linux: mm/shmem.c.
#include "sentry/fs/tmpfs/inodes.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20
#endif

namespace sentry::fs::tmpfs {

using common::AttributeHolder;

Result<void> Limits::charge(uint64_t pages) {
  uint64_t used = used_pages.load(std::memory_order_relaxed);
  do {
    if (max_pages && (pages > max_pages || used > max_pages - pages)) return kENOSPC;
  } while (!used_pages.compare_exchange_weak(used, used + pages, std::memory_order_relaxed));
  return {};
}

bool Limits::take_inode() {
  uint64_t used = used_inodes.load(std::memory_order_relaxed);
  do {
    if (used >= max_inodes) return false;
  } while (!used_inodes.compare_exchange_weak(used, used + 1, std::memory_order_relaxed));
  return true;
}

// ---- What all have ----

Node::Node(TmpfsFs& fs, const vfs::CreateRequest& r)
    : Inode(fs, r.mode), limits_(fs.limits()), ino_(fs.next_ino()),
      attributes_(fs.device(), ino_, r.mode, r.uid, r.gid, r.rdev) {}
Node::~Node() { limits_->used_inodes.fetch_sub(1, std::memory_order_relaxed); }

TmpfsFs& Node::tmpfs() const { return static_cast<TmpfsFs&>(fs()); }

Result<void> Node::set_attributes(const vfs::SetAttributes& s) {
  if (s.mask & vfs::SetAttributes::kSize) return kEINVAL;
  attributes_.set(s);
  return {};
}
Result<void> Node::set_xattr(const std::string& name, std::string_view value, int flags) {
  TRY(xattrs_.set(name, value, flags));
  attributes_.touch(AttributeHolder::kChange);
  return {};
}
Result<void> Node::remove_xattr(const std::string& name) {
  TRY(xattrs_.remove(name));
  attributes_.touch(AttributeHolder::kChange);
  return {};
}

// ---- Regular files ----

Regular::Regular(TmpfsFs& fs, const vfs::CreateRequest& r, int seals)
    : Node(fs, r), data_(common::RegularData::create(fs.backing(), fs.limits())), seals_(LockRank::kFilePrivate, Seals{seals}) {}

Result<vfs::Attributes> Regular::attributes() {
  vfs::Attributes a = attributes_.get();
  a.size = data_->size();
  a.blocks = data_->allocated_bytes() / 512;
  return a;
}

Result<void> Regular::set_attributes(const vfs::SetAttributes& s) {
  if (s.mask & vfs::SetAttributes::kSize) {
    std::optional<sched::SleepLock> unsealed;
    if (sched::SleepMutex* m = seal_lock()) unsealed.emplace(*m);
    int bits = seals_.with([](Seals& v) { return v.bits; });
    uint64_t old = data_->size();
    if ((s.size < old && (bits & F_SEAL_SHRINK)) || (s.size > old && (bits & F_SEAL_GROW))) return kEPERM;
    TRY(data_->truncate(s.size));
    if (s.size != old) data_modified();
  }
  if (s.mask & vfs::SetAttributes::kMode) {
    int bits = seals_.with([](Seals& v) { return v.bits; });
    if ((bits & F_SEAL_EXEC) && ((s.mode ^ attributes_.get().mode) & 0111)) return kEPERM;
  }
  attributes_.set(s);
  return {};
}

Result<Ref<vfs::File>> Regular::open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) {
  return common::open_data(where, Ref<vfs::Inode>(*this), *this, data_, flags, cred);
}

Result<int> Regular::seals() {
  return seals_.with([](Seals& s) { return s.bits; });
}

Result<void> Regular::add_seals(int bits) {
  constexpr int kKnown = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_EXEC;
  if (bits & ~kKnown) return kEINVAL;
  sched::SleepLock l(seal_lock_);
  return seals_.with([&](Seals& s) -> Result<void> {
    if (s.bits & F_SEAL_SEAL) return kEPERM;
    if ((bits & F_SEAL_WRITE) && !(s.bits & F_SEAL_WRITE) && s.writer_maps > 0) return kEBUSY;
    s.bits |= bits;
    return {};
  });
}

Result<void> Regular::may_write(uint64_t offset, uint64_t length) {
  int bits = seals_.with([](Seals& s) { return s.bits; });
  if (!(bits & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_GROW))) return {};
  if (bits & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) return kEPERM;
  uint64_t size = data_->size();
  if (offset == UINT64_MAX ? length > 0 : offset + length > size) return kEPERM;
  return {};
}

Result<void> Regular::may_allocate(int mode, uint64_t end) {
  int bits = seals_.with([](Seals& s) { return s.bits; });
  if ((mode & FALLOC_FL_PUNCH_HOLE) && (bits & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))) return kEPERM;
  if ((bits & F_SEAL_GROW) && !(mode & FALLOC_FL_KEEP_SIZE) && end > data_->size()) return kEPERM;
  return {};
}

sched::SleepMutex* Regular::seal_lock() {
  return seals_.with([](Seals& s) { return s.bits & F_SEAL_SEAL; }) ? nullptr : &seal_lock_;
}

Result<void> Regular::writer_maps() {
  return seals_.with([](Seals& s) -> Result<void> {
    if (s.bits & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) return kEPERM;
    s.writer_maps++;
    return {};
  });
}
void Regular::writer_unmaps() {
  seals_.with([](Seals& s) { s.writer_maps--; });
}

// ---- Directories ----

Directory::~Directory() {
  // Trees are as deep as applications like: level by level, not by recursion.
  std::vector<Ref<vfs::Inode>> below = names_.take_all();
  while (!below.empty()) {
    Ref<vfs::Inode> inode = std::move(below.back());
    below.pop_back();
    if (!inode->is_directory() || inode->ref_count() != 1) continue;
    for (Ref<vfs::Inode>& i : static_cast<Directory&>(*inode).names_.take_all()) below.push_back(std::move(i));
  }
}

Result<vfs::Attributes> Directory::attributes() {
  vfs::Attributes a = attributes_.get();
  a.size = 20 * (names_.size() + 2);  // Linux: BOGO_DIRENT_SIZE
  return a;
}

void Directory::touched() { attributes_.touch(AttributeHolder::kModify | AttributeHolder::kChange); }

void Directory::add(std::string_view name, Ref<Node> node) {
  if (node->is_directory()) attributes_.add_links(1);
  names_.set(name, node, node->ino());
  touched();
}

Result<Ref<vfs::Inode>> Directory::create(std::string_view name, const vfs::CreateRequest& r) {
  if (!limits_->take_inode()) return kENOSPC;
  RefOrNull<Node> node;
  if (S_ISREG(r.mode)) node = make_ref<Regular>(tmpfs(), r, F_SEAL_SEAL);
  else node = make_ref<Node>(tmpfs(), r);
  add(name, node.get_ref());
  return Ref<vfs::Inode>(node.get_ref());
}

Result<Ref<vfs::Inode>> Directory::mkdir(std::string_view name, const vfs::CreateRequest& r) {
  if (!limits_->take_inode()) return kENOSPC;
  auto node = make_ref<Directory>(tmpfs(), r);
  add(name, node);
  return Ref<vfs::Inode>(node);
}

Result<Ref<vfs::Inode>> Directory::symlink(std::string_view name, std::string_view target, const vfs::CreateRequest& r) {
  if (target.size() >= PATH_MAX) return kENAMETOOLONG;
  if (!limits_->take_inode()) return kENOSPC;
  auto node = make_ref<Symlink>(tmpfs(), r, std::string(target));
  add(name, node);
  return Ref<vfs::Inode>(node);
}

Result<void> Directory::link(std::string_view name, vfs::Inode& existing) {
  auto& node = static_cast<Node&>(existing);
  if (node.holder().get().nlink == 0 && !node.linkable.exchange(false)) return kENOENT;
  node.holder().add_links(1);
  add(name, Ref<Node>(node));
  return {};
}

Result<void> Directory::unlink(std::string_view name, vfs::Inode& victim) {
  (void)names_.remove(name);
  static_cast<Node&>(victim).holder().add_links(-1);
  touched();
  return {};
}

Result<void> Directory::rmdir(std::string_view name, vfs::Inode& victim) {
  auto& dir = static_cast<Directory&>(victim);
  if (!dir.names_.empty()) return kENOTEMPTY;
  (void)names_.remove(name);
  dir.holder().add_links(-2);
  attributes_.add_links(-1);
  touched();
  return {};
}

Result<void> Directory::rename(std::string_view name, vfs::Inode& moved, vfs::Inode& new_dir, std::string_view new_name,
                               vfs::Inode* replaced, unsigned flags) {
  auto& to = static_cast<Directory&>(new_dir);
  Ref<Node> node(static_cast<Node&>(moved));
  if (flags & RENAME_EXCHANGE) {
    Ref<Node> other(static_cast<Node&>(*replaced));
    names_.set(name, other, other->ino());
    to.names_.set(new_name, node, node->ino());
    if (node->is_directory() != other->is_directory() && &to != this) {
      int gained = other->is_directory() ? 1 : -1;
      attributes_.add_links(gained);
      to.attributes_.add_links(-gained);
    }
    other->holder().touch(AttributeHolder::kChange);
  } else {
    RefOrNull<Node> whiteout;
    if (flags & RENAME_WHITEOUT) {
      if (!limits_->take_inode()) return kENOSPC;
      whiteout = make_ref<Node>(tmpfs(), vfs::CreateRequest{S_IFCHR, 0, 0, 0});
    }
    RefOrNull<vfs::Inode> old;  // keeps the replaced one until its links are counted
    if (replaced) {
      old = Ref<vfs::Inode>(*replaced);
      auto& victim = static_cast<Node&>(*replaced);
      if (victim.is_directory()) {
        if (!static_cast<Directory&>(victim).names_.empty()) return kENOTEMPTY;
        victim.holder().add_links(-2);
        to.attributes_.add_links(-1);
      } else {
        victim.holder().add_links(-1);
      }
    }
    to.names_.set(new_name, node, node->ino());
    (void)names_.remove(name);
    if (whiteout) names_.set(name, whiteout.get_ref(), whiteout->ino());
    if (node->is_directory()) {
      attributes_.add_links(-1);
      to.attributes_.add_links(1);
    }
  }
  node->holder().touch(AttributeHolder::kChange);
  touched();
  if (&to != this) to.touched();
  return {};
}

Result<Ref<vfs::Inode>> Directory::create_unnamed(const vfs::CreateRequest& r) {
  if (!limits_->take_inode()) return kENOSPC;
  auto node = make_ref<Regular>(tmpfs(), r, F_SEAL_SEAL);
  node->holder().add_links(-1);
  node->linkable = true;
  return Ref<vfs::Inode>(node);
}

Result<Ref<vfs::File>> Directory::open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) {
  return common::open_name_table(where, Ref<vfs::Inode>(*this), names_, flags, cred);
}

}  // namespace sentry::fs::tmpfs
