// SPDX-License-Identifier: Apache-2.0
// Finding things: ids to places, walks, attributes, listings, opening.
#include "gofer/files.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/log.h"
#include "gofer/tree.h"

namespace gofer {

using base::Errno;
using base::Fd;
using base::Result;
using namespace base;  // the errno constants
using wire::Attr;
using wire::NodeId;

namespace {
constexpr uint32_t kAllOpenFlags = wire::kRead | wire::kWrite | wire::kTruncate | wire::kAppend;
bool matches(const Node& n, const Attr& a) {
  return n.ino == a.ino && n.dev == a.dev && n.type == (a.mode & S_IFMT);
}
}  // namespace

Files::Files(Fd root, Limits limits)
    : root_(std::move(root)), nodes_(limits.nodes, limits.dir_fds), max_streams_(std::max<size_t>(limits.streams, 1)) {}
Files::~Files() = default;

Result<std::unique_ptr<Files>> Files::create(Fd root, std::span<const AttachPoint> points, Limits limits) {
  TRY(tree::probe_host());
  std::unique_ptr<Files> f(new Files(std::move(root), limits));
  for (const AttachPoint& p : points) {
    if (p.index >= UINT16_MAX) return kEINVAL;
    if (p.index >= f->attached_.size()) f->attached_.resize(p.index + 1);
    if (f->attached_[p.index].node) return kEEXIST;
    std::string name = base::format("{}", p.index);
    Fd fd = TRY(tree::open_path(f->root_.get(), TRY(Name::check(name))));
    Attr attr = TRY(tree::attr_of(fd.get()));
    if (S_ISLNK(attr.mode)) return kELOOP;
    if (!S_ISDIR(attr.mode) && !S_ISREG(attr.mode)) return kENXIO;
    Node* n = TRY(f->nodes_.add(nullptr, name, static_cast<uint16_t>(p.index), attr));
    uint64_t mount = p.slave ? TRY(tree::mount_of(fd.get())) : 0;
    TRY(f->nodes_.pin(*n, std::move(fd), false));
    f->attached_[p.index] = {n, p.read_only, mount};
  }
  for (auto [store, name] : {std::pair{&f->disk_, "store"}, std::pair{&f->memory_, "shm"}}) {
    std::string s = name;
    auto dir = tree::open_directory(f->root_.get(), TRY(Name::check(s)));
    if (dir.ok()) store->dir = std::move(dir).value();
    else if (!(dir.error() == kENOENT)) return dir.error();
  }
  return f;
}

std::vector<uint32_t> Files::points_with_devices() const {
  std::vector<uint32_t> out;
  for (uint32_t i = 0; i < attached_.size(); i++) {
    if (!attached_[i].node) continue;
    auto s = tree::stat_fs(attached_[i].node->fd.get());
    if (!s.ok() || !(s->flags & ST_NODEV)) out.push_back(i);
  }
  return out;
}

Name Files::Place::checked() const {
  auto n = Name::check(name);
  CHECK(n.ok() && dir >= 0);
  return *n;
}

void Files::cache(Node& n, Fd fd) {
  uint64_t top = attached_[n.attach].mount;
  if (top && tree::mount_of(fd.get()).value_or(0) != top) passing_.push_back(NodeTable::id_of(n));
  nodes_.cache_fd(n, std::move(fd));
}

void Files::let_go() {
  if (passing_.empty()) return;
  IGNORE_ERROR(tree::stand_in(root_.get()), "then we stay where we are");  // a look at attributes may have left us there
  for (NodeId id : passing_) {
    nodes_.uncache(id);
    close_stream(id);
  }
  passing_.clear();
}

Result<int> Files::dir_fd(Node& n) {
  if (!n.is_dir()) return kENOTDIR;
  std::vector<Node*> missing;
  Node* at = &n;
  for (; !at->fd.valid(); at = nodes_.parent_of(*at)) {
    if (at->gone) return kESTALE;
    missing.push_back(at);
    CHECK(at->parent != Node::kNone);
  }
  nodes_.touch(*at);
  int from = at->fd.get();
  Fd step;
  for (size_t i = missing.size(); i-- > 0;) {
    Node& next = *missing[i];
    Name name = TRY(Name::check(next.name));
    auto opened = with_room([&] { return tree::open_directory(from, name); });
    if (!opened.ok()) {
      bool moved = opened.error() == kENOENT || opened.error() == kENOTDIR || opened.error() == kELOOP;
      return moved ? kESTALE : opened.error();
    }
    Fd fd = std::move(opened).value();
    if (!matches(next, TRY(tree::attr_of(fd.get())))) return kESTALE;
    from = fd.get();
    if (i == 0 || nodes_.has_room_for_fd()) cache(next, std::move(fd));
    else step = std::move(fd);
  }
  return from;
}

Result<Files::Place> Files::place(const wire::At& at, Intent intent) {
  Node* n = TRY(nodes_.find(at.node));
  Place p;
  p.attach = n->attach;
  if (intent == Intent::modify && read_only(*n)) return kEROFS;
  if (!at.name.empty()) {
    TRY(Name::check(at.name));
    p.parent = n;
    p.dir = TRY(dir_fd(*n));
    p.name = at.name;
    return p;
  }
  p.node = n;
  p.parent = nodes_.parent_of(*n);
  if (n->gone) {
    if (!n->pinned) return kESTALE;
    return p;
  }
  p.name = n->name;
  p.dir = p.parent ? TRY(dir_fd(*p.parent)) : root_.get();
  return p;
}

Result<Files::Held> Files::hold(const wire::At& at, Intent intent) {
  Held h;
  if (at.name.empty()) {  // a directory's own descriptor is better than its name
    Node* n = TRY(nodes_.find(at.node));
    if (intent == Intent::modify && read_only(*n)) return kEROFS;
    if (n->pinned || (n->is_dir() && !n->gone)) {
      h.fd = n->pinned ? n->fd.get() : TRY(dir_fd(*n));
      h.attr = TRY(tree::attr_of(h.fd));
      h.place.node = n;
      h.place.parent = nodes_.parent_of(*n);
      h.place.attach = n->attach;
      if (!n->gone && !h.place.parent) {
        h.place.dir = root_.get();
        h.place.name = n->name;
      }
      return h;
    }
  }
  h.place = TRY(place(at, intent));
  h.own = TRY(with_room([&] { return tree::open_path(h.place.dir, h.place.checked()); }));
  h.fd = h.own.get();
  h.attr = TRY(tree::attr_of(h.fd));
  if (h.place.node && !matches(*h.place.node, h.attr)) return kESTALE;
  return h;
}

void Files::refresh(Node* n, const Attr& attr) {
  // A change can copy a file of a host overlay up, and so give it another number.
  if (!n || n->type != (attr.mode & S_IFMT)) return;
  n->ino = attr.ino;
  n->dev = attr.dev;
}

Files::Reply<wire::HelloRequest> Files::handle(const wire::HelloRequest& q, Donated&) {
  if (q.version != wire::kVersion) return kEPROTO;
  greeted_ = true;
  return wire::HelloReply{wire::kVersion, static_cast<uint32_t>(attached_.size())};
}

Files::Reply<wire::AttachRequest> Files::handle(const wire::AttachRequest& q, Donated&) {
  if (q.index >= attached_.size() || !attached_[q.index].node) return kENOENT;
  const Attached& a = attached_[q.index];
  return wire::AttachReply{NodeTable::id_of(*a.node), TRY(tree::attr_of(a.node->fd.get())), a.read_only};
}

Files::Reply<wire::WalkRequest> Files::handle(const wire::WalkRequest& q, Donated& out) {
  if (q.names.empty() || q.names.size() > wire::kMaxWalk) return kEINVAL;
  for (const std::string& s : q.names) TRY(Name::check(s));
  if (q.open & ~(wire::kRead | wire::kWrite | wire::kAppend)) return kEINVAL;
  Node* parent = TRY(nodes_.find(q.dir));
  int dir = TRY(dir_fd(*parent));
  wire::WalkReply reply;
  auto one = [&](const std::string& s, bool last) -> Result<void> {
    Name name = TRY(Name::check(s));
    Held h;
    if (last && !q.open) {
      h.attr = TRY(tree::attr_with_xattrs(dir, name));
    } else {
      h.own = TRY(with_room([&] { return tree::open_path(dir, name); }));
      h.fd = h.own.get();
      h.attr = TRY(tree::attr_of(h.fd));
    }
    wire::Found found;
    if (S_ISLNK(h.attr.mode)) found.link = TRY(h.own.valid() ? tree::read_link_of(h.fd) : tree::read_link(dir, name));
    Node* n = TRY(nodes_.add(parent, s, parent->attach, h.attr));
    if (last && q.open && S_ISREG(h.attr.mode)) {
      h.place = {n, parent, n->attach, dir, s};
      auto opened = open_held(h, q.open, reply.has_read, reply.has_write, out);
      if (!opened.ok()) reply.open_error = opened.error().value();
      else if (q.open & wire::kWrite) {
        h.attr = tree::attr_of(h.fd).value_or(h.attr);
        refresh(n, h.attr);
      }
    }
    found.node = NodeTable::id_of(*n);
    found.attr = h.attr;
    reply.found.push_back(std::move(found));
    if (n->is_dir() && h.own.valid()) {
      dir = h.own.get();
      cache(*n, std::move(h.own));
    }
    parent = n;
    return {};
  };
  for (size_t i = 0; i < q.names.size(); i++) {
    auto r = one(q.names[i], i + 1 == q.names.size());
    if (!r.ok()) {
      reply.error = r.error().value();
      break;
    }
    if (!parent->is_dir()) break;
  }
  return reply;
}

Files::Reply<wire::GetAttrRequest> Files::handle(const wire::GetAttrRequest& q, Donated&) {
  Node* n = TRY(nodes_.find(q.at.node));
  if (q.at.name.empty() && n->fd.valid()) return wire::AttrReply{TRY(tree::attr_of(n->fd.get()))};
  Place p = TRY(place(q.at, Intent::read));
  Attr attr = TRY(tree::attr_at(p.dir, p.checked()));
  if (p.node && !matches(*p.node, attr)) return kESTALE;
  return wire::AttrReply{attr};
}

Files::Reply<wire::ReadLinkRequest> Files::handle(const wire::ReadLinkRequest& q, Donated&) {
  Held h = TRY(hold(q.at, Intent::read));
  if (!S_ISLNK(h.attr.mode)) return kEINVAL;
  return wire::ReadLinkReply{TRY(tree::read_link_of(h.fd))};
}

Result<void> Files::open_held(const Held& h, uint32_t flags, bool& has_read, bool& has_write, Donated& out) {
  if (h.place.dir < 0) return kESTALE;  // removed: the client has had its descriptors
  if ((flags & wire::kWrite) && attached_[h.place.attach].read_only) return kEROFS;
  Name name = h.place.checked();
  Fd read, write;
  if (flags & wire::kRead)
    read = TRY(with_room([&] { return tree::open_regular(h.place.dir, name, h.fd, tree::Access::read); }));
  if (flags & wire::kWrite)
    write = TRY(with_room([&] {
      return tree::open_regular(h.place.dir, name, h.fd, tree::Access::read_write, flags & wire::kAppend);
    }));
  if (flags & wire::kTruncate) TRY(tree::truncate(write.get(), 0));
  has_read = read.valid();
  has_write = write.valid();
  if (has_read) out.push_back(std::move(read));
  if (has_write) out.push_back(std::move(write));
  return {};
}

Files::Reply<wire::OpenRequest> Files::open_for_reading(const wire::At& at, Donated& out) {
  Place p = TRY(place(at, Intent::read));
  if (p.dir < 0) return kESTALE;  // removed: the client has had its descriptors
  Attr seen = TRY(tree::attr_at(p.dir, p.checked()));
  if (p.node && !matches(*p.node, seen)) return kESTALE;
  auto opened = TRY(with_room([&] { return tree::open_for_reading(p.dir, p.checked(), seen); }));
  if (!p.node) p.node = TRY(nodes_.add(p.parent, p.name, p.attach, opened.attr));
  out.push_back(std::move(opened.fd));
  wire::OpenReply reply;
  reply.node = NodeTable::id_of(*p.node);
  reply.attr = opened.attr;
  reply.has_read = true;
  return reply;
}

Files::Reply<wire::OpenRequest> Files::handle(const wire::OpenRequest& q, Donated& out) {
  if (q.flags & ~kAllOpenFlags || !(q.flags & (wire::kRead | wire::kWrite))) return kEINVAL;
  if (q.flags & (wire::kTruncate | wire::kAppend) && !(q.flags & wire::kWrite)) return kEINVAL;
  if (q.flags == wire::kRead) return open_for_reading(q.at, out);
  Held h = TRY(hold(q.at, (q.flags & wire::kWrite) ? Intent::modify : Intent::read));
  if (S_ISDIR(h.attr.mode)) return kEISDIR;
  Node* n = h.place.node;
  if (!n) n = TRY(nodes_.add(h.place.parent, q.at.name, h.place.attach, h.attr));
  wire::OpenReply reply;
  auto opened = open_held(h, q.flags, reply.has_read, reply.has_write, out);
  auto attr = opened.ok() ? tree::attr_of(h.fd) : Result<Attr>(opened.error());
  if (!attr.ok()) {
    if (!h.place.node) nodes_.forget(*n);
    return attr.error();
  }
  refresh(n, *attr);
  reply.node = NodeTable::id_of(*n);
  reply.attr = *attr;
  return reply;
}

Files::Reply<wire::OpenAheadRequest> Files::handle(const wire::OpenAheadRequest& q, Donated& out) {
  if (q.names.empty() || q.names.size() > wire::kMaxFds) return kEINVAL;
  for (const std::string& s : q.names) TRY(Name::check(s));
  wire::OpenAheadReply reply;
  for (const std::string& name : q.names) {
    const size_t had = out.size();
    wire::OpenedFile f;
    auto one = handle(wire::OpenRequest{{q.dir, name}, wire::kRead}, out);
    if (one.ok()) {
      f.node = one->node;
      f.attr = one->attr;
    } else {
      out.resize(had);
      if (reply.opened.empty()) return one.error();
    }
    reply.opened.push_back(f);
  }
  return reply;
}

Files::Reply<wire::ForgetRequest> Files::handle(const wire::ForgetRequest& q, Donated&) {
  for (NodeId id : q.nodes) {
    auto n = nodes_.find(id);
    if (!n.ok()) continue;
    if ((*n)->is_dir()) close_stream(id);
    nodes_.forget(**n);
  }
  return wire::Empty{};
}

}  // namespace gofer
