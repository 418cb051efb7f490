// SPDX-License-Identifier: Apache-2.0
// The inodes of tmpfs, for the room's own files.
#pragma once

#include "sentry/fs/common/attributes.h"
#include "sentry/fs/common/data_file.h"
#include "sentry/fs/common/name_table.h"
#include "sentry/fs/common/xattrs.h"
#include "sentry/fs/tmpfs/tmpfs.h"

namespace sentry::fs::tmpfs {

// What one instance may use. Held by: the file system, each inode, contents; so it outlives all who give back to it.
class Limits final : public common::PageBudget {
 public:
  Limits(uint64_t pages, uint64_t inodes) : max_pages(pages), max_inodes(inodes) {}
  Result<void> charge(uint64_t pages) override;
  void uncharge(uint64_t pages) override { used_pages.fetch_sub(pages, std::memory_order_relaxed); }
  bool take_inode();

  const uint64_t max_pages;   // 0 = no limit
  const uint64_t max_inodes;
  std::atomic<uint64_t> used_pages{0}, used_inodes{0};
};

class TmpfsFs;

// Attributes, extended attributes and the share of the limits, which every kind has. The inode was taken from the limits.
class Node : public vfs::Inode {
 public:
  Node(TmpfsFs& fs, const vfs::CreateRequest& r);
  ~Node() override;
  Result<vfs::Attributes> attributes() override { return attributes_.get(); }
  Result<void> set_attributes(const vfs::SetAttributes& s) override;
  Result<void> check_access(const auth::Credentials& cred, int mask) override { return attributes_.check(cred, mask); }
  Result<Ref<vfs::File>> open(const vfs::Path&, int, const Ref<auth::Credentials>&) override { return kENXIO; }
  Result<std::string> get_xattr(const std::string& name) override { return xattrs_.get(name); }
  Result<void> set_xattr(const std::string& name, std::string_view value, int flags) override;
  Result<std::vector<std::string>> list_xattr() override { return xattrs_.list(); }
  Result<void> remove_xattr(const std::string& name) override;
  uint64_t ino() const { return ino_; }
  common::AttributeHolder& holder() { return attributes_; }
  // Made by O_TMPFILE: may be linked although it has no name (Linux: I_LINKABLE).
  std::atomic<bool> linkable{false};

 protected:
  TmpfsFs& tmpfs() const;
  const Ref<Limits> limits_;
  const uint64_t ino_;
  common::AttributeHolder attributes_;
  common::XattrStore xattrs_;
};

class Regular final : public Node, private common::DataOwner {
 public:
  Regular(TmpfsFs& fs, const vfs::CreateRequest& r, int seals);
  Result<vfs::Attributes> attributes() override;
  Result<void> set_attributes(const vfs::SetAttributes& s) override;
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override;
  Result<int> seals() override;
  Result<void> add_seals(int seals) override;

 private:
  void data_accessed() override { attributes_.touch(common::AttributeHolder::kAccess); }
  void data_modified() override { attributes_.touch(common::AttributeHolder::kModify | common::AttributeHolder::kChange); }
  Result<void> may_write(uint64_t offset, uint64_t length) override;
  Result<void> may_allocate(int mode, uint64_t end) override;
  sched::SleepMutex* seal_lock() override;
  Result<void> writer_maps() override;
  void writer_unmaps() override;

  const Ref<common::RegularData> data_;
  struct Seals {
    int bits;
    int writer_maps = 0;
  };
  Guarded<Seals> seals_;
  sched::SleepMutex seal_lock_;  // the seals stay while a change is under way that asked for them; of files that can be sealed only
};

class Symlink final : public Node {
 public:
  Symlink(TmpfsFs& fs, const vfs::CreateRequest& r, std::string target) : Node(fs, r), target_(std::move(target)) {}
  Result<std::string> read_link() override { return target_; }
  Result<vfs::Attributes> attributes() override {
    vfs::Attributes a = attributes_.get();
    a.size = target_.size();
    return a;
  }

 private:
  const std::string target_;
};

class Directory final : public Node {
 public:
  using Node::Node;
  ~Directory() override;
  Result<vfs::Attributes> attributes() override;
  Result<RefOrNull<vfs::Inode>> lookup(std::string_view name) override { return names_.find(name); }
  Result<Ref<vfs::Inode>> create(std::string_view name, const vfs::CreateRequest& r) override;
  Result<Ref<vfs::Inode>> mkdir(std::string_view name, const vfs::CreateRequest& r) override;
  Result<Ref<vfs::Inode>> symlink(std::string_view name, std::string_view target, const vfs::CreateRequest& r) override;
  Result<void> link(std::string_view name, vfs::Inode& existing) override;
  Result<void> unlink(std::string_view name, vfs::Inode& victim) override;
  Result<void> rmdir(std::string_view name, vfs::Inode& victim) override;
  Result<void> rename(std::string_view name, vfs::Inode& moved, vfs::Inode& new_dir, std::string_view new_name,
                      vfs::Inode* replaced, unsigned flags) override;
  Result<Ref<vfs::Inode>> create_unnamed(const vfs::CreateRequest& r) override;
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override;

 private:
  void add(std::string_view name, Ref<Node> node);
  void touched();
  common::NameTable names_;
};

class TmpfsFs final : public vfs::FileSystem {
 public:
  explicit TmpfsFs(const Options& options);
  Ref<vfs::Inode> root() override;
  vfs::FsStat statfs() override;
  const char* type_name() const override { return "tmpfs"; }
  std::string options() const override;

  const Ref<Limits>& limits() const { return limits_; }
  const std::shared_ptr<common::BackingSource>& backing() const { return backing_; }
  uint64_t next_ino() { return next_ino_.fetch_add(1, std::memory_order_relaxed); }

 private:
  const Ref<Limits> limits_;
  const std::shared_ptr<common::BackingSource> backing_;
  const uint32_t mode_, uid_, gid_;
  std::atomic<uint64_t> next_ino_{1};
  Mutex mu_{LockRank::kFilePrivate};
  RefOrNull<Directory> root_ GUARDED_BY(mu_);
};

}  // namespace sentry::fs::tmpfs
