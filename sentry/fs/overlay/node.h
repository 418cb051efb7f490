// SPDX-License-Identifier: Apache-2.0
// The nodes of the overlay, for the room's own files. A node is a view of a lower inode, or of none when it was made here; what
// changes is kept in the node. A changed node with a lower inode is pinned by the file system, so that every name of that lower
// inode finds the change again, hard links included.
#pragma once

#include <map>
#include <string>

#include "sentry/fs/common/attributes.h"
#include "sentry/fs/common/data_file.h"
#include "sentry/fs/common/name_table.h"
#include "sentry/fs/common/xattrs.h"
#include "sentry/fs/overlay/overlay.h"
#include "sentry/vfs/special.h"

namespace sentry::fs::overlay {

class OverlayFs;
class Directory;

class Node : public vfs::Inode {
 public:
  // lower_key: (device, inode) of the lower inode; {0, 0} when there is none.
  using Key = std::pair<uint64_t, uint64_t>;
  Node(OverlayFs& fs, RefOrNull<vfs::Inode> lower, Key lower_key, const vfs::Attributes& a);
  ~Node() override;

  Result<vfs::Attributes> attributes() override {
    vfs::Attributes a = attributes_.get();
    if (!lower_ && is_symlink()) a.size = link_target.size();
    return a;
  }
  Result<void> set_attributes(const vfs::SetAttributes& s) override;
  Result<void> check_access(const auth::Credentials& cred, int mask) override { return attributes_.check(cred, mask); }
  Result<std::string> read_link() override;
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override {
    return vfs::open_special(where, *this, flags, cred);
  }
  Result<std::string> get_xattr(const std::string& name) override;
  Result<void> set_xattr(const std::string& name, std::string_view value, int flags) override;
  Result<std::vector<std::string>> list_xattr() override;
  Result<void> remove_xattr(const std::string& name) override;

  void add_links(int n);
  uint64_t ino() const { return ino_; }
  OverlayFs& overlay() const;
  std::string link_target;               // of a symlink made here
  std::atomic<bool> linkable{false};     // made by O_TMPFILE and not yet named

 protected:
  friend class OverlayFs;
  friend class Directory;
  void changed();                        // pins it
  Result<void> own_xattrs();             // the lower ones become ours

  const RefOrNull<vfs::Inode> lower_;
  const Key lower_key_;
  const uint64_t ino_;
  common::AttributeHolder attributes_;

 private:
  sched::SleepMutex xattr_change_;
  std::atomic<bool> xattrs_are_ours_;
  common::XattrStore xattrs_;
};

class Regular final : public Node, public common::DataOwner {
 public:
  using Node::Node;
  Result<vfs::Attributes> attributes() override;
  Result<void> set_attributes(const vfs::SetAttributes& s) override;
  Result<Ref<vfs::File>> open(const vfs::Path& where, int flags, const Ref<auth::Credentials>& cred) override;
  void data_accessed() override { attributes_.touch(common::AttributeHolder::kAccess); }
  void data_modified() override { attributes_.touch(common::AttributeHolder::kModify | common::AttributeHolder::kChange); }
  // The contents here, once they are; null while they are the lower file's.
  RefOrNull<common::RegularData> data() const;

 private:
  enum class Keep : uint8_t { contents, nothing };
  Result<Ref<common::RegularData>> copy_up(Keep keep);
  sched::SleepMutex copying_;
  mutable Mutex mu_{LockRank::kFilePrivate};
  RefOrNull<common::RegularData> data_ GUARDED_BY(mu_);
};

class Directory final : public Node {
 public:
  using Node::Node;
  ~Directory() override;
  Result<RefOrNull<vfs::Inode>> lookup(std::string_view name) override;
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

  struct Entry {
    std::string name;
    uint64_t ino;
    uint32_t type;  // S_IFMT bits
  };
  // What reading the directory gives: the lower names that are not overridden, and ours. Parks.
  Result<std::vector<Entry>> entries();

 private:
  Result<void> put(std::string_view name, Ref<Node> node);
  Result<void> drop(std::string_view name);
  Result<bool> lower_has(std::string_view name);
  Result<bool> empty();

  // Names that differ from the lower directory: a node, or null for a name that is gone.
  Guarded<std::map<std::string, RefOrNull<Node>, std::less<>>> names_{LockRank::kFilePrivate};
};

class OverlayFs final : public vfs::FileSystem {
 public:
  explicit OverlayFs(Options options);
  ~OverlayFs() override;
  Result<void> make_root();
  Ref<vfs::Inode> root() override { return Ref<vfs::Inode>(root_.get_ref()); }
  vfs::FsStat statfs() override;
  const char* type_name() const override { return "overlay"; }

  // The node that views a lower inode.
  Result<Ref<Node>> wrap(const Ref<vfs::Inode>& lower);
  Ref<Node> make(const vfs::CreateRequest& r);
  void pin(Node& node);
  void unpin(Node& node);
  void forget(Node& node);
  const std::shared_ptr<common::BackingSource>& store() const { return options_.store; }

 private:
  const Options options_;
  std::atomic<uint64_t> next_ino_{1ull << 40};  // above what host file systems use
  Mutex mu_{LockRank::kFilePrivate};
  std::map<Node::Key, Node*> live_ GUARDED_BY(mu_);
  std::map<Node::Key, Ref<Node>> pinned_ GUARDED_BY(mu_);
  RefOrNull<Node> root_;
};

}  // namespace sentry::fs::overlay
