// SPDX-License-Identifier: Apache-2.0
// Path resolution. Linux: fs/namei.c link_path_walk and friends; man 7 path_resolution. A symlink's target is put in front of
// what is left to walk, so there is no recursion.
#include "sentry/vfs/walk.h"

#include <limits.h>
#include <sys/mount.h>
#include <unistd.h>

#include "sentry/vfs/walker.h"

namespace sentry::vfs {
namespace {
constexpr int kMaxLinks = 40;
constexpr uint64_t kMountNoSymfollow = 256;  // MS_NOSYMFOLLOW
}  // namespace

Result<void> Walker::begin_at_root() {
  if (flags_ & kBeneath) return kEXDEV;
  if ((flags_ & kNoXdev) && cur_.mount.get() != root_.mount.get()) return kEXDEV;
  cur_ = root_;
  return {};
}

Result<void> Walker::start(std::string_view path) {
  if (path.size() >= PATH_MAX) return kENAMETOOLONG;
  root_ = scoped() ? c_.start : c_.root;
  cur_ = c_.start;
  text_ = path;
  pos_ = 0;
  if (path.empty()) return kENOENT;
  if (path[0] == '/') TRY(begin_at_root());
  return parents();
}

// From pos_ to the last component.
Result<void> Walker::parents() {
  jumped_ = false;
  for (;;) {
    while (pos_ < text_.size() && text_[pos_] == '/') pos_++;
    if (pos_ == text_.size()) {  // nothing but slashes
      last_ = LastKind::root;
      name_.clear();
      slash_ = true;
      return {};
    }
    RefOrNull<Inode> dir = cur_.inode();
    if (!dir) return kENOENT;
    if (!dir->is_directory()) return kENOTDIR;
    TRY(dir->check_access(*c_.cred, X_OK));
    size_t end = text_.find('/', pos_);
    if (end == std::string::npos) end = text_.size();
    std::string_view component(text_.data() + pos_, end - pos_);
    if (component.size() > NAME_MAX) return kENAMETOOLONG;
    size_t next = end;
    while (next < text_.size() && text_[next] == '/') next++;
    if (next == text_.size()) {
      slash_ = end < text_.size();
      last_ = component == "." ? LastKind::dot : component == ".." ? LastKind::dotdot : LastKind::normal;
      name_.clear();
      if (last_ == LastKind::normal) name_ = component;
      pos_ = next;
      return {};
    }
    pos_ = next;
    if (component == ".") continue;
    if (component == "..") TRY(up());
    else TRY(step(component, true));
  }
}

Result<void> Walker::up() {
  for (;;) {
    if (cur_ == root_) {
      if (flags_ & kBeneath) return kEXDEV;
      break;
    }
    if (!cur_.mount || cur_.dentry.get() != cur_.mount->root().get()) {
      RefOrNull<Dentry> parent = cur_.dentry->parent();
      if (!parent) break;
      cur_.dentry = std::move(parent);
      break;
    }
    Path at = c_.mounts.mountpoint_of(*cur_.mount);
    if (!at) break;
    if (flags_ & kNoXdev) return kEXDEV;
    cur_ = std::move(at);
  }
  TRY(cross_mounts());
  // What was moved on the way may have taken the directory outside. Linux: handle_dots().
  if (scoped() && !places_.none_since()) return kEAGAIN;
  return {};
}

Result<void> Walker::cross_mounts() {
  while (cur_.dentry->mounted_here.load(std::memory_order_relaxed) > 0) {
    RefOrNull<Mount> m = c_.mounts.mounted_on(cur_);
    if (!m) break;
    if (flags_ & kNoXdev) return kEXDEV;
    cur_.dentry = m->root();
    cur_.mount = std::move(m);
  }
  return {};
}

Result<void> Walker::enter(Ref<Dentry> d) {
  cur_.dentry = std::move(d);
  return cross_mounts();
}

// A name in cur_. Preconditions: cur_ is a directory that may be searched.
Result<void> Walker::step(std::string_view name, bool follow) {
  Ref<Dentry> child = TRY(cur_.dentry->lookup(name));
  RefOrNull<Inode> inode = child->inode();
  if (!inode) return kENOENT;
  if (!inode->is_symlink() || !follow) return enter(std::move(child));
  bool jumped = TRY(read_link(*inode, std::string_view(text_).substr(pos_)));
  (void)jumped;
  return {};
}

// Puts the link's target before `rest`; true when it was a jump.
Result<bool> Walker::read_link(Inode& link, std::string_view rest) {
  if (++links_ > kMaxLinks) return kELOOP;
  if ((flags_ & kNoSymlinks) || (cur_.mount && (cur_.mount->flags() & kMountNoSymfollow))) return kELOOP;
  Result<Path> to = link.jump();
  if (to.ok()) {
    if (flags_ & kNoMagicLinks) return kELOOP;
    if (scoped()) return kEXDEV;
    if ((flags_ & kNoXdev) && to->mount.get() != cur_.mount.get()) return kEXDEV;
    cur_ = std::move(to).value();
    text_ = std::string(rest);
    pos_ = 0;
    return true;
  }
  if (!(to.error() == kENOENT)) return to.error();
  std::string target = TRY(link.read_link());
  if (target.empty()) return kENOENT;
  if (target.size() >= PATH_MAX) return kENAMETOOLONG;
  bool absolute = target[0] == '/';
  if (!rest.empty()) {
    target += '/';
    target += rest;
  }
  text_ = std::move(target);
  pos_ = 0;
  if (absolute) TRY(begin_at_root());
  return false;
}

Result<bool> Walker::follow_last(const Ref<Dentry>& link) {
  RefOrNull<Inode> inode = link->inode();
  if (!inode) return kENOENT;
  bool slash = slash_;
  if (TRY(read_link(*inode, slash ? "/" : ""))) return true;
  TRY(parents());
  return false;
}

Result<void> Walker::finish(bool follow) {
  for (;;) {
    switch (last_) {
      case LastKind::root: return {};
      case LastKind::dot: return {};
      case LastKind::dotdot: return up();
      case LastKind::normal: break;
    }
    Ref<Dentry> child = TRY(cur_.dentry->lookup(name_));
    RefOrNull<Inode> inode = child->inode();
    if (!inode) return kENOENT;
    if (!inode->is_symlink() || !(follow || slash_)) return enter(std::move(child));
    if (TRY(follow_last(child))) return {};
  }
}

Result<Path> walk(const WalkContext& c, std::string_view path, unsigned flags) {
  if (path.empty() && (flags & kAllowEmpty)) return c.start;
  Walker w(c, flags);
  TRY(w.start(path));
  TRY(w.finish(flags & kFollow));
  if ((flags & kDirectory) || w.trailing_slash()) {
    RefOrNull<Inode> inode = w.where().inode();
    if (!inode || !inode->is_directory()) return kENOTDIR;
  }
  return w.take();
}

Result<ParentWalk> walk_parent(const WalkContext& c, std::string_view path, unsigned flags) {
  Walker w(c, flags);
  TRY(w.start(path));
  ParentWalk p;
  p.name = w.name();
  p.last_kind = w.last_kind();
  p.trailing_slash = w.trailing_slash();
  p.parent = w.take();
  return p;
}

}  // namespace sentry::vfs
