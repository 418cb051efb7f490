// SPDX-License-Identifier: Apache-2.0
// Making, linking, removing and renaming; files without a name.
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/log.h"
#include "base/sys.h"
#include "gofer/files.h"
#include "gofer/tree.h"

namespace gofer {

using base::Fd;
using base::Result;
using namespace base;  // the errno constants
using wire::Attr;

Result<Files::Spot> Files::spot(wire::NodeId dir, const std::string& name) {
  Node* n = TRY(nodes_.find(dir));
  if (read_only(*n)) return kEROFS;
  Name checked = TRY(Name::check(name));
  if (nodes_.full()) return kENFILE;  // before anything is made
  return Spot{n, TRY(dir_fd(*n)), checked};
}

Result<wire::NodeReply> Files::added(const Spot& s, const std::string& name, const Attr& attr) {
  Node* n = TRY(nodes_.add(s.dir_node, name, s.dir_node->attach, attr));
  return wire::NodeReply{NodeTable::id_of(*n), attr};
}

Files::Reply<wire::CreateRequest> Files::handle(const wire::CreateRequest& q, Donated& out) {
  if (q.flags & ~(wire::kRead | wire::kWrite | wire::kTruncate | wire::kAppend)) return kEINVAL;
  if (q.uid == UINT32_MAX || q.gid == UINT32_MAX) return kEINVAL;
  if (q.name.empty()) return create_unnamed(q, out);
  Spot s = TRY(spot(q.dir, q.name));
  Fd fd = TRY(with_room([&] { return tree::create_regular(s.dir, s.name, q.mode); }));
  auto finish = [&]() -> Result<wire::OpenReply> {
    Attr attr = TRY(tree::attr_of(fd.get()));
    if (attr.uid != q.uid || attr.gid != q.gid) {
      TRY(tree::change_owner(fd.get(), q.uid, q.gid));
      // A change of owner takes these bits away.
      if (q.mode & (S_ISUID | S_ISGID)) TRY(tree::change_mode(fd.get(), q.mode, -1, nullptr));
    }
    Fd read;
    if (q.flags & wire::kRead)
      read = TRY(with_room([&] { return tree::open_regular(s.dir, s.name, fd.get(), tree::Access::read); }));
    if (q.flags & wire::kAppend)
      fd = TRY(with_room([&] {
        return tree::open_regular(s.dir, s.name, fd.get(), tree::Access::read_write, true);
      }));
    attr = TRY(tree::attr_of(fd.get()));
    wire::NodeReply made = TRY(added(s, q.name, attr));
    wire::OpenReply reply{made.node, attr, read.valid(), (q.flags & wire::kWrite) != 0};
    if (reply.has_read) out.push_back(std::move(read));
    if (reply.has_write) out.push_back(std::move(fd));
    return reply;
  };
  auto r = finish();
  if (!r.ok()) IGNORE_ERROR(tree::unlink(s.dir, s.name, false), "the first error tells more");
  return r;
}

Files::Reply<wire::CreateRequest> Files::create_unnamed(const wire::CreateRequest& q, Donated& out) {
  if (q.flags != wire::kWrite) return kEINVAL;
  Node* parent = TRY(nodes_.find(q.dir));
  if (read_only(*parent)) return kEROFS;
  int dir = TRY(dir_fd(*parent));
  Fd fd = TRY(with_room([&] { return tree::create_unnamed(dir, q.mode); }));
  Attr attr = TRY(tree::attr_of(fd.get()));
  if (attr.uid != q.uid || attr.gid != q.gid) {
    TRY(tree::change_owner(fd.get(), q.uid, q.gid));
    if (q.mode & (S_ISUID | S_ISGID)) TRY(tree::change_mode(fd.get(), q.mode, -1, nullptr));
    attr = TRY(tree::attr_of(fd.get()));
  }
  Fd kept = TRY(base::sys::dup_cloexec(fd.get()));
  Node* n = TRY(nodes_.add(parent, "", parent->attach, attr));
  nodes_.lose(*n);
  auto pinned = nodes_.pin(*n, std::move(kept), true);
  if (!pinned.ok()) {
    nodes_.forget(*n);
    return pinned.error();
  }
  out.push_back(std::move(fd));
  return wire::OpenReply{NodeTable::id_of(*n), attr, false, true};
}

Files::Reply<wire::MkdirRequest> Files::handle(const wire::MkdirRequest& q, Donated&) {
  if (q.uid == UINT32_MAX || q.gid == UINT32_MAX) return kEINVAL;
  Spot s = TRY(spot(q.dir, q.name));
  TRY(tree::make_directory(s.dir, s.name, q.mode));
  auto finish = [&]() -> Result<wire::NodeReply> {
    Fd fd = TRY(with_room([&] { return tree::open_directory(s.dir, s.name); }));
    Attr attr = TRY(tree::attr_of(fd.get()));
    if (attr.uid != q.uid || attr.gid != q.gid) TRY(tree::change_owner(fd.get(), q.uid, q.gid));
    // mkdir(2) never gives these bits, and a change of owner takes them away.
    if (q.mode & (S_ISUID | S_ISGID)) TRY(tree::change_mode(fd.get(), q.mode, s.dir, &s.name));
    wire::NodeReply made = TRY(added(s, q.name, TRY(tree::attr_of(fd.get()))));
    cache(*TRY(nodes_.find(made.node)), std::move(fd));
    return made;
  };
  auto r = finish();
  if (!r.ok()) IGNORE_ERROR(tree::unlink(s.dir, s.name, true), "the first error tells more");
  return r;
}

Files::Reply<wire::SymlinkRequest> Files::handle(const wire::SymlinkRequest& q, Donated&) {
  if (q.uid == UINT32_MAX || q.gid == UINT32_MAX) return kEINVAL;
  if (q.target.empty()) return kENOENT;  // Linux: fs/namei.c getname refuses the empty target
  if (q.target.size() > wire::kMaxTarget) return kENAMETOOLONG;
  if (q.target.find('\0') != std::string::npos) return kEINVAL;
  Spot s = TRY(spot(q.dir, q.name));
  TRY(tree::make_symlink(s.dir, s.name, q.target));
  auto finish = [&]() -> Result<wire::NodeReply> {
    TRY(tree::change_owner_at(s.dir, s.name, q.uid, q.gid));
    return added(s, q.name, TRY(tree::attr_at(s.dir, s.name)));
  };
  auto r = finish();
  if (!r.ok()) IGNORE_ERROR(tree::unlink(s.dir, s.name, false), "the first error tells more");
  return r;
}

Files::Reply<wire::MknodRequest> Files::handle(const wire::MknodRequest& q, Donated&) {
  if (q.uid == UINT32_MAX || q.gid == UINT32_MAX || q.mode & ~uint32_t{S_IFMT | 07777}) return kEINVAL;
  switch (q.mode & S_IFMT) {
    case 0: case S_IFREG: case S_IFIFO: case S_IFSOCK: break;
    case S_IFCHR:
      if (q.rdev != 0) return kEPERM;
      break;
    case S_IFBLK: return kEPERM;
    default: return kEINVAL;
  }
  Spot s = TRY(spot(q.dir, q.name));
  TRY(tree::make_node(s.dir, s.name, q.mode));
  auto finish = [&]() -> Result<wire::NodeReply> {
    Attr attr = TRY(tree::attr_at(s.dir, s.name));
    if (attr.uid != q.uid || attr.gid != q.gid) {
      TRY(tree::change_owner_at(s.dir, s.name, q.uid, q.gid));
      if (q.mode & (S_ISUID | S_ISGID)) {
        Fd fd = TRY(with_room([&] { return tree::open_path(s.dir, s.name); }));
        TRY(tree::change_mode(fd.get(), q.mode, s.dir, &s.name));
      }
      attr = TRY(tree::attr_at(s.dir, s.name));
    }
    return added(s, q.name, attr);
  };
  auto r = finish();
  if (!r.ok()) IGNORE_ERROR(tree::unlink(s.dir, s.name, false), "the first error tells more");
  return r;
}

// The name that a request is about to change, which must still name what its node was.
Result<Files::Place> Files::named(const wire::At& at) {
  Place p = TRY(place(at, Intent::modify));
  if (!p.parent) return kEBUSY;  // an attach point is the root of a mount
  if (p.dir < 0) return kENOENT;
  if (p.node) {
    Attr now = TRY(tree::attr_at(p.dir, p.checked()));
    if (now.ino != p.node->ino || now.dev != p.node->dev) return kESTALE;
  }
  return p;
}

Files::Reply<wire::LinkRequest> Files::handle(const wire::LinkRequest& q, Donated&) {
  Node* source = TRY(nodes_.find(q.from.node));
  Spot s = TRY(spot(q.dir, q.name));
  // Two attach points can be one file system of the host; as mounts of their own they never link to each other.
  if (source->attach != s.dir_node->attach) return kEXDEV;
  if (q.from.name.empty() && source->gone && source->pinned) {
    TRY(tree::link_held(source->fd.get(), s.dir, s.name));
    return added(s, q.name, TRY(tree::attr_at(s.dir, s.name)));
  }
  Place from = TRY(named(q.from));
  TRY(tree::link(from.dir, from.checked(), s.dir, s.name));
  auto attr = tree::attr_at(s.dir, s.name);
  if (attr.ok()) {
    refresh(from.node, *attr);
    return added(s, q.name, *attr);
  }
  return attr.error();
}

Result<void> Files::keep(Node& n) {
  if (n.pinned) return {};
  if (n.is_dir()) return nodes_.pin(n, TRY(base::sys::dup_cloexec(TRY(dir_fd(n)))), false);
  Held h = TRY(hold({NodeTable::id_of(n), {}}, Intent::read));
  if (S_ISREG(h.attr.mode)) {
    // Open for reading where that is possible: some calls want no O_PATH descriptor.
    auto read = with_room([&] { return tree::open_regular(h.place.dir, h.place.checked(), h.fd, tree::Access::read); });
    if (read.ok()) return nodes_.pin(n, std::move(read).value(), true);
  }
  return nodes_.pin(n, std::move(h.own), false);
}

Files::Reply<wire::UnlinkRequest> Files::handle(const wire::UnlinkRequest& q, Donated&) {
  if (q.keep && !q.at.name.empty()) return kEINVAL;
  Place p = TRY(named(q.at));
  if (q.keep) {
    TRY(keep(*p.node));
    p = TRY(place(q.at, Intent::modify));  // keeping may have closed cached descriptors
  }
  auto r = tree::unlink(p.dir, p.checked(), q.directory);
  if (!r.ok()) {
    if (q.keep) nodes_.unpin(*p.node);
    return r.error();
  }
  if (p.node) nodes_.lose(*p.node);
  return wire::Empty{};
}

void Files::relocate(Node& n, Node& parent, const std::string& name) {
  // The host has just done it, so these are no real loop: something above was moved behind our back.
  if (nodes_.is_under(parent, n)) nodes_.lose(n);
  else nodes_.move(n, parent, name);
}

Files::Reply<wire::RenameRequest> Files::handle(const wire::RenameRequest& q, Donated&) {
  // A whiteout is a character device of number 0, which opens nothing and may be made by anybody (Linux 5.8).
  if (q.flags & ~uint32_t{RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT}) return kEINVAL;
  bool exchange = q.flags & RENAME_EXCHANGE;
  if (exchange && q.flags != RENAME_EXCHANGE) return kEINVAL;
  Node* to = TRY(nodes_.find(q.to_dir));
  if (read_only(*to)) return kEROFS;
  Name to_name = TRY(Name::check(q.to_name));
  Node* source = TRY(nodes_.find(q.from.node));
  if (source->attach != to->attach) return kEXDEV;
  Node* target = q.target ? TRY(nodes_.find(q.target)) : nullptr;
  if (target && (target->parent != to->index || target->name != q.to_name || target->gone)) return kEINVAL;
  if (q.keep_target && (!target || exchange)) return kEINVAL;
  Place from = TRY(named(q.from));
  Attr moved = TRY(tree::attr_at(from.dir, from.checked()));
  bool kept = q.keep_target && !target->pinned;
  if (q.keep_target) {
    TRY(keep(*target));
    from = TRY(place(q.from, Intent::modify));
  }
  auto rename = [&]() -> Result<void> {
    return tree::rename(from.dir, from.checked(), TRY(dir_fd(*to)), to_name, q.flags);
  };
  auto r = rename();
  if (!r.ok()) {
    if (kept) nodes_.unpin(*target);
    return r.error();
  }
  // Linux: fs/namei.c vfs_rename does nothing when both names are of one file.
  if (target && !exchange && target->ino == moved.ino && target->dev == moved.dev) {
    if (kept) nodes_.unpin(*target);
    return wire::Empty{};
  }
  Node* from_parent = from.parent;
  // What is replaced leaves first; what is exchanged follows, as its new place may be below the other's.
  if (target && !exchange) nodes_.lose(*target);
  if (from.node) relocate(*from.node, *to, q.to_name);
  if (target && exchange) relocate(*target, *from_parent, from.name);
  return wire::Empty{};
}

Files::Reply<wire::CreateBackingRequest> Files::handle(const wire::CreateBackingRequest& q, Donated& out) {
  if (q.store != wire::Store::disk && q.store != wire::Store::memory) return kEINVAL;
  Store& store = q.store == wire::Store::disk ? disk_ : memory_;
  if (!store.dir.valid()) return kENODEV;
  for (int tries = 0; tries < 16; tries++) {
    std::string text = base::format("{:x}", store.next++);
    Name name = TRY(Name::check(text));
    auto made = with_room([&] { return tree::create_regular(store.dir.get(), name, 0600); });
    if (!made.ok() && made.error() == kEEXIST) continue;  // left behind by a crash
    Fd write = TRY(std::move(made));
    auto read = with_room([&] { return tree::open_regular(store.dir.get(), name, write.get(), tree::Access::read); });
    auto gone = tree::unlink(store.dir.get(), name, false);
    out.push_back(TRY(std::move(read)));
    out.push_back(std::move(write));
    if (!gone.ok()) {
      out.clear();
      return gone.error();
    }
    return wire::Empty{};
  }
  return kEEXIST;
}

}  // namespace gofer
