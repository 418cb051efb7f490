// SPDX-License-Identifier: Apache-2.0
// Listing directories.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "gofer/files.h"
#include "gofer/tree.h"

namespace gofer {

using base::Fd;
using base::Result;
using namespace base;  // the errno constants
using wire::NodeId;

namespace {
constexpr size_t kReplyHeaderBytes = 12;
constexpr size_t kListedDirBytes = 8 + wire::kAttrBytes + 8 + 1 + 4;  // without entries
}  // namespace

Result<Files::Stream*> Files::stream(Node& n, uint64_t cookie) {
  NodeId id = NodeTable::id_of(n);
  auto it = std::find_if(streams_.begin(), streams_.end(), [&](const Stream& s) { return s.dir == id; });
  if (it == streams_.end()) {
    Stream s;
    s.dir = id;
    int dir = TRY(dir_fd(n));
    s.fd = TRY(with_room([&] { return tree::open_listing(dir); }));
    if (streams_.size() >= max_streams_)
      streams_.erase(std::min_element(streams_.begin(), streams_.end(),
                                      [](const Stream& a, const Stream& b) { return a.used < b.used; }));
    streams_.push_back(std::move(s));
    it = streams_.end() - 1;
  } else if (cookie == 0) {
    it->sought = false;  // from the start again: see what is new
  }
  it->used = ++clock_;
  if (!it->sought || it->position != cookie) {
    it->sought = false;
    TRY(tree::seek(it->fd.get(), cookie));
    it->position = cookie;
    it->sought = true;
  }
  return &*it;
}

void Files::close_stream(NodeId dir) {
  std::erase_if(streams_, [&](const Stream& s) { return s.dir == dir; });
}

Result<void> Files::read_entries(Node& n, bool want_attr, size_t& room, wire::ReadDirReply& reply) {
  int dir = TRY(dir_fd(n));
  Stream* s = TRY(stream(n, reply.cookie));
  const size_t fixed = 4 + 8 + 8 + 1 + 1 + (want_attr ? wire::kAttrBytes : 0);
  alignas(8) std::byte buf[16 * 1024];
  for (bool full = false; !full;) {
    // About as many records as will fit: 24 bytes and the name each, against `fixed` and the name.
    size_t ask = std::clamp<size_t>(want_attr ? room / 3 : room, 512, sizeof buf);
    size_t got = TRY(tree::list(s->fd.get(), {buf, ask}));
    if (got == 0) {
      reply.end = true;
      break;
    }
    for (size_t at = 0; at < got;) {
      uint16_t length;
      wire::Dirent e;
      memcpy(&e.ino, buf + at, 8);
      memcpy(&e.cookie, buf + at + 8, 8);
      memcpy(&length, buf + at + 16, 2);
      memcpy(&e.type, buf + at + 18, 1);
      CHECK(length > 19 && length <= got - at);
      const char* name = reinterpret_cast<const char*>(buf + at + 19);
      e.name.assign(name, strnlen(name, length - 19u));
      at += length;
      if (!wire::valid_name(e.name)) {  // "." and "..", and what a broken file system makes up
        s->position = reply.cookie = e.cookie;
        continue;
      }
      if (fixed + e.name.size() > room) {
        full = true;
        s->sought = false;
        break;
      }
      if (want_attr) {
        auto attr = tree::attr_with_xattrs(dir, TRY(Name::check(e.name)));
        if (attr.ok()) {
          e.has_attr = true;
          e.attr = *attr;
        }
      }
      room -= fixed + e.name.size();
      s->position = reply.cookie = e.cookie;
      reply.entries.push_back(std::move(e));
    }
    if (room < fixed + wire::kMaxName) full = true;
  }
  if (reply.end) close_stream(NodeTable::id_of(n));
  return {};
}

Files::Reply<wire::ReadDirRequest> Files::handle(const wire::ReadDirRequest& q, Donated&) {
  if (q.max_bytes < wire::kMinReadDir) return kEINVAL;
  Node* n = TRY(nodes_.find(q.dir));
  wire::ReadDirReply reply;
  reply.cookie = q.cookie;
  size_t room = std::min<size_t>(q.max_bytes, wire::kMaxRecord) - kReplyHeaderBytes - 4 - 9;
  TRY(read_entries(*n, q.want_attr, room, reply));
  return reply;
}

Files::Reply<wire::ReadDirsRequest> Files::handle(const wire::ReadDirsRequest& q, Donated&) {
  if (q.names.empty() || q.names.size() > wire::kMaxWalk) return kEINVAL;
  for (const std::string& s : q.names) TRY(Name::check(s));
  Node* parent = TRY(nodes_.find(q.dir));
  wire::ReadDirsReply reply;
  size_t room = wire::kMaxRecord - kReplyHeaderBytes - 4;
  // Whether so large a directory would fit is not worth finding out: most file systems spend less on an entry than we do.
  auto too_large = [&](const wire::Attr& a) { return a.size > 4096 && a.size > room / 4; };
  auto one = [&](const std::string& text, wire::ListedDir& out) -> Result<void> {
    int dir = TRY(dir_fd(*parent));
    Name name = TRY(Name::check(text));
    Fd fd = TRY(with_room([&] { return tree::open_directory(dir, name); }));
    out.attr = TRY(tree::attr_of(fd.get()));
    if (!reply.listed.empty() && too_large(out.attr)) return kEFBIG;
    Node* n = TRY(nodes_.add(parent, text, parent->attach, out.attr));
    cache(*n, std::move(fd));
    wire::ReadDirReply some;
    auto read = read_entries(*n, true, room, some);
    if (!read.ok()) {
      nodes_.forget(*n);
      return read.error();
    }
    out.node = NodeTable::id_of(*n);
    out.entries = std::move(some.entries);
    out.cookie = some.cookie;
    out.end = some.end;
    return {};
  };
  for (const std::string& name : q.names) {
    if (room < kListedDirBytes + 512) break;
    room -= kListedDirBytes;
    wire::ListedDir listed;
    auto r = one(name, listed);
    if (!r.ok()) {
      if (reply.listed.empty()) return r.error();
    } else if (!listed.end && !reply.listed.empty()) {
      // Another time, from its beginning.
      close_stream(listed.node);
      nodes_.forget(*TRY(nodes_.find(listed.node)));
      break;
    }
    reply.listed.push_back(std::move(listed));
    if (reply.listed.back().node && !reply.listed.back().end) break;
  }
  return reply;
}

}  // namespace gofer
