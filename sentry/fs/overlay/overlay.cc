// SPDX-License-Identifier: Apache-2.0
// The file system object and what all nodes have.
#include "sentry/fs/overlay/overlay.h"

#include "sentry/fs/overlay/node.h"

namespace sentry::fs::overlay {

// ---- Node ----

Node::Node(OverlayFs& fs, RefOrNull<vfs::Inode> lower, Key lower_key, const vfs::Attributes& a)
    : Inode(fs, a.mode), lower_(std::move(lower)), lower_key_(lower_key), ino_(a.ino), attributes_(a),
      xattrs_are_ours_(!lower_) {}

Node::~Node() {
  if (lower_) overlay().forget(*this);
}

OverlayFs& Node::overlay() const { return static_cast<OverlayFs&>(fs()); }

void Node::changed() {
  if (lower_) overlay().pin(*this);
}

void Node::add_links(int n) {
  attributes_.add_links(n);
  if (attributes_.get().nlink == 0) overlay().unpin(*this);
  else changed();
}

Result<void> Node::set_attributes(const vfs::SetAttributes& s) {
  if (s.mask & vfs::SetAttributes::kSize) return kEINVAL;
  attributes_.set(s);
  changed();
  return {};
}

Result<std::string> Node::read_link() {
  if (!is_symlink()) return kEINVAL;
  if (lower_) return lower_->read_link();
  return link_target;
}

Result<void> Node::own_xattrs() {
  if (xattrs_are_ours_.load(std::memory_order_acquire)) return {};
  sched::SleepLock l(xattr_change_);
  if (xattrs_are_ours_.load(std::memory_order_acquire)) return {};
  for (const std::string& name : TRY(lower_->list_xattr())) {
    auto value = lower_->get_xattr(name);
    if (value.ok()) IGNORE_ERROR(xattrs_.set(name, *value, 0), "a kind that cannot be set here cannot be kept");
  }
  xattrs_are_ours_.store(true, std::memory_order_release);
  changed();
  return {};
}

Result<std::string> Node::get_xattr(const std::string& name) {
  if (!xattrs_are_ours_.load(std::memory_order_acquire)) return lower_->get_xattr(name);
  return xattrs_.get(name);
}
Result<void> Node::set_xattr(const std::string& name, std::string_view value, int flags) {
  TRY(own_xattrs());
  TRY(xattrs_.set(name, value, flags));
  attributes_.touch(common::AttributeHolder::kChange);
  return {};
}
Result<std::vector<std::string>> Node::list_xattr() {
  if (!xattrs_are_ours_.load(std::memory_order_acquire)) return lower_->list_xattr();
  return xattrs_.list();
}
Result<void> Node::remove_xattr(const std::string& name) {
  TRY(own_xattrs());
  TRY(xattrs_.remove(name));
  attributes_.touch(common::AttributeHolder::kChange);
  return {};
}

// ---- OverlayFs ----

OverlayFs::OverlayFs(Options options) : options_(std::move(options)) {}

OverlayFs::~OverlayFs() {
  std::map<Node::Key, Ref<Node>> gone;
  {
    MutexLock l(mu_);
    gone.swap(pinned_);
  }
}

Result<void> OverlayFs::make_root() {
  root_ = TRY(wrap(options_.lower->root()));
  return root_->is_directory() ? Result<void>() : Result<void>(kENOTDIR);
}

vfs::FsStat OverlayFs::statfs() {
  vfs::FsStat s = options_.lower->statfs();
  s.type = 0x794c7630;  // OVERLAYFS_SUPER_MAGIC
  s.flags &= ~uint64_t{1};
  return s;
}

Result<Ref<Node>> OverlayFs::wrap(const Ref<vfs::Inode>& lower) {
  vfs::Attributes a = TRY(lower->attributes());
  Node::Key key{a.dev, a.ino};
  a.dev = device();
  MutexLock l(mu_);
  Node*& slot = live_[key];
  if (auto known = RefOrNull<Node>::upgrade(slot)) return known.get_ref();
  RefOrNull<Node> n;
  if (S_ISREG(a.mode)) n = Ref<Node>(make_ref<Regular>(*this, lower, key, a));
  else if (S_ISDIR(a.mode)) n = Ref<Node>(make_ref<Directory>(*this, lower, key, a));
  else n = make_ref<Node>(*this, lower, key, a);
  slot = n.get();
  return n.get_ref();
}

Ref<Node> OverlayFs::make(const vfs::CreateRequest& r) {
  uint64_t ino = next_ino_.fetch_add(1, std::memory_order_relaxed);
  vfs::Attributes a = common::AttributeHolder(device(), ino, r.mode, r.uid, r.gid, r.rdev).get();
  if (S_ISREG(r.mode)) return make_ref<Regular>(*this, nullptr, Node::Key{0, 0}, a);
  if (S_ISDIR(r.mode)) return make_ref<Directory>(*this, nullptr, Node::Key{0, 0}, a);
  return make_ref<Node>(*this, nullptr, Node::Key{0, 0}, a);
}

void OverlayFs::pin(Node& node) {
  MutexLock l(mu_);
  pinned_.try_emplace(node.lower_key_, Ref<Node>(node));
}

void OverlayFs::unpin(Node& node) {
  if (!node.lower_) return;
  RefOrNull<Node> gone;  // let go outside the lock
  MutexLock l(mu_);
  auto it = pinned_.find(node.lower_key_);
  if (it == pinned_.end()) return;
  gone = std::move(it->second);
  pinned_.erase(it);
}

void OverlayFs::forget(Node& node) {
  MutexLock l(mu_);
  auto it = live_.find(node.lower_key_);
  if (it != live_.end() && it->second == &node) live_.erase(it);
}

Result<Ref<vfs::FileSystem>> create(Options options) {
  auto fs = make_ref<OverlayFs>(std::move(options));
  TRY(fs->make_root());
  return Ref<vfs::FileSystem>(fs);
}

}  // namespace sentry::fs::overlay
