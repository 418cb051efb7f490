// SPDX-License-Identifier: Apache-2.0
// Making, linking, removing and renaming. Changes come with the directory's lock held (vfs/inode.h).
#include <linux/fs.h>

#include "sentry/fs/gofer/host_inode.h"

namespace sentry::fs::gofer {

namespace {
// Somebody else was faster on a shared attach point.
Errno of_name(Errno e) { return e == kESTALE ? kENOENT : e; }
}  // namespace

// What the gofer has just made under `name`.
Result<Ref<vfs::Inode>> Directory::made(const Ref<Node>& dir, std::string_view name, const wire::NodeReply& r) {
  auto own = TRY(gofer().node_of(r.node));
  name_changed(name);
  auto inode = TRY(gofer().inode_for(r.attr, Place{dir, std::string(name), own}));
  return Ref<vfs::Inode>(inode);
}

Result<Ref<vfs::Inode>> Directory::create(std::string_view name, const vfs::CreateRequest& r) {
  if (gofer().read_only()) return kEROFS;
  return with_node([&](const Ref<Node>& dir) -> Result<Ref<vfs::Inode>> {
    if (!S_ISREG(r.mode)) {
      wire::MknodRequest q{dir->id(), std::string(name), r.mode & (S_IFMT | 07777), r.uid, r.gid, r.rdev};
      return made(dir, name, TRY(client().call(q)));
    }
    wire::CreateRequest q{dir->id(), std::string(name), wire::kWrite, r.mode & 07777, r.uid, r.gid};
    ReplyFds fds;
    auto reply = TRY(client().call(q, &fds));
    if (!S_ISREG(reply.attr.mode)) return client().bad_reply();
    auto inode = TRY(made(dir, name, wire::NodeReply{reply.node, reply.attr}));
    auto& file = static_cast<Regular&>(*inode);
    file.opened();
    auto adopted = file.adopt(reply.attr, reply.has_read, reply.has_write, std::move(fds));
    // On a shared attach point too they stay for the open(2) that made it.
    file.closed_after_create();
    TRY(std::move(adopted));
    return inode;
  });
}

Result<Ref<vfs::Inode>> Directory::create_unnamed(const vfs::CreateRequest& r) {
  if (gofer().read_only()) return kEROFS;
  return with_node([&](const Ref<Node>& dir) -> Result<Ref<vfs::Inode>> {
    wire::CreateRequest q{dir->id(), {}, wire::kWrite, r.mode & 07777, r.uid, r.gid};
    ReplyFds fds;
    auto reply = TRY(client().call(q, &fds));
    if (!S_ISREG(reply.attr.mode)) return client().bad_reply();
    auto own = TRY(gofer().node_of(reply.node));
    auto inode = TRY(gofer().inode_for(reply.attr, Place{nullptr, {}, own}));
    auto& file = static_cast<Regular&>(*inode);
    file.has_no_name(own);
    file.opened();
    auto adopted = file.adopt(reply.attr, reply.has_read, reply.has_write, std::move(fds));
    file.closed_after_create();
    TRY(std::move(adopted));
    return Ref<vfs::Inode>(inode);
  });
}

Result<Ref<vfs::Inode>> Directory::mkdir(std::string_view name, const vfs::CreateRequest& r) {
  if (gofer().read_only()) return kEROFS;
  return with_node([&](const Ref<Node>& dir) -> Result<Ref<vfs::Inode>> {
    wire::MkdirRequest q{dir->id(), std::string(name), r.mode & 07777, r.uid, r.gid};
    return made(dir, name, TRY(client().call(q)));
  });
}

Result<Ref<vfs::Inode>> Directory::symlink(std::string_view name, std::string_view target, const vfs::CreateRequest& r) {
  if (gofer().read_only()) return kEROFS;
  if (target.size() > wire::kMaxTarget) return kENAMETOOLONG;
  return with_node([&](const Ref<Node>& dir) -> Result<Ref<vfs::Inode>> {
    wire::SymlinkRequest q{dir->id(), std::string(name), std::string(target), r.uid, r.gid};
    return made(dir, name, TRY(client().call(q)));
  });
}

Result<void> Directory::link(std::string_view name, vfs::Inode& existing) {
  if (gofer().read_only()) return kEROFS;
  auto& inode = static_cast<HostInode&>(existing);
  return with_node([&](const Ref<Node>& dir) -> Result<void> {
    Place from = TRY(inode.find_place());
    wire::LinkRequest q;
    q.from = from.own ? wire::At{from.own->id(), {}} : wire::At{from.dir->id(), from.name};
    q.dir = dir->id();
    q.name = name;
    uint64_t e = inode.epoch();
    auto r = TRY(client().call(q));
    auto own = TRY(gofer().node_of(r.node));
    name_changed(name);
    gofer().modified();
    TRY(inode.learn(r.attr, e));
    inode.found_at(Place{dir, std::string(name), own});
    return {};
  });
}

// The place of `inode` in dir. With a node of its own if it is to outlive this name.
Result<HostInode::Known> Directory::leaving(const Ref<Node>& dir, std::string_view name, HostInode& inode, bool* keep) {
  auto known = inode.place_in(*dir, name);
  *keep = inode.in_use() && (known.last || !known.place);
  if (!*keep) return known;
  inode.before_last_name_goes();
  known = inode.place_in(*dir, name);  // that may have given it a node
  if (known.place && known.place->own) return known;
  wire::WalkRequest q;
  q.dir = dir->id();
  q.names = {std::string(name)};
  auto r = TRY(client().call(q));
  if (r.found.size() > 1) return client().bad_reply();
  if (r.found.empty()) return kENOENT;
  known.place = Place{dir, std::string(name), TRY(gofer().node_of(r.found[0].node))};
  inode.found_at(*known.place);
  return known;
}

Result<void> Directory::remove(std::string_view name, HostInode& victim, bool directory) {
  if (gofer().read_only()) return kEROFS;
  return with_node([&](const Ref<Node>& dir) -> Result<void> {
    wire::UnlinkRequest q;
    auto known = TRY(leaving(dir, name, victim, &q.keep));
    bool by_node = known.place && known.place->own;
    q.at = by_node ? wire::At{known.place->own->id(), {}} : wire::At{dir->id(), std::string(name)};
    q.directory = directory;
    auto r = client().call(q);
    if (!r.ok()) return of_name(r.error());
    victim.name_removed(*dir, name, q.keep ? known.place->own : nullptr);
    if (victim.is_directory()) client().listings.release(static_cast<Directory&>(victim).kept_listing_);
    name_changed(name);
    return {};
  });
}

Result<void> Directory::unlink(std::string_view name, vfs::Inode& victim) {
  return remove(name, static_cast<HostInode&>(victim), false);
}
Result<void> Directory::rmdir(std::string_view name, vfs::Inode& victim) {
  return remove(name, static_cast<HostInode&>(victim), true);
}

Result<void> Directory::rename(std::string_view name, vfs::Inode& moved, vfs::Inode& new_dir, std::string_view new_name,
                               vfs::Inode* replaced, unsigned flags) {
  if (gofer().read_only()) return kEROFS;
  auto& source = static_cast<HostInode&>(moved);
  auto& to = static_cast<Directory&>(new_dir);
  auto* target = static_cast<HostInode*>(replaced);
  bool exchange = flags & RENAME_EXCHANGE;
  auto to_node = TRY(to.node());
  return with_node([&](const Ref<Node>& dir) -> Result<void> {
    auto from = source.place_in(*dir, name).place;
    wire::RenameRequest q;
    q.from = from && from->own ? wire::At{from->own->id(), {}} : wire::At{dir->id(), std::string(name)};
    q.to_dir = to_node->id();
    q.to_name = new_name;
    q.flags = flags;
    HostInode::Known other;
    if (target) {
      if (exchange) other = target->place_in(*to_node, new_name);
      else other = TRY(to.leaving(to_node, new_name, *target, &q.keep_target));
      if (other.place && other.place->own) q.target = other.place->own->id();
    }
    auto r = client().call(q);
    if (!r.ok()) return of_name(r.error());
    if (target && exchange)
      target->renamed(*to_node, new_name, Place{dir, std::string(name), q.target ? other.place->own : nullptr});
    else if (target)
      target->name_removed(*to_node, new_name, q.keep_target ? other.place->own : nullptr);
    source.renamed(*dir, name, Place{to_node, std::string(new_name), from ? from->own : nullptr});
    name_changed(name);
    to.name_changed(new_name);
    return {};
  });
}

}  // namespace sentry::fs::gofer
